"""`sse-daemon kick`; imported as sse_daemon.cli.kick, never under the bare name."""

from __future__ import annotations

from typing import Any

import click

from sse_daemon.cli.admin_client import Admin, check_whole
from sse_daemon.cli.faults import Failed, say
from sse_daemon.cli.options import DURATION, admin_option, json_option
from sse_daemon.cli.tables import document, duration, plain


@click.command(short_help="Close streams, and keep a participant out for a while.")
@click.argument("client", metavar="[CLIENT-ID]", required=False)
@click.option("--participant", metavar="KEY", help="Close all streams of this participant.")
@click.option(
    "--for", "seconds", type=DURATION, metavar="TIME", help="And refuse it (403) for so long, such as 10m; 0 only ends that."
)
@json_option
@admin_option
def command(admin: Admin, client: str | None, participant: str | None, seconds: float | None, as_json: bool) -> None:
    """Close streams, and keep a participant out for a while.

    Without --for an ordinary client comes back within seconds, and misses nothing. `clients --kicked` lists who is refused.
    """
    _check(client, participant, seconds)
    who: dict[str, Any] = {"client": client} if client else {"participant": participant, "for": seconds}
    answer = admin.post("/kick", who)
    if as_json:
        document(answer)
    elif answer["closed"]:
        say(f"closed {', '.join(answer['closed'])}")
    if seconds and not as_json:
        say(f"{plain(participant)} is refused for {duration(seconds)}; --for 0 would end that")
    elif answer["lifted"] and not as_json:
        say(f"{plain(participant)} is not refused any more")
    check_whole(answer)
    if seconds == 0 and not answer["lifted"]:
        raise Failed(f"{plain(participant)} is not refused")
    if seconds is None and not answer["closed"]:
        raise Failed(f"no open stream {'has the id' if client else 'is of'} {plain(client or participant)}")


def _check(client: str | None, participant: str | None, seconds: float | None) -> None:
    if bool(client) == bool(participant):
        raise click.UsageError("name either a CLIENT-ID or a --participant")
    if seconds is not None and not participant:
        raise click.UsageError("--for goes with --participant: a client that comes back has another id")
