"""What the daemon is meant to reach, held against a record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bench.plan import COMPILED, FLOOR, NCHAN, OWN, SQLITE, WORKERS
from bench.record import Medians


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One figure of one measurement, or its ratio to a peer's, that is at most (or at least) `limit`."""

    what: str
    name: str
    figure: str
    limit: float
    unit: str
    least: bool = False
    peer: str | None = None
    server: str = OWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A goal and what was measured; None: it was not."""

    goal: Goal
    measured: float | None
    peer: float | None
    ratio: float | None

    @property
    def met(self) -> bool | None:
        judged = self.measured if self.goal.peer is None else self.ratio
        if judged is None:
            return None
        return judged >= self.goal.limit if self.goal.least else judged <= self.goal.limit


def _delivery(n: int, w: int, peer: str, limit: float) -> Goal:
    return Goal(
        what=f"to all, N={n:,}, W={w}: CPU a delivery",
        name=f"to-all n={n} w={w}",
        figure="cpu_us_per_delivery",
        unit="us",
        limit=limit,
        peer=peer,
    )


def _workers(to: str, n: int, w: int, figure: str) -> Goal:
    what = f"two workers, to {to}, N={n:,}, W={w}: CPU a delivery"
    name = f"workers to={to} n={n} w={w}"
    return Goal(what=what, name=name, figure=figure, unit="us", limit=1.15, server=WORKERS, peer=OWN)


def _many(n: int) -> Goal:
    return Goal(
        what=f"to all, N={n:,}, W=16: deliveries a second",
        name=f"to-all n={n} w=16",
        figure="deliveries_per_second",
        unit="/s",
        limit=10,
        least=True,
        peer=NCHAN,
    )


_PLAIN = (
    *(_delivery(n, 1, NCHAN, 0.9) for n in (1000, 5000)),
    *(_delivery(n, 1, FLOOR, 1.5) for n in (1000, 5000)),
    *(_many(n) for n in (1000, 5000)),
    *(_delivery(n, 16, FLOOR, 1.5) for n in (1000, 5000)),
    Goal(
        what="to one, N=10,000, W=64: events a second",
        name="to-one n=10000 w=64",
        figure="events_per_second",
        unit="/s",
        limit=1.5,
        least=True,
        peer=NCHAN,
    ),
    Goal(what="single event, idle: p99 from send to receipt", name="idle", figure="p99_us", unit="us", limit=1, peer=NCHAN),
    Goal(
        what="streams opened a second, one core",
        name="opening n=10000",
        figure="streams_per_second",
        unit="/s",
        limit=5000,
        least=True,
    ),
    Goal(
        what="memory of an idle stream, N=10,000", name="opening n=10000", figure="memory_bytes_per_stream", unit="B", limit=3500
    ),
    Goal(what="storm of 10,000: all caught up", name="storm n=10000 missed=20", figure="seconds", unit="s", limit=4),
    Goal(
        what="sqlite, acked, 64 in flight: events a second, on disk",
        name="acked w=64",
        figure="events_per_second",
        unit="/s",
        limit=10000,
        least=True,
        server=SQLITE,
    ),
    Goal(
        what="p99 of 99 % healthy beside 1 % stalled, to without",
        name="stalled n=1000 stalled=10",
        figure="p99_ratio",
        unit="",
        limit=1.2,
    ),
    *(_workers("all", n, w, "cpu_us_per_delivery") for n in (1000, 5000) for w in (1, 16)),
    *(_workers("one", 5000, w, "cpu_us_per_event") for w in (64, 256)),
)

GOALS = tuple(
    each
    for goal in _PLAIN
    for each in ([goal, replace(goal, what=f"{goal.what} (compiled)", server=COMPILED)] if goal.server == OWN else [goal])
)


def verdicts(medians: Medians) -> Iterator[Verdict]:
    """Every goal, in the order of the table."""
    for goal in GOALS:
        peer = medians.value(goal.name, goal.peer, goal.figure) if goal.peer else None
        ratio = medians.ratio(goal.name, goal.server, goal.peer, goal.figure) if goal.peer else None
        yield Verdict(goal=goal, measured=medians.value(goal.name, goal.server, goal.figure), peer=peer, ratio=ratio)
