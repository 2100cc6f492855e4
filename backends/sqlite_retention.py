"""What the SQLite log gives up when it is too old or too much; imported as sse_daemon.backends.sqlite_retention, never under the
bare name.

It is done in pieces, each a part of a transaction that stores something: a log that is full costs no transactions of its own, and
no transaction is long.
"""

from __future__ import annotations

import math
import sqlite3
from typing import Any, NamedTuple

from sse_daemon.backend import Limits
from sse_daemon.backends.producers import Producers
from sse_daemon.backends.sqlite_rows import channel_key, channels_of

PIECE = 256
"""Rows that one transaction takes out at most, or twice as many as it brings; about 2 ms of its time."""
PIECE_BYTES = 4 * 1024 * 1024
"""The same in bytes: giving up a large row visits each of its pages."""


class State(NamedTuple):
    """The one row of the table `log`. floor: the last position whose event is not kept; bytes: what the events cost."""

    incarnation: str
    head: int
    floor: int
    bytes: int


class Growth(NamedTuple):
    """What a transaction adds to the log."""

    items: int
    bytes: int


class Retention:
    """Drops what is over the Limits. It remembers how old the oldest rows are, so that it mostly need not look."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # Not before these times is there anything.
        self._oldest_event = self._oldest_number = -math.inf

    def stored(self, now: float) -> None:
        """Something is being stored now."""
        self._oldest_event = min(self._oldest_event, now)
        self._oldest_number = min(self._oldest_number, now)

    def drop_events(self, connection: sqlite3.Connection, state: State, now: float, growth: Growth) -> tuple[State, bool]:
        """Drops a piece of the oldest events that are too many or too old; returns whether there are more."""
        limits = self._limits
        if state.bytes <= limits.retention_bytes and self._oldest_event + limits.retention_age >= now:
            return state, False
        piece, piece_bytes = max(PIECE, 2 * growth.items), max(PIECE_BYTES, 2 * growth.bytes)
        going: list[tuple[Any, ...]] = []
        size, more = state.bytes, False
        self._oldest_event = math.inf
        for row in connection.execute("SELECT position, stored, cost, head FROM events ORDER BY position LIMIT ?", (piece + 1,)):
            more = size > limits.retention_bytes or row[1] + limits.retention_age < now
            if not more or len(going) == piece or state.bytes - size > piece_bytes:
                self._oldest_event = row[1]
                break
            going.append(row)
            size -= row[2]
        else:
            more = False
        if going:
            places = [(channel_key(name), row[0]) for row in going for name in channels_of(row[3])]
            connection.executemany("DELETE FROM places WHERE channel = ? AND position = ?", places)
            connection.execute("DELETE FROM events WHERE position <= ?", (going[-1][0],))
            state = state._replace(floor=going[-1][0], bytes=size)
        return state, more

    def drop_numbers(self, connection: sqlite3.Connection, producers: Producers, now: float, growth: Growth) -> bool:
        """Drops a piece of the runs that are older than the window; their senders' floors rise. Whether there are more."""
        window = self._limits.dedupe_window
        if self._oldest_number + window >= now:
            return False
        piece = max(PIECE, 2 * growth.items)
        going: list[tuple[Any, ...]] = []
        more = False
        self._oldest_number = math.inf
        rows = connection.execute("SELECT sender, last, stored, position FROM numbers ORDER BY position LIMIT ?", (piece + 1,))
        for row in rows:
            more = row[2] + window < now
            if not more or len(going) == piece:
                self._oldest_number = row[2]
                break
            going.append(row)
        else:
            more = False
        if going:
            # Who gave way to another is not to come back by an old number.
            raised = [row[:3] for row in going if producers.knows(row[0])]
            connection.executemany(_RAISE, raised)
            connection.execute("DELETE FROM numbers WHERE position <= ?", (going[-1][3],))
        return more


_RAISE = """
INSERT INTO senders VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET floor = max(floor, excluded.floor), last = max(last, excluded.last)
"""
