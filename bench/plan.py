"""What a run measures: which cases at which sizes, on which servers, in how many rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

from bench.paired import paired
from sse_daemon.bench import cases, growth, latencies, streams
from sse_daemon.bench.result import Result
from sse_daemon.bench.session import Session

OWN, COMPILED, SQLITE, NCHAN, FLOOR = "sse-daemon", "sse-daemon compiled", "sse-daemon sqlite", "nchan", "floor"
WORKERS = "sse-daemon two workers"
"""On the one core of all servers, beside the one process: what is looked at is what they cost."""
SPREAD, SPREAD_WORKERS = f"{OWN} on all cores", f"{WORKERS} on all cores"
"""Not bound, and so in the generator's way: what is looked at is how much faster more cores are."""
BOTH = (OWN, COMPILED, NCHAN)
ALL = (*BOTH, FLOOR)


Loads: TypeAlias = "tuple[cases.Throughput, int, Sequence[int]]"
"""A kind of load, how many subscribers each server has, how many events are on their way."""
_ALL_5000: Loads = (cases.TO_ALL, 5000, (1, 16))


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One measurement of one server, or of all of them at once. n: subscribers of each. measure: gets a session of each.

    fresh: on one that was only just started, for the sake of its memory. together: all servers in one turn.
    """

    case: str
    name: str
    n: int
    servers: Sequence[str]
    measure: Callable[[Sequence[Session]], list[Result]] = field(compare=False)
    fresh: bool = False
    together: bool = False
    rounds: int | None = None
    """Fewer than the run's, where a case is long or shows a shape more than a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All items, `rounds` times, servers alternating within each item. seconds: of one load."""

    name: str
    items: Sequence[Item]
    rounds: int
    seconds: float
    events: int

    def turns(self) -> Iterator[tuple[int, Item, Sequence[str]]]:
        """(round, item, servers that are measured together) in the order of the run."""
        for number in range(self.rounds):
            for item in self.items:
                if number < (item.rounds or self.rounds):
                    # Every other round the other way round, so that nobody is always the first on a warm machine.
                    servers = item.servers[:: -1 if number % 2 else 1]
                    yield from ((number, item, each) for each in ([servers] if item.together else [[one] for one in servers]))


def quick(chosen: Sequence[str]) -> Plan:
    """Some minutes: every target of the project, three times; the curves once."""
    every = [
        _to_all(1000, (1, 16, 64), ALL),
        _to_all(5000, (1, 16), ALL),
        _to_one(10000, (64,), BOTH),
        *_workers("workers", (OWN, WORKERS), ((cases.TO_ALL, 1000, (1, 16)), _ALL_5000, (cases.TO_ONE, 5000, (64, 256)))),
        *_scaling(),
        *_common(10000, BOTH, curves=1),
        _to_all(100, (1, 16, 64), ALL, rounds=1),
        _to_one(1000, (1, 16, 64), BOTH, rounds=1),
    ]
    return Plan(name="quick", items=_only(every, chosen), rounds=3, seconds=1.0, events=500)


def full(chosen: Sequence[str]) -> Plan:
    """Everything: what a target is about five times, what is only drawn three times."""
    every = [
        _to_all(1000, (1, 16, 64), ALL),
        _to_all(5000, (1, 16, 64), ALL),
        _to_one(10000, (1, 16, 64, 256), BOTH),
        *(_to_all(n, (1, 16, 64), ALL, rounds=3) for n in (100, 10000)),
        *(_to_one(n, (1, 16, 64), BOTH, rounds=3) for n in (100, 1000, 5000)),
        *_workers(
            "workers",
            (OWN, WORKERS),
            ((cases.TO_ALL, 1000, (1, 16, 64)), _ALL_5000, (cases.TO_ONE, 5000, (1, 16, 64, 256))),
        ),
        *_scaling(),
        *_common(10000, BOTH, curves=3),
        *(_opening(n, BOTH, rounds=3) for n in (100, 1000, 5000)),
    ]
    return Plan(name="full", items=_only(every, chosen), rounds=5, seconds=1.0, events=1000)


