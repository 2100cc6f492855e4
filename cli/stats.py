"""`sse-daemon stats`; imported as sse_daemon.cli.stats, never under the bare name."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import click

from sse_daemon.cli.admin_client import Admin, remark
from sse_daemon.cli.faults import say
from sse_daemon.cli.options import admin_option, json_option
from sse_daemon.cli.tables import Column, document, duration, number, plain, size, table

ABOUT = (Column("DAEMON", "name", plain), Column("", "value", plain, wraps=True))
VALUES = (Column("METRIC", "name", plain), Column("VALUE", "value", plain, right=True))


@click.command(short_help="Show counters and gauges, the same as the metrics.")
@json_option
@admin_option
def command(admin: Admin, as_json: bool) -> None:
    """Show counters and gauges, the same as the metrics.

    The metrics are at /metrics on the admin socket, as Prometheus text, with the prefix sse_daemon_ before each name.
    """
    answer = admin.get("/stats")
    if as_json:
        document(answer)
        return
    remark(answer, answer["about"]["auth"])
    about = {**answer["about"], "ready": "yes" if answer["not_ready"] is None else f"no: {answer['not_ready']}"}
    table(ABOUT, [{"name": name, "value": value} for name, value in about.items()], "")
    say("")
    table(VALUES, [{"name": name, "value": value} for name, value in _values(answer["metrics"])], "")


def _values(metrics: Mapping[str, float | Mapping[str, float]]) -> Iterator[tuple[str, str]]:
    """(name, value for people); a metric with a label is a line for each of its values."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from ((f"{name} {label}", _shown(name, each)) for label, each in sorted(value.items()))
        else:
            yield name, _shown(name, value)


def _shown(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return size(value)
    if name == "start_time_seconds":
        return f"{duration(time.time() - value)} ago"
    if name.endswith("_seconds"):
        return f"{value * 1000:,.1f} ms"
    return number(value)
