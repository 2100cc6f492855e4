"""The writing side of the SQLite log; imported as sse_daemon.backends.sqlite_log, never under the bare name.

Everything here is called on the one thread that writes. One call of `write` is one transaction for all the appends that came
while the transaction before it was on its way to the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import ujson

from sse_daemon.backend import Limits, Opened, Stored
from sse_daemon.backends.ledger import Ledger
from sse_daemon.backends.producers import Run
from sse_daemon.backends.sqlite_changes import Changes, topic_of
from sse_daemon.backends.sqlite_file import REMEDY, Identity, check_sound, connect_writer, fault_of
from sse_daemon.backends.sqlite_retention import Growth, Retention, State
from sse_daemon.errors import BackendError, BackendUnavailable, BackendUnusable, Refusal
from sse_daemon.event import Logged, Record


class Commit(NamedTuple):
    """What one transaction did: the answers to each append, the items through `head`; `more`: there is more to clean up."""

    answers: list[list[Stored | Refusal]]
    batch: list[Logged]
    head: int
    more: bool


class Log:
    """The file, and in memory what decides over the next record. The memory is loaded anew whenever a transaction failed."""

    def __init__(self, path: Path, identity: Identity, limits: Limits, clock: Callable[[], float]) -> None:
        self._path = path
        self._identity = identity
        self._limits = limits
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._state = State("", 0, 0, 0)
        self._ledger = Ledger(limits)
        self._stale = False
        # The last head that is known to be in the file, and what is to be told of it.
        self._head = 0
        self._outbox: list[Logged] = []
        # A transaction of which it is not known whether it is in the file: the commit failed, and so did opening the file again.
        self._doubt: Commit | None = None
        self._retention = Retention(limits)

    def open(self) -> Opened:
        """Opens or creates the file. Raises BackendUnusable, sqlite3.Error, OSError."""
        connection = self._connection = connect_writer(self._path, create=True)
        check_sound(connection, self._path)
        self._load()
        self._head = self._ledger.head
        (last,) = connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
        if last > self._head:
            raise BackendUnusable(f"{self._path} is damaged (it holds events beyond its head); {REMEDY}")
        self._probe()
        self._identity.note()
        groups = {name: tuple(ujson.loads(members)) for name, members in connection.execute("SELECT * FROM groups")}
        topics = frozenset(name for (name,) in connection.execute("SELECT name FROM topics"))
        return Opened(self._state.incarnation, self._head, groups, topics)

    def close(self) -> None:
        """Closes the file; what the WAL holds goes into it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def write(self, appends: Sequence[Sequence[Record]], *, probe: bool = False) -> Commit:
        """Stores all the appends' records; `probe`: writes something in any case. Raises StorageFull, BackendUnavailable."""
        attempt: Commit | None = None
        try:
            connection = self._ready()
            connection.execute("BEGIN IMMEDIATE")
            attempt = self._transact(connection, appends, probe)
            connection.execute("COMMIT")
            self._committed(attempt)
        except (sqlite3.Error, OSError) as error:
            if not self._failed(error, attempt) or attempt is None:
                raise fault_of(error, self._path) from error
        except BaseException:
            self._roll_back()
            raise
        batch, self._outbox = self._outbox, []
        return attempt._replace(batch=batch)

    def _committed(self, commit: Commit) -> None:
        self._head = commit.head
        self._outbox += commit.batch

    # After a fault

    def _ready(self) -> sqlite3.Connection:
        """The connection, with the memory in step with the file."""
        if self._connection is None:
            self._reopen()
        else:
            self._identity.check()
            if self._stale:
                # Costs little, and fails for as long as the disk is full: loading then would be in vain.
                self._probe()
                self._load()
        assert self._connection is not None
        return self._connection

    def _failed(self, error: sqlite3.Error | OSError, attempt: Commit | None) -> bool:
        """Whether the transaction that failed is in the file all the same."""
        self._roll_back()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL or self._connection is None:
            return False
        # After a fault of the disk nothing that this connection believes about the file is worth anything.
        self.close()
        self._doubt = attempt
        try:
            return self._reopen()
        except (sqlite3.Error, OSError, BackendError):
            return False  # The first error says more, and the next write tries again.

    def _reopen(self) -> bool:
        """Opens the file again and takes its word; returns whether the transaction in doubt is in it."""
        self._connection = connect_writer(self._path, create=False)
        try:
            # Only what goes from the WAL to the disk once more is taken for stored.
            (busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise BackendUnavailable(f"{self._path} is being read")
            stored = self._resolve_doubt()
            self._identity.note()
        except BaseException:
            self.close()
            raise
        return stored

    def _resolve_doubt(self) -> bool:
        incarnation, doubt = self._state.incarnation, self._doubt
        self._load()
        stored = doubt is not None and self._ledger.head == doubt.head != self._head
        if self._state.incarnation != incarnation or not (stored or self._ledger.head == self._head):
            self._state = self._state._replace(incarnation=incarnation)
            raise BackendUnavailable(f"{self._path} is not the log any more that was opened; restart the daemon")
        self._doubt = None
        if stored and doubt is not None:
            self._committed(doubt)
        return stored

    def _roll_back(self) -> None:
        self._stale = True
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.rollback()
            except sqlite3.Error:
                # Closing ends the transaction as well, and the next write opens the file again.
                self.close()

    def _probe(self) -> None:
        """Writes a little and waits until it is on the disk."""
        assert self._connection is not None
        self._connection.execute("UPDATE log SET checked = ?", (self._clock(),))

    def _load(self) -> None:
        connection, now = self._connection, self._clock()
        assert connection is not None
        self._state = State(*connection.execute("SELECT incarnation, head, floor, bytes FROM log").fetchone())
        ledger = self._ledger = Ledger(self._limits, self._state.head)
        snapshots = "SELECT channel, topic, type, cost, expires FROM snapshots"
        for channel, topic, type, cost, expires in connection.execute(snapshots):
            ledger.slots.set((channel, topic_of(topic), type), cost, expires)
        for name, floor, last in connection.execute("SELECT name, floor, last FROM senders ORDER BY last"):
            ledger.producers.restore(name, floor, last)
        numbers = "SELECT sender, first, last, position, stored FROM numbers ORDER BY position"
        for sender, first, last, position, stored in connection.execute(numbers):
            ledger.producers.add(sender, Run(first, last, position), stored)
        ledger.producers.expire(now)
        self._retention = Retention(self._limits)
        self._stale = False

    # One transaction

    def _transact(self, connection: sqlite3.Connection, appends: Sequence[Sequence[Record]], probe: bool) -> Commit:
        now = self._clock()
        self._ledger.producers.expire(now)
        changes = Changes()
        answers = [[self._decide(record, now, changes) for record in records] for records in appends]
        changes.write(connection, now)
        self._retention.stored(now)
        before = self._state
        growth = Growth(len(changes.fresh), changes.bytes)
        grown = before._replace(head=self._ledger.head, bytes=before.bytes + changes.bytes)
        self._state, more = self._retention.drop_events(connection, grown, now, growth)
        more |= self._retention.drop_numbers(connection, self._ledger.producers, now, growth)
        if probe or self._state != before:
            values = (*self._state[1:], now)
            connection.execute("UPDATE log SET head = ?, floor = ?, bytes = ?, checked = ?", values)
        return Commit(answers, changes.batch, self._ledger.head, more)

    def _decide(self, record: Record, now: float, changes: Changes) -> Stored | Refusal:
        plan = self._ledger.decide(record, now)
        if isinstance(plan, Refusal) and plan.code == "retained_full":
            gone = self._ledger.slots.expired(now)
            for slot in gone:
                self._ledger.slots.set(slot, 0, None)
                changes.snapshots[slot] = None
            plan = self._ledger.decide(record, now) if gone else plan
        if isinstance(plan, Refusal):
            return plan
        changes.forgotten += self._ledger.apply(plan, now)
        changes.take(plan)
        return plan.answer
