"""Which cases there are, and running a choice of them one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sse_daemon.bench import cases, growth, latencies, streams
from sse_daemon.bench.errors import Broken
from sse_daemon.bench.result import Result, Skipped
from sse_daemon.bench.session import Session

ABOUT: dict[str, str] = {
    "to-all": "events for all of N streams, W on their way",
    "to-one": "events for one of N participants each, W on their way",
    "idle": "one event at a time: from send to receipt",
    "latency": "delays at 10, 50 and 80 % of the measured maximum",
    "opening": "streams opened a second, and memory of an idle one",
    "storm": "all streams cut, all resume: until everybody has everything",
    "stalled": "1 % of the clients read nothing: the delays of the others",
    "acked": "one producer that is answered when the event is stored, W in flight",
    "participants": "cost of an event as participants grow",
    "kept": "cost of an event as the events in memory grow",
    "recipients": "cost of a delivery as an event's recipients grow",
}
"""Every case in the order of a run, with what it measures."""


@dataclass(frozen=True, slots=True)
class Step:
    """One measurement, not made yet. n: the streams that it opens."""

    case: str
    n: int
    run: Callable[[Session], Result | list[Result]]


def steps(session: Session, chosen: Sequence[str]) -> list[Step]:
    """What is to be measured, of the cases `chosen`, in the order of ABOUT."""
    return [step for case in ABOUT if case in chosen for step in _steps(case, session)]


def _steps(case: str, session: Session) -> Iterator[Step]:
    n, w = session.sizes.n, session.sizes.w
    thousand = min(1000, max(n))
    match case:
        case "to-all" | "to-one":
            measure = cases.to_all if case == "to-all" else cases.to_one
            yield from (Step(case, each, _bound(measure, each, w)) for each in n)
        case "idle":
            yield Step(case, 1, latencies.idle)
        case "latency":
            yield Step(case, thousand, _bound(latencies.at_rates, thousand))
        case "opening":
            yield from (Step(case, each, _bound(streams.opening, each)) for each in n)
        case "storm":
            yield Step(case, max(n), _bound(streams.storm, max(n)))
        case "stalled":
            yield Step(case, thousand, _bound(latencies.stalled, thousand))
        case "acked" if session.target.acked is not None:
            yield from (Step(case, 1, _bound(cases.acked, wide)) for wide in w)
        case "participants":
            yield from (Step(case, each, _bound(growth.participants, each)) for each in growth.PARTICIPANTS if each <= max(n))
        case "kept":
            yield from (Step(case, growth.FEW, _bound(growth.kept, events)) for events in growth.KEPT)
        case "recipients" if session.target.separator is not None:
            yield from (Step(case, 1000, _bound(growth.recipients, count)) for count in growth.RECIPIENTS)


def _bound(measure: Callable[..., Result | list[Result]], *arguments: Any) -> Callable[[Session], Result | list[Result]]:
    return lambda session: measure(session, *arguments)


def measured(step: Step, session: Session) -> list[Result | Skipped]:
    """Runs one step. What is impossible on this machine, or broke, is said and not raised: the others go on."""
    fitting, why = session.fitting([step.n])
    if not fitting:
        return [Skipped(case=step.case, target=session.target.name, reason=str(why))]
    try:
        found = step.run(session)
    except Broken as error:
        return [Skipped(case=step.case, target=session.target.name, reason=str(error))]
    return list(found) if isinstance(found, list) else [found]


def run(session: Session, chosen: Sequence[str], tell: Callable[[str, float], object]) -> Iterator[Result | Skipped]:
    """Measures one after another. tell: what is under way, and how much of the whole is done, 0 to 1; that never goes back."""
    todo = steps(session, chosen)
    for place, step in enumerate(todo):
        within = _Part(step.case, place / len(todo), 1 / len(todo), tell)
        within("", 0.0)
        yield from measured(step, replace(session, progress=within))


class _Part:
    """The progress of one step as a part of the whole."""

    def __init__(self, case: str, begin: float, length: float, tell: Callable[[str, float], object]) -> None:
        self._case, self._begin, self._length, self._tell = case, begin, length, tell
        self._furthest = 0.0

    def __call__(self, what: str, done: float) -> None:
        self._furthest = max(self._furthest, min(1.0, done))
        self._tell(f"{self._case}: {what}" if what else self._case, self._begin + self._length * self._furthest)
