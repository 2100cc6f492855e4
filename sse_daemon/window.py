"""The recent tail of the log in memory, by channel: every event once, bounded in bytes. Pure.

Streams hold no queue. Live, slow and reconnecting streams alike are cursors that read on from here, and `read` either gives
exactly what the log holds after a cursor or says `Overtaken`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import merge
from operator import itemgetter
from typing import Any, TypeAlias

from sse_daemon.event import Attrs, Event, attrs_bytes

Entry: TypeAlias = tuple[int, "tuple[str, ...]", bytes, "float | None", str, "str | None", Attrs, bytes]
"""(position, channels, frame, expires, type, topic, attrs, data): an exact tuple of immutable values, so that the garbage
collector drops it from its lists; a class instance would be visited in every full collection."""

EVENT_BYTES = 300
"""What an event costs beside its frame and data: tuple, numbers, object headers (measured with tracemalloc)."""
RECIPIENT_BYTES = 24
"""What each channel of an event costs: a slot in the event's tuple, one in the channel's list."""
CHANNEL_BYTES = 420
"""What a channel costs: its name, its object, its list, its dictionary entry."""

_position = itemgetter(0)


UNKNOWN = 1 << 60
"""Beyond every position: `evicted` of a channel that is not followed, of which nothing may be read here."""


class Overtaken(Exception):
    """The window no longer holds everything after the asked position; the log may."""


class Channel:
    """One channel's part of the window, and the streams on it.

    evicted: no event of this channel after this position has left the window, or never reached it.
    count: how many events came in all; mortal: the position of the latest one that can expire; shared: of the latest one that is on other
    channels too. With them a hole is counted.
    entries: what is held, oldest first, from index `start` on; before it, slots already cleared.
    names: its name alone, the tuple that all events share that are for nobody else.
    streams: whatever the hub keeps here; while it holds something, the channel and its `evicted` stay.
    """

    __slots__ = ("count", "entries", "evicted", "mortal", "name", "names", "shared", "start", "streams")

    def __init__(self, name: str, evicted: int) -> None:
        self.name = name
        self.names = (name,)
        self.evicted = evicted
        self.count = 0
        self.mortal = 0
        self.shared = 0
        self.entries: list[Any] = []
        self.start = 0
        self.streams: dict[Any, None] = {}

    @property
    def last(self) -> int:
        """The position of the latest event that this channel is known to have had."""
        entries = self.entries
        return int(entries[-1][0]) if len(entries) > self.start else self.evicted

    def add(self, entry: Entry) -> None:
        """Takes the latest event."""
        self.entries.append(entry)
        self.count += 1
        if entry[3] is not None:
            self.mortal = entry[0]

    def count_to(self, position: int) -> int:
        """How many events came up to `position`, which nothing evicted may lie behind."""
        entries = self.entries
        return self.count - len(entries) + bisect_right(entries, position, lo=self.start, key=_position)

    def drop_first(self) -> None:
        """Forgets the oldest entry. Its slot is cleared at once; slots are given back when they are the larger half."""
        entries, start = self.entries, self.start
        position = entries[start][0]
        if position > self.evicted:  # noqa: PLR1730  not UNKNOWN; a call of max() made a full window's intake 15 % dearer
            self.evicted = position
        entries[start] = None
        start += 1
        if start * 2 >= len(entries):
            del entries[:start]
            start = 0
        self.start = start

    def only(self, after: int, through: int) -> Entry | None:
        """The latest event, if it is the only one in (after, through] and nothing of that is lost."""
        entries = self.entries
        high = len(entries) - 1
        if self.evicted > after or high < self.start:
            return None
        entry: Entry = entries[high]
        if after < entry[0] <= through and (high == self.start or entries[high - 1][0] <= after):
            return entry
        return None

    def after(self, position: int, through: int, limit: int) -> list[Entry]:
        """At most `limit` entries in (position, through], oldest first."""
        entries, start = self.entries, self.start
        if len(entries) == start or entries[-1][0] <= position:
            return []
        high = len(entries)
        if entries[-1][0] <= through and (high - 1 == start or entries[-2][0] <= position):
            return entries[-1:]  # one event that has just come, which is what is asked for most
        low = bisect_right(entries, position, lo=start, key=_position)
        if entries[-1][0] > through:
            high = bisect_right(entries, through, lo=low, key=_position)
        part: list[Entry] = entries[low : min(high, low + limit)]
        return part


class Window:
    """The tail of the log after `floor` through `head`.

    limit: bytes, at least 0; with 0 nothing is held longer than it takes to fan it out. It is kept by `evict`, not by `extend`:
    a batch that has just arrived must stand until it has been read once. since: where only some channels are followed, the position
    of each after which all of it comes. unread(name): called when the last one has left a channel.
    """

    def __init__(self, limit: int, head: int = 0, since: Mapping[str, int] | None = None) -> None:
        self.limit = limit
        self.unread: Callable[[str], None] = lambda name: None
        self._since = since
        self.head = head
        self.floor = head
        self.bytes = 0
        self.channels: dict[str, Channel] = {}
        self._entries: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def extend(self, batch: Iterable[tuple[Event, bytes]], last: int) -> list[Channel]:
        """Takes the events after `head` through `last`, each with its frame; returns the channels touched, each once."""
        touched: dict[Channel, None] = {}
        known, entries, cost = self.channels, self._entries, self._cost
        size = 0
        entry: Entry
        for (position, names, type, topic, attrs, data, expires), frame in batch:
            # The channels' own strings: an event then costs a reference for each, not a copy of each name.
            if len(names) == 1:  # nearly every event, and lists cost more than all else here
                channel = known.get(names[0]) or self._add_channel(names[0])
                entry = (position, channel.names, frame, expires, type, topic, attrs, data)
                channel.add(entry)
                touched[channel] = None
            else:
                channels = [known.get(name) or self._add_channel(name) for name in names]
                entry = (position, tuple([each.name for each in channels]), frame, expires, type, topic, attrs, data)
                for each in channels:
                    each.add(entry)
                    each.shared = position
                    touched[each] = None
            entries.append(entry)
            size += cost(entry)
        self.bytes += size
        self.head = last
        return list(touched)

    def evict(self, through: int) -> None:
        """Drops the oldest events, none of them later than `through`, until the window is within its limit."""
        entries, channels = self._entries, self.channels
        while self.bytes > self.limit and entries and entries[0][0] <= through:
            entry = entries.popleft()
            self.floor = entry[0]
            self.bytes -= self._cost(entry)
            for name in entry[1]:
                channel = channels[name]
                channel.drop_first()
                if not channel.entries:
                    self._drop_empty(channel)

    def at(self, position: int) -> Entry | None:
        """The entry at this position, if it is held; looks from the latest back, for whoever asks has just appended it."""
        for entry in reversed(self._entries):
            if entry[0] <= position:
                return entry if entry[0] == position else None
        return None

    def watch(self, name: str) -> Channel:
        """The channel of this name; it stays while its `streams` are not empty, and knows what it lost since the floor."""
        return self.channels.get(name) or self._add_channel(name)

    def release(self, channel: Channel) -> None:
        """To be called when somebody has left a channel: if that was the last one, and nothing is in it, its memory is given back."""
        if not channel.streams:
            self.unread(channel.name)
            self._drop_empty(channel)

    def read(self, channels: Sequence[Channel], after: int, through: int, limit: int) -> list[Entry]:
        """The first `limit` entries of `channels` in (after, through], by position, each once. Raises Overtaken."""
        for channel in channels:
            if channel.evicted > after:
                raise Overtaken
        if len(channels) == 1:
            return channels[0].after(after, through, limit)
        parts = [part for channel in channels if (part := channel.after(after, through, limit))]
        if len(parts) < 2:
            return parts[0] if parts else []
        merged: list[Entry] = []
        last = after
        for entry in merge(*parts, key=_position):
            if entry[0] != last:
                last = entry[0]
                merged.append(entry)
                if len(merged) == limit:
                    break
        return merged

    def _add_channel(self, name: str) -> Channel:
        # What this channel had before it was known is unknown, so everything up to the floor counts as evicted.
        evicted = self.floor if self._since is None else max(self.floor, self._since.get(name, UNKNOWN))
        channel = self.channels[name] = Channel(name, evicted)
        self.bytes += CHANNEL_BYTES
        return channel

    def _drop_empty(self, channel: Channel) -> None:
        if not channel.streams and not channel.entries:
            del self.channels[channel.name]
            self.bytes -= CHANNEL_BYTES

    @staticmethod
    def _cost(entry: Entry) -> int:
        cost = len(entry[2]) + len(entry[7]) + EVENT_BYTES + RECIPIENT_BYTES * len(entry[1])
        return cost + attrs_bytes(entry[6]) if entry[6] else cost


def entry_of(event: Event, frame: bytes) -> Entry:
    """The window's entry for `event`."""
    position, channels, type, topic, attrs, data, expires = event
    return position, channels, frame, expires, type, topic, attrs, data


def event_of(entry: Entry) -> Event:
    """The event in a window's entry."""
    position, channels, _, expires, type, topic, attrs, data = entry
    return Event(position, channels, type, topic, attrs, data, expires)
