"""What streams get of the window's events: buffers, each made once for all who get the same. Encodes; sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sse_daemon.plan import Key
from sse_daemon.stream import Batch, Wire
from sse_daemon.subscription import Filter
from sse_daemon.window import Entry, Overtaken, Window, event_of


class Batches:
    """The batches of a sweep, up to `through`. wall: Unix time, for expiries."""

    def __init__(self, window: Window, wall: Callable[[], float]) -> None:
        self.through = window.head
        self._window = window
        self._wall = wall
        self._made: dict[tuple[Key, int, Filter | None, Wire], Batch | None] = {}

    def extend(self, through: int) -> None:
        """From now on they go up to `through`."""
        self.through = through
        self._made.clear()

    def clear(self) -> None:
        """Gives the buffers back."""
        self._made.clear()

    def __len__(self) -> int:
        return len(self._made)

    def of(self, channels: Key, after: int, wanted: Filter | None, wire: Wire) -> Batch | None:
        """What those on these channels get who stand at `after` and want this, laid out like that; None if that is nothing."""
        for channel in channels:
            if len(channel.streams) == 1:
                return self._make(channels, after, wanted, wire)  # nobody else gets the same
        ident = (channels, after, wanted, wire)
        if ident not in self._made:
            self._made[ident] = self._make(channels, after, wanted, wire)
        return self._made[ident]

    def encode(self, after: int, entries: Sequence[Entry], wanted: Filter | None, wire: Wire) -> Batch | None:
        """What of `entries` is wanted, as one buffer; None if nothing is."""
        now = self._wall()
        positions, frames = [], []
        for entry in entries:
            if (entry[3] is None or entry[3] > now) and (wanted is None or wanted.passes(event_of(entry))):
                positions.append(entry[0])
                frames.append(entry[2] if wire.plain else wire.frame(entry))
        return Batch(after, positions, frames) if frames else None

    def _make(self, channels: Key, after: int, wanted: Filter | None, wire: Wire) -> Batch | None:
        through = self.through
        if len(channels) == 1 and wanted is None:
            entry = channels[0].only(after, through)
            if entry is not None and entry[3] is None:  # what comes most
                return Batch(after, (entry[0],), (entry[2] if wire.plain else wire.frame(entry),))
        try:
            entries = self._window.read(channels, after, through, through - after)
        except Overtaken:
            # Only a long-poll stands on a channel that was not followed up to here: it is woken by this, and asks the log itself.
            return Batch(after, [after], [b""])
        return self.encode(after, entries, wanted, wire)


def within(entries: Sequence[Entry], most: int) -> Sequence[Entry]:
    """As many of the first entries as their frames have `most` bytes together, and at least one."""
    size = 0
    for count, entry in enumerate(entries):
        size += len(entry[2])
        if size > most and count:
            return entries[:count]
    return entries
