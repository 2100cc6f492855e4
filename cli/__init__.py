"""The command line, `sse-daemon`; imported as sse_daemon.cli, never under the bare name.

A file for each command, imported when the command is used: help, completion and the small commands stay quick, and `publish`
does not load a web server.
"""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

import click
from click.shell_completion import CompletionItem

import sse_daemon

COMMANDS: Mapping[str, str] = {
    "serve": "Run the daemon.",
    "check-config": "Show every mistake in a configuration.",
    "clients": "List open streams, or recently closed ones.",
    "producers": "List who publishes, how much, and what is missing of it.",
    "groups": "List groups and declared topics.",
    "retained": "List retained snapshots.",
    "stats": "Show counters and gauges, the same as the metrics.",
    "inject": "Publish a test event by the path that every event takes.",
    "tail": "Print events as they pass.",
    "kick": "Close streams, and keep a participant out for a while.",
    "drain": "Send clients away over a stated time.",
    "bench": "Measure the running daemon.",
    "keygen": "Make a participant's key, or a producer's.",
    "publish": "Publish as an ordinary producer.",
    "subscribe": "Receive as an ordinary client.",
}
"""Every command and what it does in one line, in the order of the help; the command's own help begins with the same line."""


def core() -> str:
    """Whether what every event passes through was compiled; see SSE_DAEMON_COMPILE in docs/deployment.md."""
    found = find_spec("sse_daemon.window")
    return "compiled core" if found and found.origin and not found.origin.endswith(".py") else "pure Python"


class Late(click.Group):
    """A group whose commands are modules of this package: `check-config` is the function `command` in check_config.py."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            # The output's file; a reader that is gone is click's own affair. Any other fault of this kind would be ours.
            if error.errno not in (errno.ENOSPC, errno.EIO):
                raise
            click.echo(f"sse-daemon: cannot write: {error.strerror}", err=True)
            raise SystemExit(1) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return cast(click.Command, import_module(f"sse_daemon.cli.{cmd_name.replace('-', '_')}").command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Click's own would import every command for its line.
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name, help=line) for name, line in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


@click.group(cls=Late, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(sse_daemon.__version__, prog_name="sse-daemon", message=f"%(prog)s %(version)s ({core()})")
def main() -> None:
    """From producers on ZeroMQ to each participant's open page, over Server-Sent Events.

    `serve` runs the daemon; `publish` and `subscribe` are an ordinary producer and client of it; all other commands talk to the
    daemon of this machine over its admin socket.

    Exit status: 0, or 1 if it failed, or 2 if it was called or configured wrongly.
    """
    # What others wrote may not fit the terminal's encoding; that is no reason to fail.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