def peers(names: Sequence[str], chosen: Sequence[str]) -> Plan:
    """The daemon beside all of these servers, at a size that the slowest of them bears."""
    servers = (OWN, *names)
    every = [_to_all(1000, (1, 16), servers), _to_one(1000, (64,), servers), _opening(1000, servers), _idle(servers)]
    return Plan(name="peers", items=_only(every, chosen), rounds=3, seconds=1.0, events=300)


def _common(n: int, servers: Sequence[str], curves: int) -> Iterator[Item]:
    """What is the same in a quick and a full run. curves: rounds of what is drawn."""
    yield _idle(servers)
    yield _opening(n, servers)
    yield Item(case="storm", name=f"storm {n}", n=n, servers=(OWN, COMPILED), measure=_of(streams.storm, n), fresh=True)
    yield Item(case="stalled", name="stalled", n=1000, servers=(OWN, COMPILED), measure=_of(latencies.stalled, 1000))
    yield Item(case="acked", name="acked", n=1, servers=(SQLITE,), measure=_of(cases.acked, 64))
    yield Item(
        case="latency",
        name="latency",
        n=1000,
        servers=servers,
        measure=_of(latencies.at_rates, 1000),
        rounds=curves,
    )
    for name, measure, sizes in (
        ("participants", growth.participants, growth.PARTICIPANTS),
        ("kept", growth.kept, growth.KEPT),
        ("recipients", growth.recipients, growth.RECIPIENTS),
    ):
        for size in sizes:
            yield Item(
                case=name,
                name=f"{name} {size}",
                n=size if name == "participants" else 1000,
                servers=(OWN,),
                measure=_of(measure, size),
                fresh=name == "kept",
                rounds=curves,
            )


def _workers(case: str, servers: Sequence[str], loads: Sequence[Loads], rounds: int | None = None) -> Iterator[Item]:
    """One process and two workers, side by side: with 10,000 streams between them at most, as many open files as elsewhere."""
    for kind, n, ws in loads:
        measure = partial(paired, case=case, kind=kind, n=n, ws=ws)
        name = f"{case} {kind.case} {n}"
        yield Item(case=case, name=name, n=n, servers=servers, measure=measure, together=True, rounds=rounds)


def _scaling() -> Iterator[Item]:
    """The same where each may run anywhere."""
    servers = (SPREAD, SPREAD_WORKERS)
    yield from _workers("scaling", servers, (_ALL_5000, (cases.TO_ONE, 5000, (64, 256))), 3)
    yield replace(_opening(10000, servers, 3), case="scaling", name="scaling opening 10000")


def _to_all(n: int, ws: Sequence[int], servers: Sequence[str], rounds: int | None = None) -> Item:
    return Item(case="to-all", name=f"to-all {n}", n=n, servers=servers, measure=_of(cases.to_all, n, ws), rounds=rounds)


def _to_one(n: int, ws: Sequence[int], servers: Sequence[str], rounds: int | None = None) -> Item:
    return Item(case="to-one", name=f"to-one {n}", n=n, servers=servers, measure=_of(cases.to_one, n, ws), rounds=rounds)


def _opening(n: int, servers: Sequence[str], rounds: int | None = None) -> Item:
    measure = _of(streams.opening, n)
    return Item(case="opening", name=f"opening {n}", n=n, servers=servers, measure=measure, fresh=True, rounds=rounds)


def _idle(servers: Sequence[str]) -> Item:
    return Item(case="idle", name="idle", n=1, servers=servers, measure=_of(latencies.idle))


def _of(measure: Callable[..., Result | list[Result]], *arguments: Any) -> Callable[[Sequence[Session]], list[Result]]:
    def measured(sessions: Sequence[Session]) -> list[Result]:
        (session,) = sessions
        found = measure(session, *arguments)
        return found if isinstance(found, list) else [found]

    return measured


def _only(items: Sequence[Item], chosen: Sequence[str]) -> list[Item]:
    return [item for item in items if not chosen or item.case in chosen]
