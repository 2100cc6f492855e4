"""The cases about throughput: each opens its own subscribers, loads them and says what it measured. latency.py, streams.py have others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from sse_daemon.bench.load import Aim, Load, Outcome
from sse_daemon.bench.result import Result, of_latency, result
from sse_daemon.bench.sender import ZmqSender
from sse_daemon.bench.session import WARM_UP, Session


class Throughput(NamedTuple):
    """One kind of load. open: n subscribers, and what publishes to them; result: what became of one load with w on their way."""

    case: str
    open: Callable[[Session, int], AbstractContextManager[Load]]
    result: Callable[[Session, Outcome, int, int], Result]


def to_all(session: Session, n: int, ws: Sequence[int]) -> list[Result]:
    """n subscribers of one participant, every event for all of them; a load for each of `ws`, which is so many on their way."""
    return _each(TO_ALL, session, n, ws)


def to_one(session: Session, n: int, ws: Sequence[int]) -> list[Result]:
    """n subscribers, a participant each, every event for one of them; a load for each of `ws`, which is so many on their way."""
    return _each(TO_ONE, session, n, ws)


def _each(kind: Throughput, session: Session, n: int, ws: Sequence[int]) -> list[Result]:
    with kind.open(session, n) as load:
        return [kind.result(session, loaded(session, load, w), n, w) for w in ws]


@contextmanager
def _load_to_all(session: Session, n: int) -> Iterator[Load]:
    with session.crowd(session.all_keys(n)) as crowd, session.load(crowd, session.sender_to_all(), session.to_all(n)) as load:
        yield load


@contextmanager
def _load_to_one(session: Session, n: int) -> Iterator[Load]:
    with session.crowd(session.own_keys(n)) as crowd, session.load(crowd, session.sender(), session.to_one(n)) as load:
        yield load


def _to_all(session: Session, outcome: Outcome, n: int, w: int) -> Result:
    return result(
        "to-all",
        session.target.name,
        outcome,
        {"n": n, "w": w},
        deliveries_per_second=outcome.deliveries_per_second,
        events_per_second=outcome.events_per_second,
        cpu_us_per_delivery=outcome.cpu_per_delivery,
    )


def _to_one(session: Session, outcome: Outcome, n: int, w: int) -> Result:
    return result(
        "to-one",
        session.target.name,
        outcome,
        {"n": n, "w": w},
        events_per_second=outcome.events_per_second,
        cpu_us_per_event=outcome.cpu_per_event,
    )


TO_ALL = Throughput("to-all", _load_to_all, _to_all)
TO_ONE = Throughput("to-one", _load_to_one, _to_one)


def loaded(session: Session, load: Load, w: int) -> Outcome:
    """A closed loop after the same load has run for a while."""
    seconds = session.sizes.seconds
    load.closed_loop(w, seconds * WARM_UP)
    session.progress(f"{w} outstanding", 0.5)
    return load.closed_loop(w, seconds)


def acked(session: Session, w: int) -> Result:
    """One producer with w requests in flight, each answered when the event is stored; one subscriber counts them."""
    target, sizes = session.target, session.sizes
    if target.acked is None:
        raise ValueError(f"{target.name} has no acked socket")
    aim = Aim(keys=session.own_keys(1), each=1, size=sizes.size)
    with session.crowd(aim.keys) as crowd, session.load(crowd, ZmqSender(target.acked, in_flight=w), aim) as load:
        load.closed_loop(w, sizes.seconds * WARM_UP)
        outcome = load.closed_loop(w, sizes.seconds)
    return result(
        "acked",
        target.name,
        outcome,
        {"w": w},
        events_per_second=outcome.events_per_second,
        cpu_us_per_event=outcome.cpu_per_event,
        **of_latency(outcome.answers),
    )
