"""The cases about streams: opening many, what an idle one costs, and all of them coming back at once."""

from __future__ import annotations

import time
from contextlib import closing

from sse_daemon.bench import process
from sse_daemon.bench.crowd import Crowd
from sse_daemon.bench.errors import Broken
from sse_daemon.bench.load import GRACE, generator_faults
from sse_daemon.bench.payload import payload
from sse_daemon.bench.result import Result
from sse_daemon.bench.sender import Sender
from sse_daemon.bench.session import Session

SETTLE = 0.5
"""Seconds until memory is looked at: what the opening needed is given back meanwhile."""
TOGETHER = 1000
"""Recipients of one event, at most: the daemon's default bound."""
MISSED = 20
"""Events that everybody has missed when a storm begins."""


def opening(session: Session, n: int) -> Result:
    """Opens n streams as fast as they come; then what an idle one takes of memory, if it is known whose."""
    pids = process.family(session.target.pids)
    memory, cpu = process.memory(pids), process.cpu(pids)
    with Crowd(session.target) as crowd:
        own, start = process.Own(), time.monotonic()
        session.open(crowd, session.own_keys(n), sample=n)
        seconds, share = time.monotonic() - start, own.share()
        figures = {"streams_per_second": n / seconds}
        if pids:
            figures["cpu_us_per_stream"] = (process.cpu(pids) - cpu) * 1e6 / n
            figures["streams_per_cpu_second"] = 1e6 / figures["cpu_us_per_stream"]
            time.sleep(SETTLE)
            figures["memory_bytes_per_stream"] = (process.memory(pids) - memory) / n
        faults = [f"the server closed {crowd.ended} streams"] if crowd.ended else []
    server = figures["cpu_us_per_stream"] * n / 1e6 / seconds if pids else None
    faults += generator_faults(share, server)
    return Result(
        case="opening",
        target=session.target.name,
        at={"n": n},
        figures=figures,
        generator=share,
        server=server,
        faults=tuple(faults),
    )


def storm(session: Session, n: int) -> Result:
    """n streams are cut; MISSED events later all of them come back with the cursor that they had: until everybody has everything.

    A thousand participants have n/1000 streams each, and every event is for all of them; where a server has no events for several,
    all streams share one key.
    """
    several = session.target.separator is not None
    keys = [session.target.key(number % min(n, TOGETHER) if several else 0) for number in range(n)]
    to = (session.target.separator or "").join(dict.fromkeys(keys))
    with Crowd(session.target) as crowd, closing(session.sender()) as publisher:
        crowd.cursors = True
        crowd.watch(publisher.descriptor, publisher.arrived)
        session.open(crowd, keys, sample=1)
        cursor = _first(session, crowd, publisher, to)
        crowd.cut()
        for number in range(1, MISSED + 1):
            publisher.send(to, payload(time.monotonic_ns(), number, session.sizes.size))
        publisher.flush()
        before, pids = crowd.total, process.family(session.target.pids)
        cpu, own, start = process.cpu(pids), process.Own(), time.monotonic()
        session.open(crowd, keys, sample=1, cursor=cursor)
        seconds, share = _collect(crowd, before + n * MISSED) - start, own.share()
        figures = {"seconds": seconds, "streams_per_second": n / seconds}
        if pids:
            figures["cpu_us_per_stream"] = (process.cpu(pids) - cpu) * 1e6 / n
        return _storm(session, crowd, n, figures, share)


def _first(session: Session, crowd: Crowd, publisher: Sender, to: str) -> str:
    """Publishes one event, so that everybody has a cursor; returns it."""
    publisher.send(to, payload(time.monotonic_ns(), 0, session.sizes.size))
    publisher.flush()
    _collect(crowd, len(crowd))
    if crowd.total != len(crowd) or crowd.cursor is None:
        raise Broken(f"{crowd.total} of {len(crowd)} streams got the event before the storm, its id is {crowd.cursor}")
    return crowd.cursor


def _collect(crowd: Crowd, total: int) -> float:
    """Reads until `total` deliveries are there, or none came for GRACE; when the last one did."""
    last = time.monotonic()
    while crowd.total < total and time.monotonic() - last < GRACE:
        before = crowd.total
        crowd.turn(0.2)
        if crowd.total != before:
            last = time.monotonic()
    return last


def _storm(session: Session, crowd: Crowd, n: int, figures: dict[str, float], share: float) -> Result:
    holes = sum(max(0, MISSED - subscriber.got) for subscriber in crowd.subscribers) + (n - len(crowd)) * MISSED
    repeats = sum(max(0, subscriber.got - MISSED) for subscriber in crowd.subscribers)
    faults = [f"{holes} events are missing after the storm"] if holes else []
    faults += [f"{repeats} events came again"] if repeats else []
    faults += [f"{crowd.disordered} events came out of order"] if crowd.disordered else []
    faults += [f"the server closed {crowd.ended} streams"] if crowd.ended else []
    return Result(
        case="storm",
        target=session.target.name,
        at={"n": n, "missed": MISSED},
        figures={**figures, "holes": holes, "repeats": repeats},
        sent=MISSED,
        received=n * MISSED - holes + repeats,
        expected=n * MISSED,
        generator=share,
        server=figures["cpu_us_per_stream"] * n / 1e6 / figures["seconds"] if "cpu_us_per_stream" in figures else None,
        faults=tuple(faults),
    )
