"""How a command fails, and how it writes; imported as sse_daemon.cli.faults, never under the bare name."""

from __future__ import annotations

from typing import IO, Any, NoReturn

import click

from sse_daemon.errors import ConfigError


class Failed(click.ClickException):
    """What was asked could not be done: one line on standard error, exit status 1. Wrong usage is a click.UsageError, status 2."""

    def show(self, file: IO[Any] | None = None) -> None:
        note(self.message)


def note(text: str) -> None:
    """A line for people beside the output, on standard error."""
    click.echo(f"sse-daemon: {text}", err=True)


def say(text: str) -> None:
    """A line of the output, flushed. If nobody reads on (`| head`) or the disk is full, the whole command ends: see `Late.main`."""
    click.echo(text)


def refuse(error: ConfigError) -> NoReturn:
    """Every mistake of a configuration on a line of standard error; exit status 2."""
    for mistake in error.mistakes:
        note(mistake)
    raise SystemExit(2)
