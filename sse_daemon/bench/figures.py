"""Numbers from many numbers: percentiles, medians, and the times of an open loop. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the sorted values that at least `share` (0 to 1) of them do not exceed."""
    if not ordered:
        raise ValueError("a percentile of nothing")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Latency:
    """Microseconds, and of how many deliveries."""

    p50: float
    p99: float
    p999: float
    worst: float
    samples: int

    @classmethod
    def of(cls, nanoseconds: Sequence[int]) -> Latency | None:
        """None of nothing."""
        if not nanoseconds:
            return None
        ordered = sorted(nanoseconds)
        p50, p99, p999, worst = (percentile(ordered, share) / 1000 for share in (0.5, 0.99, 0.999, 1.0))
        return cls(p50=p50, p99=p99, p999=p999, worst=worst, samples=len(ordered))


class Schedule:
    """When each event of an open loop is due: `rate` a second from `start` on, whatever became of those before it.

    Latency counts from there, so that an event which waits behind a stalled one is late by all of its wait.
    """

    __slots__ = ("_interval", "_start")

    def __init__(self, start: int, rate: float) -> None:
        if rate <= 0:
            raise ValueError("an open loop has a rate")
        self._start, self._interval = start, 1e9 / rate

    def due(self, number: int) -> int:
        """When event `number` (0, 1, 2 ...) is due, in nanoseconds of the clock of `start`."""
        return self._start + round(number * self._interval)

    def reached(self, now: int) -> int:
        """How many events are due by `now`."""
        if now < self._start:
            return 0
        number = int((now - self._start) / self._interval)
        # The division may be off by one to either side of what `due` says.
        while self.due(number) <= now:
            number += 1
        while number and self.due(number - 1) > now:
            number -= 1
        return number
