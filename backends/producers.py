"""Which numbers of which senders are stored, and where; imported as sse_daemon.backends.producers, never under the bare name.

Pure, and shared by the logs that decide in this process. Membership counts, not order: n=6 before n=5 loses neither.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from sse_daemon.errors import Refusal

GENERATIONS = 8
"""Numbers are forgotten in slices of an eighth of the window: all of a slice at once, when its last is old enough."""


class Run(NamedTuple):
    """The numbers `first` through `last` are at consecutive positions, the first of them at `position`."""

    first: int
    last: int
    position: int


class Numbers:
    """Numbers of one sender with their positions, as runs in three arrays: 24 bytes a run, and busy senders make long runs."""

    __slots__ = ("_firsts", "_lasts", "_positions")

    def __init__(self) -> None:
        self._firsts = array("q")
        self._lasts = array("q")
        self._positions = array("q")

    def __iter__(self) -> Iterator[Run]:
        return map(Run, self._firsts, self._lasts, self._positions)

    @property
    def highest(self) -> int:
        """The largest of the numbers; there is at least one."""
        return self._lasts[-1]

    def find(self, n: int) -> int | None:
        """The position of `n`, if it is among the numbers."""
        i = bisect_right(self._firsts, n) - 1
        if i < 0 or n > self._lasts[i]:
            return None
        return self._positions[i] + n - self._firsts[i]

    def add(self, run: Run) -> None:
        """Takes a run; none of its numbers is there yet."""
        i = bisect_right(self._firsts, run.first) - 1
        if i >= 0 and self._lasts[i] == run.first - 1 and self._positions[i] + run.first - self._firsts[i] == run.position:
            self._lasts[i] = run.last
            return
        self._firsts.insert(i + 1, run.first)
        self._lasts.insert(i + 1, run.last)
        self._positions.insert(i + 1, run.position)


class Sender:
    """What is known of one sender. floor: nothing up to here is news; highest: nothing beyond has been stored; last: when."""

    __slots__ = ("floor", "highest", "last")

    def __init__(self, floor: int, last: float) -> None:
        self.floor = floor
        self.highest = floor
        self.last = last


class Generation:
    """The numbers that were stored during a part of the window, by sender."""

    __slots__ = ("ended", "numbers", "started")

    def __init__(self, now: float) -> None:
        self.started = now
        self.ended = now
        self.numbers: dict[str, Numbers] = {}


class Producers:
    """The memory for (sender, n).

    window: seconds for which a number is remembered, at least. limit: how many senders are. A sender that is silent for longer
    than the window gives its place to a new one when all are taken, the longest silent first; it has then never been here.
    """

    def __init__(self, window: float, limit: int) -> None:
        self._window = window
        self._limit = limit
        # In the order of their last number, so that the longest silent comes first.
        self._senders: dict[str, Sender] = {}
        self._generations: deque[Generation] = deque()

    def __len__(self) -> int:
        return len(self._senders)

    def find(self, name: str, n: int) -> int | None:
        """Where the sender's `n` is stored; None if it is news. Raises Refusal(`too_old`) if it may be either."""
        sender = self._senders.get(name)
        if sender is None or n > sender.highest:
            return None
        for generation in reversed(self._generations):
            numbers = generation.numbers.get(name)
            position = None if numbers is None else numbers.find(n)
            if position is not None:
                return position
        if n <= sender.floor:
            raise Refusal("too_old", f"whether number {n} was stored is no longer remembered")
        return None

    def is_news(self, name: str, n: int) -> bool:
        """True if the sender has a place and `n` is beyond everything of it: certainly not stored, and nothing to search."""
        sender = self._senders.get(name)
        return sender is not None and n > sender.highest

    def knows(self, name: str) -> bool:
        """Whether the sender has a place."""
        return name in self._senders

    def check_room(self, new: int, now: float) -> None:
        """Raises Refusal(`too_many_producers`) unless `new` more senders find a place."""
        lacking = len(self._senders) + new - self._limit
        if lacking <= 0:
            return
        oldest = next(islice(self._senders.values(), lacking - 1, None), None)
        if oldest is None or not self._silent(oldest, now):
            raise Refusal("too_many_producers", f"{self._limit} producers are remembered and none of them is silent")

    def add(self, name: str, run: Run, now: float) -> str | None:
        """Remembers a run that is stored from now on. Returns the sender that had to be forgotten for it, if any."""
        sender = self._senders.pop(name, None)
        forgotten = self._make_room(now) if sender is None else None
        sender = sender or Sender(0, now)
        sender.last = now
        sender.highest = max(sender.highest, run.last)
        self._senders[name] = sender
        generation = self._generation(now)
        numbers = generation.numbers.get(name)
        if numbers is None:  # not by setdefault, which would have one made for every event
            numbers = generation.numbers[name] = Numbers()
        numbers.add(run)
        return forgotten

    def restore(self, name: str, floor: int, last: float) -> None:
        """Takes back what an earlier process knew of a sender; the senders come in the order of `last`, before any `add`."""
        self._senders[name] = Sender(floor, last)

    def expire(self, now: float) -> None:
        """Forgets what is older than the window, and raises its senders' floors."""
        while self._generations and self._generations[0].ended + self._window < now:
            generation = self._generations.popleft()
            for name, numbers in generation.numbers.items():
                sender = self._senders.get(name)
                if sender is not None:
                    sender.floor = max(sender.floor, numbers.highest)

    def _generation(self, now: float) -> Generation:
        latest = self._generations[-1] if self._generations else None
        if latest is None or now - latest.started > self._window / GENERATIONS:
            latest = Generation(now)
            self._generations.append(latest)
        latest.ended = max(latest.ended, now)
        return latest

    def _make_room(self, now: float) -> str | None:
        name, oldest = next(iter(self._senders.items()), (None, None))
        if len(self._senders) < self._limit or oldest is None or not self._silent(oldest, now):
            return None
        assert name is not None
        del self._senders[name]
        for generation in self._generations:
            generation.numbers.pop(name, None)
        return name

    def _silent(self, sender: Sender, now: float) -> bool:
        return sender.last + self._window < now
