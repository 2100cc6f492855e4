"""The cases about growth: what an event costs as participants, the events in memory and its recipients grow by powers of ten."""

from __future__ import annotations

from collections.abc import Sequence

from sse_daemon.bench.cases import loaded
from sse_daemon.bench.load import Aim
from sse_daemon.bench.result import Result, result
from sse_daemon.bench.session import Session

W = 64
PARTICIPANTS = (10, 100, 1000, 10000)
KEPT = (1000, 10_000, 100_000)
RECIPIENTS = (1, 10, 100, 1000)
FEW = 100
"""Subscribers in the case in which it is the number of kept events that grows."""


def participants(session: Session, n: int) -> Result:
    """Events for one of n participants, each with a stream: the cost of one should not depend on n."""
    with session.crowd(session.own_keys(n)) as crowd, session.load(crowd, session.sender(), session.to_one(n)) as load:
        outcome = loaded(session, load, W)
    return result("participants", session.target.name, outcome, {"n": n}, cpu_us_per_event=outcome.cpu_per_event)


def kept(session: Session, events: int) -> Result:
    """Events for one of FEW while the log keeps `events` more than before: the cost of one should not depend on them."""
    with session.crowd(session.own_keys(FEW)) as crowd, session.load(crowd, session.sender(), session.to_one(FEW)) as load:
        session.progress(f"{events:,} events first", 0.1)
        load.closed_loop(W, events=events)
        outcome = loaded(session, load, W)
    return result("kept", session.target.name, outcome, {"events": events}, cpu_us_per_event=outcome.cpu_per_event)


def recipients(session: Session, count: int) -> Result:
    """Events for `count` of 1,000 participants, each with a stream: the cost of a delivery should not grow with `count`."""
    n, separator = max(RECIPIENTS), session.target.separator
    if separator is None:
        raise ValueError(f"{session.target.name} has no events for several subscribers")
    aim = Aim(keys=[separator.join(group) for group in _groups(session.own_keys(n), count)], each=count, size=session.sizes.size)
    with session.crowd(session.own_keys(n)) as crowd, session.load(crowd, session.sender(), aim) as load:
        outcome = loaded(session, load, max(1, W // count))
    return result(
        "recipients",
        session.target.name,
        outcome,
        {"recipients": count},
        cpu_us_per_event=outcome.cpu_per_event,
        cpu_us_per_delivery=outcome.cpu_per_delivery,
    )


def _groups(keys: Sequence[str], count: int) -> list[list[str]]:
    """All of the keys in groups of `count`; neighbours are far apart, as they would be."""
    step = len(keys) // count
    return [list(keys[start::step]) for start in range(step)]
