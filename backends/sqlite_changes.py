"""What one transaction does to the tables of the SQLite log; imported as sse_daemon.backends.sqlite_changes, never under the bare
name.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import ujson

from sse_daemon.backends.ledger import Plan, Slot, runs_of, slot_cost, slots_of
from sse_daemon.backends.sqlite_rows import body_of, channel_key, cost_of
from sse_daemon.event import Draft, Group, Logged, Storable, Topic, placed


class Changes:
    """What one transaction does to the tables, gathered so that each table is visited once; of a slot, group or topic the last."""

    def __init__(self) -> None:
        self.fresh: list[tuple[int, Storable]] = []
        self.batch: list[Logged] = []
        self.forgotten: list[str] = []
        self.snapshots: dict[Slot, tuple[Any, ...] | None] = {}
        self.bytes = 0
        self._events: list[tuple[Any, ...]] = []
        self._places: list[tuple[int, int]] = []
        self._groups: dict[str, str | None] = {}
        self._topics: dict[str, bool] = {}

    def take(self, plan: Plan) -> None:
        """Adds the new items of a record."""
        self.fresh += plan.fresh
        for position, item in plan.fresh:
            if isinstance(item, Draft):
                self.batch.append(placed(item, position))
                self._take_draft(position, item)
                continue
            self.batch.append(item)
            if isinstance(item, Group):
                self._groups[item.name] = ujson.dumps(item.members) if item.members else None
            elif isinstance(item, Topic):
                self._topics[item.name] = item.known

    def write(self, connection: sqlite3.Connection, now: float) -> None:
        """Makes the changes, as of `now`."""
        events = [(position, now, *rest) for position, *rest in self._events]
        numbers = [(run.position, sender, run.first, run.last, now) for sender, run in runs_of(self.fresh)]
        # Their numbers go with time, as everybody's do.
        _run(connection, "DELETE FROM senders WHERE name = ?", [(name,) for name in self.forgotten])
        _run(connection, "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", events)
        _run(connection, "INSERT INTO places VALUES (?, ?)", self._places)
        _run(connection, "INSERT INTO numbers VALUES (?, ?, ?, ?, ?)", numbers)
        _replace(connection, "snapshots", ("channel", "topic", "type"), {_key(k): v for k, v in self.snapshots.items()})
        _replace(connection, "groups", ("name",), {(k,): None if v is None else (v,) for k, v in self._groups.items()})
        _replace(connection, "topics", ("name",), {(k,): () if known else None for k, known in self._topics.items()})

    def _take_draft(self, position: int, draft: Draft) -> None:
        body = body_of(position, draft)
        cost = cost_of(body, len(draft.channels))
        self.bytes += cost
        self._events.append((position, cost, *body))
        self._places += [(channel_key(name), position) for name in draft.channels]
        if draft.retain:
            for slot in slots_of(draft):
                size = slot_cost(slot, draft)
                self.snapshots[slot] = (size, draft.expires, position, *body) if size else None


def _replace(
    connection: sqlite3.Connection, table: str, key: tuple[str, ...], rows: dict[tuple[str, ...], tuple[Any, ...] | None]
) -> None:
    """Puts the rows under their keys; None: the key is removed."""
    gone = [name for name, row in rows.items() if row is None]
    put = [(*name, *row) for name, row in rows.items() if row is not None]
    _run(connection, f"DELETE FROM {table} WHERE {' AND '.join(f'{column} = ?' for column in key)}", gone)
    if put:
        _run(connection, f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(put[0]))})", put)


def _run(connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        connection.executemany(statement, rows)


def _key(slot: Slot) -> tuple[str, str, str]:
    """A slot as the table has it. NULL is not equal to itself, so no topic is the empty text and a topic follows a colon."""
    channel, topic, type = slot
    return channel, "" if topic is None else f":{topic}", type


def topic_of(column: str) -> str | None:
    return column[1:] if column else None
