"""`sse-daemon inject`; imported as sse_daemon.cli.inject, never under the bare name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from sse_daemon.cli.admin_client import TIMEOUT, Admin, check_whole, silence
from sse_daemon.cli.event_options import content, event_options, members
from sse_daemon.cli.faults import Failed, note, say
from sse_daemon.cli.options import DURATION, admin_option, json_option, parse_duration
from sse_daemon.cli.tables import Column, document, duration, plain, table

PATIENCE = 5.0
LONGEST = 60.0

STREAMS = (
    Column("STREAM", "id", plain),
    Column("PARTICIPANT", "participant", plain, wraps=True),
    Column("WRITTEN", "written", lambda written: "yes" if written else "no"),
    Column("STATE", "state", plain),
)


class Inject(click.Command):
    """A command whose --wait has a value or not; click alone would take DATA for the value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_seconds(args))


def with_seconds(args: Sequence[str]) -> list[str]:
    """The arguments with every bare --wait given its seconds: the next argument, if it is a duration, else the default."""
    found: list[str] = []
    rest = list(args)
    while rest:
        found.append(rest.pop(0))
        if found[-1] == "--":
            break
        if found[-1] == "--wait" and not (rest and parse_duration(rest[0]) is not None):
            found[-1] = f"--wait={PATIENCE}"
    return found + rest


@click.command(cls=Inject, short_help="Publish a test event by the path that every event takes.")
@click.argument("data", metavar="[DATA or -]", required=False)
@event_options
@click.option("--wait", type=DURATION, metavar="[TIME]", help="Wait, at most so long (5s), for every open stream that reads it.")
@json_option
@admin_option
def command(admin: Admin, data: str | None, wait: float | None, as_json: bool, **event: Any) -> None:
    """Publish a test event by the path that every event takes.

    Prints the event's id. DATA is the event's data; `-` takes it from standard input, as it is. With --wait the command tells
    which streams that were open before it was written to, and fails if one of them does not take it in time.
    """
    if wait is not None and wait > LONGEST:
        raise click.UsageError("--wait is at most a minute")
    body = {"header": members(**event), "data": content(data), "wait": wait}
    answer = admin.post("/inject", body, timeout=TIMEOUT + (wait or 0.0))
    if as_json:
        document(answer)
    elif answer["ok"]:
        say(answer["ids"][0])
    if not answer["ok"]:
        raise Failed(f"refused: {answer['code']}: {answer['detail']}")
    if wait is not None:
        _report(answer, wait, as_json)


def _report(answer: Mapping[str, Any], wait: float, as_json: bool) -> None:
    streams = answer["streams"]
    if not as_json:
        table(STREAMS, streams, "No open stream reads it.")
    late = [stream for stream in streams if not stream["written"]]
    if late:
        if (lacks := silence(answer)) is not None:
            note(lacks)
        raise Failed(f"{len(late)} of {len(streams)} streams had not taken it after {duration(wait)}")
    check_whole(answer)
