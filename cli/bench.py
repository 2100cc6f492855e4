"""`sse-daemon bench`; imported as sse_daemon.cli.bench, never under the bare name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from sse_daemon.cli.admin_client import Admin
from sse_daemon.cli.faults import Failed, note
from sse_daemon.cli.options import DURATION, admin_option, json_option
from sse_daemon.cli.tables import Column, document, plain, table

if TYPE_CHECKING:
    from sse_daemon.bench.result import Result, Skipped
    from sse_daemon.bench.target import Target

COLUMNS = (
    Column("CASE", "case", plain),
    Column("MEASURED", "measured", plain, wraps=True),
    Column("DAEMON", "server", lambda share: "-" if share is None else f"{share:.0%}", right=True),
    Column("GENERATOR", "generator", lambda share: f"{share:.0%}", right=True),
)
CASES = (
    *("to-all", "to-one", "idle", "latency", "opening", "storm"),
    *("stalled", "acked", "participants", "kept", "recipients"),
)
"""The names of sse_daemon.bench.suite, which is too much to load for the help."""

Tell = Callable[[str, float], object]


class Numbers(click.ParamType[list[int], Any]):
    """Whole numbers separated by commas."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        try:
            numbers = [int(number) for number in str(value).split(",")]
        except ValueError:
            numbers = []
        if not numbers or min(numbers) < 1:
            self.fail(f"{value!r} is no list of numbers; such as 100,1000", param, ctx)
        return numbers


@click.command(short_help="Measure the running daemon.")
@click.option("--case", "cases", multiple=True, type=click.Choice(CASES), help="Only this one; repeatable. Default: all.")
@click.option("--n", type=Numbers(), default="100,1000", show_default=True, metavar="N,N", help="Streams.")
@click.option("--w", type=Numbers(), default="1,16,64", show_default=True, metavar="W,W", help="Events on their way.")
@click.option("--seconds", type=DURATION, default="2s", show_default=True, metavar="TIME", help="How long one load lasts.")
@click.option("--events", type=click.IntRange(1), default=1000, show_default=True, metavar="N", help="Of the idle case.")
@click.option(
    "--size", type=click.IntRange(43, 1 << 20), default=100, show_default=True, metavar="BYTES", help="Data of an event."
)
@click.option(
    "--http",
    metavar="HOST:PORT",
    help="The daemon's HTTP address. Without this or --pubsub the admin socket tells what is not given.",
)
@click.option("--pubsub", metavar="ADDRESS", help="Its PUB/SUB address.")
@click.option("--acked", metavar="ADDRESS", help="Its acked address.")
@click.option("--pid", type=click.IntRange(1), metavar="PID", help="Its process, for CPU and memory.")
@click.option("--public", is_flag=True, help='Publish to everybody ("*"), not to a participant that all streams share.')
@json_option
@admin_option
def command(
    admin: Admin,
    cases: Sequence[str],
    n: list[int],
    w: list[int],
    seconds: float,
    events: int,
    size: int,
    http: str | None,
    pubsub: str | None,
    acked: str | None,
    pid: int | None,
    public: bool,
    as_json: bool,
) -> None:
    """Measure the running daemon.

    Opens streams, publishes test events and counts what arrives. It publishes to participants that it makes up (bench-...) and to
    nobody else, unless --public is given; what it publishes does take room in the daemon's log. Everybody else on the daemon waits
    while it is under load. Exit status 1 if deliveries were lost, or a case could not be measured.
    """
    from sse_daemon.bench.session import Session, Sizes
    from sse_daemon.bench.suite import run

    target = _target(admin, http, pubsub, acked, pid, public)
    if "acked" in cases and target.acked is None:
        raise click.UsageError("--case acked needs an acked address: this daemon has none, or --acked has to name it")
    if not as_json:
        note(
            f"publishing to participants {target.prefix}* of {target.host}:{target.port}"
            + (" and to everybody" if public else "")
        )
    session = Session(target=target, sizes=Sizes(n=n, w=w, seconds=seconds, size=size, events=events))
    with progress() as tell:
        results = list(run(session, cases or CASES, tell))
    _show(results, as_json)


def _target(admin: Admin, http: str | None, pubsub: str | None, acked: str | None, pid: int | None, public: bool) -> Target:
    from sse_daemon.bench.daemon import target

    if not (http and pubsub):
        answer = admin.get("/stats")
        about = answer["about"]
        if answer["not_ready"] is not None:
            raise Failed(f"the daemon is not ready: {answer['not_ready']}")
        if about["auth"] != "claim":
            raise Failed(
                f"this daemon believes no participant that is made up ([auth] mode is {about['auth']!r});"
                " measure one that does: sse-daemon serve --dev"
            )
        addresses = about["ingest"].split(",")
        http = http or next((address for address in about["http"].split(",") if not address.startswith("unix:")), None)
        # The PUB/SUB addresses stand before the acked ones.
        pubsub, acked = pubsub or addresses[0], acked or (addresses[-1] if len(addresses) > 1 else None)
        pid = pid or int(about["pid"])
    if http is None:
        raise Failed("this daemon listens on no TCP address, and nothing else can be measured")
    host, _, port = http.rpartition(":")
    if not host or not port.isdigit():
        raise click.UsageError(f"--http: {http!r} is not host:port")
    return target(host=_reachable(host), port=int(port), pubsub=pubsub, acked=acked, pids=(pid,) if pid else (), public=public)


def _reachable(host: str) -> str:
    """An address of this machine for a daemon that listens on all of them."""
    return "127.0.0.1" if host in ("0.0.0.0", "[::]") else host


@contextmanager
def progress() -> Iterator[Tell]:
    """A bar on standard error, where that is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda what, done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, done: bar.update(task, description=what, completed=done)


def _show(results: Sequence[Result | Skipped], as_json: bool) -> None:
    from sse_daemon.bench.result import Result

    measured = [result for result in results if isinstance(result, Result)]
    skipped = [result for result in results if not isinstance(result, Result)]
    if as_json:
        document({"results": [result.document() for result in measured], "skipped": [each.document() for each in skipped]})
    else:
        table(COLUMNS, [_row(result) for result in measured], "Nothing was measured.")
        for result in measured:
            for fault in result.faults:
                note(f"{result.name}: {fault}")
        for each in skipped:
            note(f"{each.case} was not measured: {each.reason}")
    if any(result.lost for result in measured) or skipped:
        raise SystemExit(1)


def _row(result: Result) -> Mapping[str, Any]:
    from sse_daemon.bench.words import figures

    return {"case": result.name, "measured": figures(result.figures), "server": result.server, "generator": result.generator}
