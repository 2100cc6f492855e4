"""The reading side of the SQLite log; imported as sse_daemon.backends.sqlite_reads, never under the bare name.

Everything here is called on the one thread that reads, beside the one that writes: who catches up does not wait for commits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from heapq import merge
from pathlib import Path

from sse_daemon.backend import Gap, Page, Snapshots
from sse_daemon.backends.pages import page_of
from sse_daemon.backends.sqlite_file import Identity, connect_reader, fault_of
from sse_daemon.backends.sqlite_rows import channel_key, event_of
from sse_daemon.event import Event

_BODY = "position, head, data, checksum"


class Reads:
    """A connection for reading. The file exists; the connection is made at the first read, and anew after a fault."""

    def __init__(self, path: Path, identity: Identity) -> None:
        self._path = path
        self._identity = identity
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Closes the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def read(self, channels: Collection[str], after: int, limit: int) -> tuple[Page | Gap, int]:
        """The page after `after`, and the head of the log as it was read. Raises BackendUnavailable."""
        with self._moment() as connection:
            head, floor = connection.execute("SELECT head, floor FROM log").fetchone()
            if after > head:
                return Gap("unknown_cursor"), head
            if after < floor:
                return Gap("expired"), head
            places = _places(connection, channels, after, limit)
            end = places[-1] if len(places) == limit else head
            return page_of(_events(connection, places, frozenset(channels)), limit, end), head

    def retained(self, channels: Collection[str] | None, now: float) -> Snapshots:
        """The snapshots that have not expired at `now`, and the head of the log as it was read. Raises BackendUnavailable."""
        with self._moment() as connection:
            (head,) = connection.execute("SELECT head FROM log").fetchone()
            select = f"SELECT {_BODY} FROM snapshots WHERE (expires IS NULL OR expires > ?)"
            if channels is None:
                found = {row[0]: row for row in connection.execute(select, (now,))}
            else:
                wanted = select + " AND channel = ?"
                found = {row[0]: row for name in channels for row in connection.execute(wanted, (now, name))}
            return Snapshots([event_of(*found[position]) for position in sorted(found)], head)

    @contextmanager
    def _moment(self) -> Iterator[sqlite3.Connection]:
        """The log as it is at one moment, whatever is committed meanwhile."""
        try:
            if self._connection is None:
                self._identity.check()
                self._connection = connect_reader(self._path)
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._connection.rollback()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise fault_of(error, self._path) from error


def _places(connection: sqlite3.Connection, channels: Collection[str], after: int, limit: int) -> list[int]:
    """The first `limit` positions after `after` that are indexed under any of the channels."""
    select = "SELECT position FROM places WHERE channel = ? AND position > ? ORDER BY position LIMIT ?"
    parts = [connection.execute(select, (channel_key(name), after, limit)) for name in channels]
    places: list[int] = []
    for (position,) in merge(*parts):
        if not places or places[-1] != position:
            places.append(position)
            if len(places) == limit:
                break
    return places


def _events(connection: sqlite3.Connection, places: list[int], channels: frozenset[str]) -> Iterator[Event]:
    for place in places:
        event = event_of(*connection.execute(f"SELECT {_BODY} FROM events WHERE position = ?", (place,)).fetchone())
        # Two channels may share a key of the index; what is on none of the asked ones is nobody's business here.
        if not channels.isdisjoint(event.channels):
            yield event
