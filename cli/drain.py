"""`sse-daemon drain`; imported as sse_daemon.cli.drain, never under the bare name."""

from __future__ import annotations

import click

from sse_daemon.cli.admin_client import TIMEOUT, Admin, check_whole
from sse_daemon.cli.faults import say
from sse_daemon.cli.options import DURATION, admin_option, json_option
from sse_daemon.cli.tables import document, duration

LONGEST = 86_400.0


@click.command(short_help="Send clients away over a stated time.")
@click.option("--over", type=DURATION, default="10s", show_default=True, metavar="TIME", help="Close the streams evenly over it.")
@json_option
@admin_option
def command(admin: Admin, over: float, as_json: bool) -> None:
    """Send clients away over a stated time.

    Each is told `bye`, and who comes from now on is told so at once. Returns when all have been told. The daemon itself runs on, not
    ready, and takes clients again when it is restarted, and not before; producers notice nothing. Once begun it goes on when this
    command is interrupted.
    """
    if over > LONGEST:
        raise click.UsageError("--over is at most a day")
    answer = admin.post("/drain", {"over": over}, timeout=over + TIMEOUT)
    if as_json:
        document(answer)
    else:
        say(f"streams sent away over {duration(over)}: {answer['closed']}; still open: {answer['open']}")
    check_whole(answer)
