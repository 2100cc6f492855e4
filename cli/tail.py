"""`sse-daemon tail`; imported as sse_daemon.cli.tail, never under the bare name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from sse_daemon.cli.admin_client import Admin
from sse_daemon.cli.faults import Failed, note, say
from sse_daemon.cli.options import admin_option
from sse_daemon.cli.tables import plain, several


@click.command(short_help="Print events as they pass.")
@click.option("--to", metavar="KEY", help="Only those for this participant; '*': only public ones.")
@click.option("--topic", metavar="TOPIC", help="Only those with this topic.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many.")
@click.option("--json", "as_json", is_flag=True, help="For programs: a JSON object a line, with the data in full.")
@admin_option
def command(admin: Admin, to: str | None, topic: str | None, count: int | None, as_json: bool) -> None:
    """Print events as they pass.

    What this daemon takes into its log from now on, whether anybody receives it or not: id, type, topic, recipients, data. It
    ends by Ctrl-C. Where it cannot keep up, the oldest are left out, and it says how many.
    """
    try:
        _print(admin, to, topic, count, as_json)
    except KeyboardInterrupt:
        return
    raise Failed("the daemon ended")


def _print(admin: Admin, to: str | None, topic: str | None, count: int | None, as_json: bool) -> None:
    printed = 0
    for event in admin.lines("/tail", {"to": to, "topic": topic}):
        if "dropped" in event:
            note(f"{event['dropped']} events were left out: this is too slow for what passes")
            continue
        say(json.dumps(event) if as_json else line(event))
        printed += 1
        if printed == count:
            click.get_current_context().exit(0)


def line(event: Mapping[str, Any]) -> str:
    """An event on one line, for people."""
    return "  ".join((event["id"], plain(event["type"]), plain(event["topic"]), several(event["to"]), plain(event["data"])))
