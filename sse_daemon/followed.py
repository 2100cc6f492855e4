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
        self._window: Window | None = None
        self._asked: Counter[str] = Counter()
        self._unread: dict[str, None] = {}
        """What has lost its last reader, or was asked about for nobody, since the latest call of `forget`."""
        self._idle: dict[str, None] = {}
        """Likewise before that call, and not since."""

    def fill(self, window: Window) -> None:
        """`window`, made with `since`, is what comes is held in; to be called before the first question."""
        self._window = window
        window.unread = self._note

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
                if not self._is_read(name):
                    self._note(name)

    def forget(self) -> list[str]:
        """Stops to follow what nobody has needed since the call before; the log has to be told.

        It may follow more than was answered: a question that failed, or that nobody waited for, had begun all the same.
        """
        gone = [name for name in self._idle if name not in self._asked and not self._is_read(name)]
        self._idle, self._unread = self._unread, {}
        for name in gone:
            self.since.pop(name, None)
            if self._window is not None and name in self._window.channels:
                self._window.channels[name].evicted = UNKNOWN
        return gone

    def _note(self, name: str) -> None:
        self._idle.pop(name, None)
        self._unread[name] = None

    def _learn(self, name: str, position: int) -> None:
        if self._window is not None and name in self._window.channels:
            channel = self._window.channels[name]
            # What it lost while nobody knew cannot be told from the channel; it was not later than the floor.
            channel.evicted = max(position, self._window.floor)

    def _is_read(self, name: str) -> bool:
        return self._window is not None and name in self._window.channels and bool(self._window.channels[name].streams)
