"""Tables on terminals wide and narrow, and elsewhere; values for people."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios

import pytest

from sse_daemon.cli.tables import Column, duration, number, plain, several, size, table
from tests.integration.daemon import environ

ROWS = [
    {"id": "c-1", "who": "alice" * 12, "count": 12},
    {"id": "client-22", "who": "[bold]bob[/]", "count": 3456},
]
COLUMNS = (Column("ID", "id", plain), Column("WHO", "who", plain, wraps=True), Column("COUNT", "count", number, right=True))


def test_elsewhere_than_on_a_terminal_a_row_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    table(COLUMNS, ROWS, "none")
    assert capsys.readouterr().out.splitlines() == [
        "ID         WHO                                                           COUNT",
        f"c-1        {'alice' * 12}     12",
        "client-22  [bold]bob[/]                                                  3,456",
    ]


def test_an_empty_listing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    table(COLUMNS, [], "Nobody is here.")
    assert capsys.readouterr().out == "Nobody is here.\n"


SCRIPT = "from tests.unit.cli.test_tables import *; table(COLUMNS, ROWS, '')"


def on_terminal(width: int) -> list[str]:
    """The table's lines on a terminal of this width."""
    ours, theirs = os.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        wanted = {name: value for name, value in environ({"TERM": "dumb"}).items() if name not in ("COLUMNS", "LINES")}
        subprocess.run([sys.executable, "-c", SCRIPT], env=wanted, stdin=theirs, stdout=theirs, check=True)
        os.close(theirs)
        return read_all(ours).decode().replace("\r\n", "\n").splitlines()
    finally:
        os.close(ours)


def read_all(descriptor: int) -> bytes:
    found = b""
    while True:
        try:
            found += os.read(descriptor, 65536)
        except OSError:  # how Linux tells that the terminal's other end is closed
            return found


def test_a_wide_terminal_has_room_for_all() -> None:
    lines = on_terminal(120)
    assert [line.split() for line in lines] == [
        ["ID", "WHO", "COUNT"],
        ["c-1", "alice" * 12, "12"],
        ["client-22", "[bold]bob[/]", "3,456"],
    ]


def test_on_a_terminal_columns_wrap_and_nothing_is_lost() -> None:
    lines = on_terminal(50)
    assert max(map(len, lines)) <= 50
    assert lines[0].split() == ["ID", "WHO", "COUNT"]
    assert "".join(line[11:].partition(" ")[0] for line in lines[1:-1]) == "alice" * 12
    assert lines[-1].split() == ["client-22", "[bold]bob[/]", "3,456"]


def test_on_a_narrow_terminal_a_row_is_a_paragraph() -> None:
    lines = on_terminal(25)
    assert lines == [
        "ID     c-1",
        f"WHO    {'alice' * 12}",
        "COUNT  12",
        "",
        "ID     client-22",
        "WHO    [bold]bob[/]",
        "COUNT  3,456",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain text", "plain text"),
        ("\x1b[31mred\x9b", r"\x1b[31mred\x9b"),
        ("two\nlines\t", r"two\nlines\t"),
        ("grüße 漢", "grüße 漢"),
        ("\u202e\u2028\ud800", r"\u202e\u2028\ud800"),
        ("", "-"),
        (None, "-"),
    ],
)
def test_texts_of_others_cannot_steer_a_terminal(value: str | None, shown: str) -> None:
    assert plain(value) == shown


def test_lists() -> None:
    assert several(["a", "b\x1b"]) == r"a, b\x1b"
    assert several("*") == "*"
    assert several([]) == "-"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0s"),
        (0.4, "0s"),
        (59, "59s"),
        (60, "1m"),
        (125, "2m 5s"),
        (3600, "1h"),
        (3725, "1h 2m"),
        (90000, "1d 1h"),
        (172800, "2d"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 * 1024**2, "5.0 MiB"), (3 * 1024**4, "3,072.0 GiB")],
)
def test_sizes(count: int, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (1234567, "1,234,567"), (0.25, "0.2"), (2.0, "2")])
def test_numbers(value: float, shown: str) -> None:
    assert number(value) == shown
