"""A fan-out to thousands of streams holds up nobody: whoever asks for something meanwhile is answered long before it is over.

Probes ask for one thing after the other while fan-outs run. Nothing here knows how long anything may take: a probe's wait is held
against the duration of the fan-out that it fell into. If a fan-out were one piece, whoever asks in it would wait for its end.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Self

import pytest

from tests.integration.client import Client as Connection
from tests.integration.daemon import DEADLINE, RunningDaemon, environ
from tests.integration.peers import Acked, connect, event, metrics, operator, wait

STREAMS = 5000
WORK = 80_000
"""Events of one fan-out times streams: with fewer streams than wished for (the limit of open files) each gets more."""
FANOUTS = 10
MARK = "the last of them"
HALF = 0.5
"""Of a fan-out. A probe waits for one slice or, if it needs several turns of the loop, a few: a tenth, and a fifth on a crowded
machine. In a fan-out that is one piece it waits for all of it."""
CONFIG = "[streams]\nheartbeat = 1.0\nstall_timeout = 600.0\n"


class Span(NamedTuple):
    """Seconds on the monotonic clock."""

    begun: float
    ended: float

    def part_of(self, other: Span) -> float:
        """Which part of `other` this covers."""
        return max(0.0, min(self.ended, other.ended) - max(self.begun, other.begun)) / (other.ended - other.begun)


def ask_on(ask: Callable[[], object], stop: threading.Event) -> list[Span]:
    """Asks for the same thing again and again; when, and how long each answer took."""
    waits = []
    while not stop.is_set():
        begun = time.monotonic()
        ask()
        waits.append(Span(begun, time.monotonic()))
    return waits


@contextmanager
def probing(**asks: Callable[[], object]) -> Iterator[dict[str, Future[list[Span]]]]:
    """Asks, each in a thread of its own, as long as this lasts; afterwards the results are there."""
    stop = threading.Event()
    with ThreadPoolExecutor(len(asks)) as threads:
        try:
            yield {name: threads.submit(ask_on, ask, stop) for name, ask in asks.items()}
        finally:
            stop.set()


def longest(waits: Sequence[Span], fanouts: Sequence[Span]) -> float:
    """The largest part of a fan-out that one wait took, in a fan-out of the usual kind: the machine may have hiccups."""
    return median(max(wait.part_of(fanout) for wait in waits) for fanout in fanouts)


@pytest.fixture
def streams() -> Iterator[int]:
    """How many streams two processes can have here, with as many files as they may be given."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = STREAMS + 1000 if hard == resource.RLIM_INFINITY else min(hard, STREAMS + 1000)
    files = max(files, soft)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    yield min(STREAMS, files - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Crowd:
    """The clients of the fan-outs, in a process of their own."""

    def __init__(self, daemon: RunningDaemon, count: int) -> None:
        command = [sys.executable, str(Path(__file__).with_name("crowd.py")), str(daemon.http_port), str(count), MARK]
        self.process = subprocess.Popen(
            command, env=environ({}), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self._lines = self.process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        """What it says next; it is ended, and with it this, if that takes for ever."""
        watch = threading.Timer(2 * DEADLINE, self.process.kill)
        watch.start()
        try:
            line = self._lines.readline()
        finally:
            watch.cancel()
        assert line, f"the crowd ended: {self.process.communicate()[1]}"
        return line

    def fanout(self) -> Span:
        """The next one, once it is over."""
        return Span(*json.loads(self.line()))


def test_whoever_asks_for_something_during_a_fan_out_is_answered_within_it(streams: int) -> None:
    with ExitStack() as stack:
        daemon = stack.enter_context(RunningDaemon(CONFIG))
        producer, prober = (stack.enter_context(Acked(daemon.acked)) for _ in range(2))
        crowd = stack.enter_context(Crowd(daemon, streams))
        quiet = stack.enter_context(connect(daemon, "quiet", types="nothing", heartbeat="event"))
        assert crowd.line() == "open\n"
        batch = [event("*", "x" * 100)] * (WORK // streams - 1) + [event("*", MARK)]
        fanouts: list[Span] = []

        def fan_out() -> bool:
            producer.store(*batch)
            fanouts.append(crowd.fanout())
            return len(fanouts) >= FANOUTS

        beats = len(quiet.of("heartbeat"))
        with probing(
            admin=lambda: operator(daemon, "/groups"),
            ack=lambda: prober.store(event(["nobody"], "x")),
            new_stream=lambda: open_and_close(daemon),
        ) as probes:
            wait(lambda: fan_out() and len(quiet.of("heartbeat")) > beats, "fan-outs, and a heartbeat among them", [quiet])
        waited = {name: longest(probe.result(), fanouts) for name, probe in probes.items()}
        assert max(waited.values()) < HALF, waited
        usual = median(fanout.ended - fanout.begun for fanout in fanouts)
        assert 0 < metrics(daemon)["loop_lag_seconds"] < usual


def open_and_close(daemon: RunningDaemon) -> None:
    """A stream from its connection to its first block."""
    with Connection(daemon.http_port) as connection:
        response: Any = connection.get("/events", ("X-Public-Key", "guest"))
        assert response.status == 200
        response.blocks(1)
