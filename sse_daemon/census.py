"""Who publishes, how much, and what is missing of it: the table behind `sse-daemon producers`. Pure; bounded."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Origin: TypeAlias = tuple[str | None, int | None]
"""`from` and `n` of an event; None and None if it has none, or they cannot be read."""

RATE_SPAN = 5.0
"""Seconds over which a rate is taken."""
MAX_SPANS = 64
"""Runs of refused numbers that a tally keeps apart, a KiB."""


class Spans:
    """Numbers as runs, first to last. At most MAX_SPANS runs: what would be one more is not taken."""

    __slots__ = ("_firsts", "_lasts", "count")

    def __init__(self) -> None:
        self._firsts = array("q")
        self._lasts = array("q")
        self.count = 0

    def add(self, n: int) -> None:
        """Takes `n`, if it is not there."""
        i = bisect_right(self._firsts, n)
        if i > 0 and n <= self._lasts[i - 1]:
            return
        behind = i > 0 and self._lasts[i - 1] == n - 1
        before = i < len(self._firsts) and self._firsts[i] == n + 1
        start, end = i - behind, i + before
        first, last = self._firsts[start] if behind else n, self._lasts[i] if before else n
        self._replace(start, end, [(first, last)])

    def discard(self, n: int) -> None:
        """Gives `n` up, if it is there; and where that makes one run too many, the numbers behind `n` in it."""
        i = bisect_right(self._firsts, n) - 1
        if i < 0 or n > self._lasts[i]:
            return
        parts = ((self._firsts[i], n - 1), (n + 1, self._lasts[i]))
        self._replace(i, i + 1, [part for part in parts if part[0] <= part[1]])

    def _replace(self, start: int, end: int, runs: list[tuple[int, int]]) -> None:
        """Puts `runs`, as many as there is room for, in the place of those that are there."""
        del runs[MAX_SPANS - len(self._firsts) + end - start :]
        self.count -= sum(self._lasts[i] - self._firsts[i] + 1 for i in range(start, end))
        self.count += sum(last - first + 1 for first, last in runs)
        self._firsts[start:end] = array("q", [first for first, _ in runs])
        self._lasts[start:end] = array("q", [last for _, last in runs])


@dataclass(slots=True)
class Tally:
    """One run of a producer (its `from`), as far as this daemon has seen it.

    first, highest: numbers seen; accepted: distinct ones stored; repeated, refused, lost: events. Times are Unix seconds. lost:
    refused events from the PUB/SUB socket, which nobody will send again. told: numbers that were
    refused and not stored since. newest: the highest stored.
    """

    first: int
    highest: int
    since: float
    seen: float
    accepted: int = 0
    repeated: int = 0
    refused: int = 0
    lost: int = 0
    newest: int = 0
    told: Spans = field(default_factory=Spans)
    _mark: float = 0.0
    _count: int = 0
    _rate: float = 0.0

    def tick(self, now: float) -> None:
        """Counts one event for the rate."""
        if now - self._mark >= RATE_SPAN:
            self._rate = self._count / (now - self._mark) if now - self._mark < 2 * RATE_SPAN else 0.0
            self._mark, self._count = now, 0
        self._count += 1

    def rate(self, now: float) -> float:
        """Events a second over the last 5 to 10 seconds; while the first span runs, since it began."""
        span = now - self._mark
        if span >= 2 * RATE_SPAN:
            return 0.0
        return max(self._rate, self._count / max(span, 1.0))

    def store(self, n: int) -> None:
        """The log took `n`."""
        self.accepted += 1
        self.newest = max(self.newest, n)
        if self.told.count:
            self.told.discard(n)

    @property
    def missing(self) -> int:
        """Numbers between the first and the highest that never came: what `gaps` reports."""
        return max(0, self.highest - self.first + 1 - self.accepted - self.told.count)


class Census:
    """The last `limit` producers; beyond that the one that was silent longest is forgotten, its losses stay in the totals."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.tallies: dict[str, Tally] = {}
        self.refused: Counter[str] = Counter()
        """Messages refused, by code, whoever sent them."""
        self.accepted = 0
        self.repeated = 0
        self.lost = 0
        self._forgotten_missing = 0

    @property
    def missing(self) -> int:
        """All numbers missing, those of forgotten producers included."""
        return self._forgotten_missing + sum(tally.missing for tally in self.tallies.values())

    def stored(self, sender: str | None, n: int | None, repeated: bool, now: float) -> None:
        """An event is in the log: now (`repeated` False), or was before."""
        if repeated:
            self.repeated += 1
        else:
            self.accepted += 1
        if sender is None or n is None:
            return
        if not repeated:
            self._tally(sender, n, now).store(n)
        elif (tally := self.tallies.get(sender)) is not None:
            # Its number was counted when it was stored, perhaps before this daemon started or by another one: it must not
            # move `first` and `highest` now, or what lies between would count as missing.
            self._see(sender, tally, now).repeated += 1

    def refuse(self, code: str, events: int, named: Sequence[Origin], now: float, *, lost: bool) -> None:
        """A message of so many events was refused, some of them `named`; `lost` if its producer will never know."""
        self.refused[code] += 1
        if lost:
            self.lost += events
        if code == "too_old":
            return
        for sender, n in named:
            if sender is not None and n is not None:
                self._refuse(sender, n, now, lost)

    def _refuse(self, sender: str, n: int, now: float, lost: bool) -> None:
        tally = self._tally(sender, n, now)
        tally.refused += 1
        tally.lost += lost
        # Below the newest nobody knows here whether it was stored: it stays what it is, a gap or none.
        if n > tally.newest:
            tally.told.add(n)

    def _tally(self, sender: str, n: int, now: float) -> Tally:
        tally = self.tallies.get(sender)
        if tally is None:
            self._make_room()
            tally = Tally(first=n, highest=n, since=now, seen=now)
        tally.first = min(tally.first, n)
        tally.highest = max(tally.highest, n)
        return self._see(sender, tally, now)

    def _see(self, sender: str, tally: Tally, now: float) -> Tally:
        self.tallies.pop(sender, None)
        self.tallies[sender] = tally  # to the end: the order is by last seen
        tally.seen = now
        tally.tick(now)
        return tally

    def _make_room(self) -> None:
        while self.tallies and len(self.tallies) >= self.limit:
            silent = next(iter(self.tallies))
            self._forgotten_missing += self.tallies.pop(silent).missing
