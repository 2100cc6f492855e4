"""The reference implementation of a log, in memory; imported as sse_daemon.backends.memory, never under the bare name.

It survives a client's reconnect and nothing else: every open is a new incarnation. Whoever writes another backend reads this one
first; what the port promises is here in its plainest form.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from heapq import merge
from operator import itemgetter
from secrets import token_hex
from typing import Any, ClassVar, TypeAlias

from sse_daemon.backend import Deliver, Gap, Limits, Opened, Page, Snapshots, Stored
from sse_daemon.backends.ledger import Ledger
from sse_daemon.backends.pages import page_of
from sse_daemon.errors import BackendUnavailable, ConfigError, Refusal
from sse_daemon.event import Draft, Event, Logged, Record, Storable, attrs_bytes

Kept: TypeAlias = "tuple[Any, ...]"
"""An Event as an exact tuple: the garbage collector drops those from its lists, and would visit instances of a class for ever."""

EVENT_BYTES = 500
"""What an event costs beside its data: tuples, numbers, texts, object headers (measured with tracemalloc)."""
RECIPIENT_BYTES = 32
"""What each channel of an event costs: a place in the event's tuple, one in the channel's list."""
CHANNEL_BYTES = 420
"""What a channel costs: its name, its list, its dictionary entry."""

_position = itemgetter(0)


class MemoryBackend:
    """A log in memory, bounded by its Limits. `clock` gives Unix seconds."""

    durable: ClassVar[bool] = False
    shared: ClassVar[bool] = False

    def __init__(self, url: str, limits: Limits, *, clock: Callable[[], float] = time.time) -> None:
        if url.lower() != "memory://":
            raise ConfigError([f"{url!r}: this backend is memory:// and has no options"])
        self._clock = clock
        self._ledger = Ledger(limits)
        self._tail = Tail(limits.retention_bytes, limits.retention_age)
        self._snapshots: dict[str, dict[tuple[str | None, str], Kept]] = {}
        self._deliver: Deliver | None = None
        self._closed = False

    async def open(self, deliver: Deliver) -> Opened:
        """Begins a new log."""
        if self._closed or self._deliver:
            raise BackendUnavailable("a memory log is opened once")
        self._deliver = deliver
        return Opened(token_hex(6), 0, {}, frozenset())

    async def append(self, records: Sequence[Record]) -> Sequence[Stored | Refusal]:
        """Stores and delivers at once; it never suspends, so it cannot be cancelled in the middle."""
        deliver = self._following()
        now, after = self._clock(), self._ledger.head
        self._ledger.producers.expire(now)
        answers: list[Stored | Refusal] = []
        batch: list[Logged] = []
        for record in records:
            answers.append(self._store(record, now, batch))
        self._tail.mark(now)
        self._tail.trim(now)
        if batch:
            deliver(batch, after, self._ledger.head)
        return answers

    async def read(self, channels: Collection[str], after: int, limit: int) -> Page | Gap:
        """One page; costs as much as it holds, whatever the size of the log."""
        self._following()
        self._tail.trim(self._clock())
        head = self._ledger.head
        if after > head:
            return Gap("unknown_cursor")
        if after < self._tail.floor:
            return Gap("expired")
        return page_of(self._tail.read(channels, after, limit), limit, head)

    async def retained(self, channels: Collection[str] | None) -> Snapshots:
        """What is in the slots now."""
        self._following()
        now = self._clock()
        names = self._snapshots if channels is None else channels
        found: dict[int, Event] = {}
        for name in names:
            for kept in self._snapshots.get(name, {}).values():
                event = Event._make(kept)
                if event.expires is None or event.expires > now:
                    found[event.position] = event
        return Snapshots([found[position] for position in sorted(found)], self._ledger.head)

    async def check(self) -> None:
        """Memory has room until the process ends."""
        self._following()

    async def close(self) -> None:
        """Forgets the log."""
        self._closed = True
        self._deliver = None

    def _following(self) -> Deliver:
        if self._deliver is None:
            raise BackendUnavailable("the log is closed")
        return self._deliver

    def _store(self, record: Record, now: float, batch: list[Logged]) -> Stored | Refusal:
        if (plain := self._ledger.take(record, now)) is not None:
            position = self._ledger.head
            batch.append(self._keep(position, plain))
            return Stored((position,))
        plan = self._ledger.decide(record, now)
        if isinstance(plan, Refusal) and plan.code == "retained_full" and self._drop_expired(now):
            plan = self._ledger.decide(record, now)
        if isinstance(plan, Refusal):
            return plan
        self._ledger.apply(plan, now)
        for position, item in plan.fresh:
            batch.append(self._keep(position, item))
        return plan.answer

    def _keep(self, position: int, item: Storable) -> Logged:
        if not isinstance(item, Draft):
            # What groups and topics come to is the daemon's to know: it has seen every item since this log began.
            return item
        kept = self._tail.add(item, position)
        event = tuple.__new__(Event, kept)  # as `Event._make` does it, in half of its time: every event passes here
        if item.retain:
            self._retain(kept, event)
        return event

    def _retain(self, kept: Kept, event: Event) -> None:
        for channel in event.channels:
            slots = self._snapshots.setdefault(channel, {})
            if event.data:
                slots[event.topic, event.type] = kept
            else:
                slots.pop((event.topic, event.type), None)
            if not slots:
                del self._snapshots[channel]

    def _drop_expired(self, now: float) -> bool:
        gone = self._ledger.slots.expired(now)
        for slot in gone:
            channel, topic, type = slot
            self._ledger.slots.set(slot, 0, None)
            slots = self._snapshots[channel]
            del slots[topic, type]
            if not slots:
                del self._snapshots[channel]
        return bool(gone)


class Tail:
    """The events that are kept for clients that come back, by channel; bounded in bytes and age.

    floor: the position of the last event that is not kept any more.
    """

    def __init__(self, max_bytes: int, max_age: float) -> None:
        self._max_bytes = max_bytes
        self._max_age = max_age
        self.floor = 0
        self.bytes = 0
        self._events: deque[Kept] = deque()
        # (stored at, last position): one mark for all that is stored at one time, instead of a time in each event.
        self._marks: deque[tuple[float, int]] = deque()
        self._channels: dict[str, Channel] = {}

    def add(self, draft: Draft, position: int) -> Kept:
        """Keeps an event, in its place; `mark` says when it was stored."""
        names, type, topic, attrs, data, expires, _, _, _ = draft
        # The channels' own names: many events that name a channel share one text.
        kept: Kept
        if len(names) == 1:  # nearly every event
            channel = self._channels.get(names[0]) or self._add_channel(names[0])
            kept = (position, channel.names, type, topic, attrs, data, expires)
            channel.entries.append(kept)
        else:
            channels = [self._channels.get(name) or self._add_channel(name) for name in names]
            kept = (position, tuple([each.name for each in channels]), type, topic, attrs, data, expires)
            for each in channels:
                each.entries.append(kept)
        self._events.append(kept)
        self.bytes += _cost(kept)
        return kept

    def mark(self, now: float) -> None:
        """What was added since the mark before is stored now."""
        last = self._events[-1][0] if self._events else self.floor
        if last > (self._marks[-1][1] if self._marks else self.floor):
            if self._marks and self._marks[-1][0] == now:
                self._marks.pop()
            self._marks.append((now, last))

    def trim(self, now: float) -> None:
        """Drops the oldest events until the rest is young enough and not too much."""
        through = self.floor
        while self._marks and (self._marks[0][0] + self._max_age < now or self._marks[0][1] <= self.floor):
            through = max(through, self._marks.popleft()[1])
        while self._events and (self._events[0][0] <= through or self.bytes > self._max_bytes):
            self._drop_first()

    def read(self, names: Collection[str], after: int, limit: int) -> Iterator[Event]:
        """The first `limit` events after `after` on any of the channels; one on several of them comes as often, in a row."""
        channels = [self._channels[name] for name in names if name in self._channels]
        parts = [part for channel in channels if (part := channel.after(after, limit))]
        return map(Event._make, merge(*parts, key=_position))

    def _drop_first(self) -> None:
        kept = self._events.popleft()
        self.floor = kept[0]
        self.bytes -= _cost(kept)
        for name in kept[1]:
            channel = self._channels[name]
            channel.drop_first()
            if not channel.entries:
                del self._channels[name]
                self.bytes -= CHANNEL_BYTES

    def _add_channel(self, name: str) -> Channel:
        channel = self._channels[name] = Channel(name)
        self.bytes += CHANNEL_BYTES
        return channel


class Channel:
    """The kept events of one channel, oldest first; the first `start` places are empty."""

    __slots__ = ("entries", "name", "names", "start")

    def __init__(self, name: str) -> None:
        self.name = name
        self.names = (name,)
        self.entries: list[Kept] = []
        self.start = 0

    def after(self, position: int, limit: int) -> list[Kept]:
        """At most `limit` events after `position`."""
        low = bisect_right(self.entries, position, lo=self.start, key=_position)
        return self.entries[low : low + limit]

    def drop_first(self) -> None:
        """Drops the oldest. Its place is cleared at once, and places are given back when they are the larger half."""
        self.entries[self.start] = ()
        self.start += 1
        if self.start * 2 >= len(self.entries):
            del self.entries[: self.start]
            self.start = 0


def _cost(kept: Kept) -> int:
    cost = EVENT_BYTES + RECIPIENT_BYTES * len(kept[1]) + len(kept[5])
    return cost + attrs_bytes(kept[4]) if kept[4] else cost
