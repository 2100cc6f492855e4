"""Prints what the daemon answered, for people or for programs; imported as sse_daemon.cli.tables, never under the bare name.

On a terminal a table fits the width: columns that may wrap do, and if that is not enough each row becomes a paragraph. Anywhere
else nothing is wrapped or cut: one line a row, columns aligned. What others wrote is shown with its control characters escaped.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sse_daemon.cli.faults import say

NARROWEST = 12
"""Characters below which a column that wraps is no longer read with pleasure."""
GAP = 2

Row = Mapping[str, Any]


class Column(NamedTuple):
    """One column. of: the key in the row. show: its value as text. right: a number. wraps: may take several lines."""

    title: str
    of: str
    show: Callable[[Any], str]
    right: bool = False
    wraps: bool = False


def on_terminal() -> bool:
    """Whether somebody looks at the output as it is."""
    return sys.stdout is not None and sys.stdout.isatty()  # None: it was closed before we began


def document(value: Any) -> None:
    """One JSON document; indented for those who look at it."""
    say(json.dumps(value, indent=2 if on_terminal() else None))


def table(columns: Sequence[Column], rows: Sequence[Row], empty: str) -> None:
    """The rows, or the sentence `empty`."""
    if not rows:
        say(empty)
        return
    cells = [[column.show(row[column.of]) for column in columns] for row in rows]
    if not on_terminal():
        _aligned(columns, cells)
    elif _least_width(columns, cells) > shutil.get_terminal_size().columns:
        _paragraphs(columns, cells)
    else:
        _fitted(columns, cells)


def _width(column: Column, place: int, cells: Sequence[Sequence[str]]) -> int:
    return max(len(column.title), *(len(row[place]) for row in cells))


def _least_width(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> int:
    widths = [_width(column, place, cells) for place, column in enumerate(columns)]
    least = [min(width, NARROWEST) if column.wraps else width for column, width in zip(columns, widths, strict=True)]
    return sum(least) + GAP * (len(columns) - 1)


def _aligned(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> None:
    widths = [_width(column, place, cells) for place, column in enumerate(columns)]
    for row in ([column.title for column in columns], *cells):
        padded = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        say((" " * GAP).join(padded).rstrip())


def _paragraphs(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> None:
    title = max(len(column.title) for column in columns)
    for number, row in enumerate(cells):
        if number:
            say("")
        for column, cell in zip(columns, row, strict=True):
            say(f"{column.title.ljust(title)}  {cell}")


def _fitted(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> None:
    # Loaded only when there is a terminal to draw on: programs that read our output do not wait for it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.wraps,
            overflow="fold",
            min_width=NARROWEST if column.wraps else None,
        )
    for row in cells:
        drawn.add_row(*map(Text, row))  # as Text: what others wrote is no markup of ours
    width, height = shutil.get_terminal_size()
    console = Console(width=width, height=height, highlight=False)  # a dumb terminal has a width, too
    with console.capture() as captured:
        console.print(drawn)
    say(captured.get().rstrip("\n"))


# How values look ---------------------------------------------------------------------------------------------------------------


def plain(value: Any) -> str:
    """A text of somebody else's, on one line and unable to steer a terminal; nothing is "-"."""
    if value is None or value == "":
        return "-"
    return "".join(character if character.isprintable() else _escape(character) for character in str(value))


def _escape(character: str) -> str:
    return repr(character)[1:-1]


def several(values: str | Sequence[str]) -> str:
    """A list of names; `*` as it is."""
    return plain(values if isinstance(values, str) else ", ".join(values))


def number(value: float) -> str:
    """A count, with its thousands apart."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def duration(seconds: float) -> str:
    """Seconds as people say them: two units at most."""
    for unit, length, below, smaller in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if seconds >= length:
            large, rest = divmod(int(seconds), length)
            return f"{large}{unit} {rest // smaller}{below}" if rest // smaller else f"{large}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def size(count: float) -> str:
    """Bytes as people say them."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:,.1f} GiB"
