"""Servers whose subscribers are open at once, loaded in turns of half a second: what disturbs the machine disturbs all of them.

On a machine with neighbours two loads a minute apart differ more than the servers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from sse_daemon.bench.cases import Throughput, loaded
from sse_daemon.bench.load import Load, Outcome
from sse_daemon.bench.result import Result
from sse_daemon.bench.session import Session

BEATS = 3
"""Loads of each server for one result, which is the middle one."""


def paired(sessions: Sequence[Session], case: str, kind: Throughput, n: int, ws: Sequence[int]) -> list[Result]:
    """n subscribers on each server; for each of `ws` a result of each, named after `case`."""
    sessions = [replace(each, sizes=replace(each.sizes, seconds=each.sizes.seconds / 2)) for each in sessions]
    with ExitStack() as stack:
        loads = [stack.enter_context(kind.open(session, n)) for session in sessions]
        return [result for w in ws for result in _results(sessions, loads, case, kind, n, w)]


def _results(sessions: Sequence[Session], loads: Sequence[Load], case: str, kind: Throughput, n: int, w: int) -> list[Result]:
    found: list[list[Outcome]] = [[] for _ in loads]
    for beat in range(BEATS):
        for place in range(len(loads))[:: -1 if beat % 2 else 1]:
            found[place].append(loaded(sessions[place], loads[place], w))
    results = []
    for session, outcomes in zip(sessions, found, strict=True):
        result = kind.result(session, _middle(outcomes), n, w)
        faults = tuple(dict.fromkeys(fault for outcome in outcomes for fault in outcome.faults()))
        results.append(replace(result, case=case, at={"to": kind.case.removeprefix("to-"), **result.at}, faults=faults))
    return results


def _middle(outcomes: Sequence[Outcome]) -> Outcome:
    """The one of median CPU for a delivery."""
    return sorted(outcomes, key=lambda each: each.cpu_per_delivery or 0.0)[len(outcomes) // 2]
