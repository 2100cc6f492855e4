"""The cases about time: an idle server, a part of its maximum, and a crowd with stalled clients in it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from sse_daemon.bench import cases
from sse_daemon.bench.crowd import Crowd
from sse_daemon.bench.load import Aim, Load, Outcome
from sse_daemon.bench.result import Result, of_latency, result
from sse_daemon.bench.session import WARM_UP, Session

SHARES = (0.1, 0.5, 0.8)
PAUSE = 0.002
"""Seconds between the events of an idle server: long enough for it to have gone to sleep."""
STALLED_SIZE = 2000
"""Bytes of an event among stalled clients, so that their sockets are full within the first hundred."""
STALLED_BUFFER = 4096
STALLED_EVENTS = 300
TURNS = 3
"""How often the delays are measured without and with stalled clients: one comparison may meet a disturbance of the machine."""


def idle(session: Session) -> Result:
    """One subscriber, one event at a time: from send to receipt."""
    aim = session.to_one(1)
    with session.crowd(session.own_keys(1)) as crowd, session.load(crowd, session.sender(), aim) as load:
        load.spaced(max(10, session.sizes.events // 10), PAUSE)
        outcome = load.spaced(session.sizes.events, PAUSE)
    return result("idle", session.target.name, outcome, {}, **of_latency(outcome.latency), cpu_us_per_event=outcome.cpu_per_event)


def at_rates(session: Session, n: int, maximum: float | None = None) -> list[Result]:
    """Events for all of n at parts of the maximum, which is measured first unless it is given: open loop."""
    seconds = session.sizes.seconds
    results = []
    with session.crowd(session.all_keys(n)) as crowd, session.load(crowd, session.sender_to_all(), session.to_all(n)) as load:
        load.closed_loop(64, seconds * WARM_UP)
        maximum = maximum or load.closed_loop(64, seconds).events_per_second
        for share in SHARES:
            session.progress(f"{share:.0%} of the maximum", share)
            outcome = load.open_loop(maximum * share, seconds)
            results.append(_at_rate(session, outcome, n, share, maximum))
    return results


def _at_rate(session: Session, outcome: Outcome, n: int, share: float, maximum: float) -> Result:
    return result(
        "latency",
        session.target.name,
        outcome,
        {"n": n, "load": f"{share:.0%}"},
        **of_latency(outcome.latency),
        events_per_second=maximum * share,
        generator_late_us=outcome.late * 1e6,
    )


def stalled(session: Session, n: int, share: float = 0.01) -> Result:
    """n subscribers, of whom a part reads nothing any more: the delays of the others with and without that, in turn."""
    few = max(1, round(n * share))
    healthy = n - few
    aim = Aim(keys=session.all_keys(1), each=healthy, size=STALLED_SIZE)
    without, beside = [], []
    with session.crowd(session.all_keys(healthy)) as crowd, session.load(crowd, session.sender_to_all(STALLED_SIZE), aim) as load:
        rate = cases.loaded(session, load, 1).events_per_second / 2
        for turn in range(TURNS):
            session.progress("without and with stalled clients", turn / TURNS)
            without.append(load.open_loop(rate, session.sizes.seconds))
            beside.append(_beside(session, load, few, rate))
    return _compared(session, n, few, without, beside)


def _beside(session: Session, load: Load, few: int, rate: float) -> Outcome:
    """The load beside `few` more who have stopped reading, once their sockets are full."""
    with Crowd(session.target) as others:
        others.open(session.all_keys(few), receive_buffer=STALLED_BUFFER)
        others.stall(others.subscribers)
        load.closed_loop(16, events=STALLED_EVENTS)
        return load.open_loop(rate, session.sizes.seconds)


def _compared(session: Session, n: int, few: int, without: Sequence[Outcome], beside: Sequence[Outcome]) -> Result:
    figures = {
        f"{name}_{figure}_us": statistics.median(getattr(outcome.latency, figure) for outcome in outcomes if outcome.latency)
        for name, outcomes in (("without", without), ("beside", beside))
        for figure in ("p50", "p99", "p999")
    }
    found = result("stalled", session.target.name, beside[-1], {"n": n, "stalled": few}, **figures)
    return replace(
        found,
        figures={**figures, "p99_ratio": figures["beside_p99_us"] / figures["without_p99_us"]},
        faults=tuple(fault for outcome in (*without, *beside) for fault in outcome.faults()),
    )
