"""How many times as long one piece of work takes as another, on a machine that does other things meanwhile.

The two are run in turns, in rounds of a fraction of a millisecond: what changes slowly (the clock of the CPU, a neighbour) then
meets both alike, and most rounds end before anybody takes the CPU away. Of each kind the fast rounds count, which are those that
nobody disturbed.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

Round = Callable[[], object]

WARM = 20
"""Rounds before anything is timed: the interpreter specialises its bytecode, state reaches its usual size."""
FAST = 0.1
"""The part of the rounds that counts as undisturbed. Not the single fastest: that one may have had luck (a cache, a clock)."""


class Comparison(NamedTuple):
    """seconds, reference: of an undisturbed round of each."""

    seconds: float
    reference: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.reference


def compare(piece: Round, reference: Round, rounds: int) -> Comparison:
    """Runs both `rounds` times in turns."""
    mine: list[float] = []
    other: list[float] = []
    with undisturbed():
        for _ in range(WARM):
            reference()
            piece()
        for _ in range(rounds):
            begun = perf_counter()
            reference()
            between = perf_counter()
            piece()
            ended = perf_counter()
            other.append(between - begun)
            mine.append(ended - between)
    return Comparison(_fast(mine), _fast(other))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Without the collector, and without a debugger's or a coverage tool's eye on every line."""
    tracer, collecting = sys.gettrace(), gc.isenabled()
    sys.settrace(None)
    gc.disable()
    try:
        yield
    finally:
        sys.settrace(tracer)
        if collecting:
            gc.enable()


def _fast(times: list[float]) -> float:
    return sorted(times)[int(len(times) * FAST)]
