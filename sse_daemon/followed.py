"""Which channels a process follows that is not sent everything, and what that means for its window. Pure.

A worker is sent only what is on channels that it has asked about. Whoever asks the log about channels (a page, the snapshots) is
from then on sent what is on them, and is told the position after which that holds. Up to there, and as long as it is not known,
a channel counts as evicted: a stream with an older cursor is read from the log, which is to ask, and so the way of a stream that
was overtaken is also the way of the first one on its channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from sse_daemon.window import UNKNOWN, Window


class Followed:
    """The channels that are followed. since: after which position; a `Window` made with it knows what it may not be asked."""

    def __init__(self) -> None:
        self.since: dict[str, int] = {}
        self.window: Window | None = None
        """Set by whoever makes it, before the first question."""
        self._asked: Counter[str] = Counter()
        self._idle: frozenset[str] = frozenset()

    def ask(self, names: Collection[str]) -> None:
        """A question about these channels is on its way, and with it the wish to get what comes on them."""
        self._asked.update(names)

    def answered(self, names: Collection[str], since: Iterable[int]) -> None:
        """The question is over; since: the position of each after which everything comes, nothing if nobody answered."""
        for name, position in zip(names, since, strict=False):
            if name not in self.since:
                self.since[name] = position
                self._learn(name, position)
        for name in names:
            self._asked[name] -= 1
            if not self._asked[name]:
                del self._asked[name]

    def forget(self) -> list[str]:
        """Stops to follow what nobody has needed since the call before; the log has to be told."""
        idle = frozenset(name for name in self.since if name not in self._asked and not self._is_read(name))
        gone = list(idle & self._idle)
        self._idle = idle.difference(gone)
        for name in gone:
            del self.since[name]
            if self.window is not None and name in self.window.channels:
                self.window.channels[name].evicted = UNKNOWN
        return gone

    def _learn(self, name: str, position: int) -> None:
        if self.window is not None and name in self.window.channels:
            channel = self.window.channels[name]
            # What it lost while nobody knew cannot be told from the channel; it was not later than the floor.
            channel.evicted = max(position, self.window.floor)

    def _is_read(self, name: str) -> bool:
        return self.window is not None and name in self.window.channels and bool(self.window.channels[name].streams)
