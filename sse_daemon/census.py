"""Who publishes, how much, and what is missing of it: the table behind `sse-daemon producers`. Pure; bounded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

RATE_SPAN = 5.0
"""Seconds over which a rate is taken."""


@dataclass(slots=True)
class Tally:
    """One run of a producer (its `from`), as far as this daemon has seen it.

    first, highest: numbers seen; accepted: distinct ones stored; repeated, refused, lost: events. Times are Unix seconds. lost:
    events from the PUB/SUB socket that the backend refused, which nobody will send again.
    """

    first: int
    highest: int
    since: float
    seen: float
    accepted: int = 0
    repeated: int = 0
    refused: int = 0
    lost: int = 0
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

    @property
    def missing(self) -> int:
        """Numbers between the first and the highest that the log never took: what `gaps` reports."""
        return max(0, self.highest - self.first + 1 - self.accepted)


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
            self._tally(sender, n, now).accepted += 1
        elif (tally := self.tallies.get(sender)) is not None:
            # Its number was counted when it was stored, perhaps before this daemon started or by another one: it must not
            # move `first` and `highest` now, or what lies between would count as missing.
            self._see(sender, tally, now).repeated += 1

    def refuse(self, code: str, sender: str | None, n: int | None, now: float, *, lost: bool) -> None:
        """An event was refused; `lost` if its producer will never know."""
        if lost:
            self.lost += 1
        if sender is None or n is None or code == "too_old":
            return
        tally = self._tally(sender, n, now)
        tally.refused += 1
        tally.lost += lost

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
