"""Loads in turns: who is loaded when, and which of the loads counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

from bench import paired
from sse_daemon.bench.cases import Throughput
from sse_daemon.bench.daemon import target
from sse_daemon.bench.load import Load, Outcome
from sse_daemon.bench.result import Result, result
from sse_daemon.bench.session import Session, Sizes

SOUND = Outcome(events=100, expected=100, received=100, seconds=1.0, server=1.0, generator=0.1, latency=None)


class Scripted:
    """Loads that cost what they are told to; warming up, which is a shorter one, costs nothing of that. log: (server, seconds, w)."""

    def __init__(self, **costs: list[Outcome]) -> None:
        self.costs = {name: iter(outcomes) for name, outcomes in costs.items()}
        self.log: list[tuple[str, float, int]] = []
        self.open_at_once = 0

    @contextmanager
    def open(self, session: Session, n: int) -> Iterator[Load]:
        self.open_at_once += 1
        yield cast(Load, _Load(self, session.target.name))

    def result(self, session: Session, outcome: Outcome, n: int, w: int) -> Result:
        return result("to-one", session.target.name, outcome, {"n": n, "w": w}, cpu_us_per_event=outcome.cpu_per_event)


class _Load:
    def __init__(self, script: Scripted, name: str) -> None:
        self._script, self._name = script, name

    def closed_loop(self, w: int, seconds: float) -> Any:
        assert self._script.open_at_once == 2, "all are open before the first load"
        if seconds < 0.5:
            return None
        self._script.log.append((self._name, seconds, w))
        return next(self._script.costs[self._name])


def test_servers_take_turns_and_the_middle_one_of_their_loads_counts() -> None:
    names = ("one", "two")
    costs = {"one": (3.0, 1.0, 2.0), "two": (5.0, 9.0, 7.0)}
    script = Scripted(**{name: [replace(SOUND, server=cost) for cost in costs[name]] for name in names})
    found = paired.paired(*_arguments(script, names), ws=[64])
    assert script.log == [(name, 0.5, 64) for name in ("one", "two", "two", "one", "one", "two")]
    assert [(each.name, each.target, each.figures["cpu_us_per_event"]) for each in found] == [
        ("workers to=one n=10 w=64", "one", 20_000.0),
        ("workers to=one n=10 w=64", "two", 70_000.0),
    ]


def test_what_was_wrong_with_any_load_is_said_once() -> None:
    lossy = replace(SOUND, received=99, server=9.0)
    script = Scripted(one=[SOUND, lossy, lossy], two=[SOUND] * 3)
    first, second = paired.paired(*_arguments(script, ("one", "two")), ws=[1])
    assert first.faults == ("1 of 100 deliveries never came",) and not second.faults


def _arguments(script: Scripted, names: tuple[str, ...]) -> tuple[list[Session], str, Throughput, int]:
    aimed = [replace(target(host="h", port=1, pubsub="p"), name=name) for name in names]
    sessions = [Session(target=each, sizes=Sizes(seconds=1.0)) for each in aimed]
    return sessions, "workers", Throughput("to-one", script.open, script.result), 10
