"""What describes an event on the command line, for `inject` and `publish`; imported as sse_daemon.cli.event_options, never bare."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, TypeVar

import click

from sse_daemon.cli.faults import Failed
from sse_daemon.cli.options import DURATION

F = TypeVar("F", bound=Callable[..., Any])

EVERYBODY = "*"

_OPTIONS = (
    click.option("--to", multiple=True, metavar="KEY", help="A participant, repeatable; '*' is everybody."),
    click.option("--group", metavar="NAME", help="And everybody in this group."),
    click.option("--type", "type_", metavar="TYPE", help="SSE event name; default: message."),
    click.option("--topic", metavar="TOPIC", help="Such as chat.42."),
    click.option("--attr", "attrs", multiple=True, metavar="NAME=VALUE", help="Repeatable; a name given twice becomes a list."),
    click.option("--retain", is_flag=True, help="Keep it as a snapshot; without DATA the snapshot is cleared."),
    click.option("--ttl", type=DURATION, metavar="TIME", help="Such as 30s: not delivered after it has passed."),
)


def event_options(function: F) -> F:
    """The options of an event; the command gets them as `to`, `group`, `type_`, `topic`, `attrs`, `retain` and `ttl`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def members(
    to: Sequence[str],
    group: str | None,
    type_: str | None,
    topic: str | None,
    attrs: Sequence[str],
    retain: bool,
    ttl: float | None,
) -> dict[str, Any]:
    """The header members that the options stand for, as the envelope and the producers' `publish` name them.

    Raises click.UsageError for what is surely a slip; everything else the daemon judges.
    """
    given = {
        "to": recipients(to, group) or None,
        "group": group,
        "type": type_,
        "topic": topic,
        "attrs": attributes(attrs) or None,
        "retain": retain or None,
        "ttl": ttl,
    }
    return {name: value for name, value in given.items() if value is not None}


def recipients(to: Sequence[str], group: str | None) -> str | list[str]:
    """`*` alone, or the keys."""
    if not to and not group:
        raise click.UsageError("an event for nobody: name participants by --to or --group, or say --to '*' for everybody")
    if EVERYBODY not in to:
        return list(to)
    if len(to) > 1 or group:
        raise click.UsageError("--to '*' is everybody already: it stands alone")
    return EVERYBODY


def attributes(pairs: Sequence[str]) -> Mapping[str, str | list[str]]:
    """name=value, several times, as one object."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise click.UsageError(f"--attr {pair!r} is not NAME=VALUE")
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def content(data: str | None) -> str:
    """DATA as it was given; `-`: all of standard input, unchanged; none: empty."""
    if data is None:
        return ""
    return _text(_input().read(), "standard input") if data == "-" else _text(data.encode(errors="surrogateescape"), "DATA")


def lines() -> Iterator[str]:
    """The lines of standard input as they come, without their ends; empty ones are left out."""
    for number, line in enumerate(_input(), 1):
        if text := _text(line.rstrip(b"\r\n"), f"line {number} of standard input"):
            yield text


def _input() -> BinaryIO:
    if sys.stdin is None:
        raise Failed("standard input is closed")
    return sys.stdin.buffer


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Failed(f"{what} is not UTF-8 at byte {error.start}") from None
