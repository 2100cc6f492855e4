"""How late the loop is for what is due: the time for which something held it, or for which the machine kept it from running.

Slices that look short by themselves prove nothing: several can follow each other in one turn, and the kernel's part of a system
call counts too. So this asks the loop itself, as anything else that waits for its turn would.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque

EVERY = 0.05
"""Seconds between two questions. One costs about 20 us, so that an idle daemon spends 0.04 % of a core on them."""
KEPT = 10.0
"""Seconds for which the worst answer is remembered at least; twice that at most."""

SUSTAINED = 2.0
"""Seconds from the first bad answer of several in a row to the last, before that is more than a peak: one pause, however long, is a peak."""


class LoopLag:
    """Asks from the moment it is made until `close`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._latest = self._before = 0.0
        self._renewed = loop.time()
        self._answers: deque[tuple[float, float]] = deque()
        self._due = self._renewed + EVERY
        self._handle = loop.call_at(self._due, self._look)

    @property
    def worst(self) -> float:
        """Seconds of the longest delay lately. What held the loop between two questions and was over by then is not seen."""
        return max(self._latest, self._before)

    def sustained(self, limit: float) -> bool:
        """Whether everything was late by more than `limit` seconds for SUSTAINED seconds, and still is. A limit of 0 is none."""
        if not limit or not self._answers:
            return False
        bad = itertools.takewhile(lambda answer: answer[1] > limit, reversed(self._answers))
        times = [when for when, _ in bad]
        return bool(times) and times[0] - times[-1] >= SUSTAINED

    def forget(self) -> None:
        """What was until now counts no longer: while a process starts much holds its loop, and nobody waits for it."""
        self._latest = self._before = 0.0
        self._answers.clear()

    def close(self) -> None:
        """Asks no more."""
        self._handle.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if now - self._renewed >= KEPT:
            self._renewed = now
            self._before, self._latest = self._latest, 0.0
        self._latest = max(self._latest, now - self._due)
        self._answers.append((now, now - self._due))
        # One from before stays: how long it has been bad is counted from it.
        while len(self._answers) > 2 and self._answers[1][0] <= now - SUSTAINED:
            self._answers.popleft()
        # From now on and not from when it was due: after a long delay the missed ones are not asked in a row.
        self._due = now + EVERY
        self._handle = self._loop.call_at(self._due, self._look)
