"""Publishing to a crowd and waiting for every delivery: a closed loop keeps so many outstanding, an open loop keeps to a clock."""

from __future__ import annotations

import gc
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sse_daemon.bench import process
from sse_daemon.bench.crowd import Crowd
from sse_daemon.bench.errors import Broken
from sse_daemon.bench.figures import Latency, Schedule
from sse_daemon.bench.payload import payload
from sse_daemon.bench.sender import Sender

GRACE = 3.0
"""Seconds without a delivery after which those that are missing count as lost."""
BUSY = 0.8
"""Share of a core from which on the generator may be what limits the figures, unless the server is as busy. (It reads each delivery as
soon as it comes, as clients would, so it is busier than it need be: left alone for longer, it would read more at a time.)"""
SLICE = 256
"""Reads between two looks at the clock of an open loop: half a millisecond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one load. seconds: from the first event to the last delivery. server: its CPU seconds, if known.

    generator: the share of a core that the generator itself used. late: of an open loop, the longest that it was behind its own clock, in
    seconds; that is part of the latencies. answers: what the publisher waited for each of them, where there are any.
    """

    events: int
    expected: int
    received: int
    seconds: float
    server: float | None
    generator: float
    latency: Latency | None
    disordered: int = 0
    ended: int = 0
    late: float = 0.0
    answers: Latency | None = None
    unanswered: int = 0

    @property
    def deliveries_per_second(self) -> float:
        return self.received / self.seconds if self.seconds else 0.0

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0

    @property
    def server_share(self) -> float | None:
        """1.0 is one core."""
        return self.server / self.seconds if self.server is not None and self.seconds else None

    @property
    def cpu_per_delivery(self) -> float | None:
        """Microseconds of the server's CPU."""
        return self.server * 1e6 / self.received if self.server is not None and self.received else None

    @property
    def cpu_per_event(self) -> float | None:
        """Microseconds of the server's CPU."""
        return self.server * 1e6 / self.events if self.server is not None and self.events else None

    def faults(self) -> Iterator[str]:
        """Why this is no sound measurement, if so."""
        if self.received < self.expected:
            yield f"{self.expected - self.received} of {self.expected} deliveries never came"
        if self.received > self.expected:
            yield f"{self.received - self.expected} deliveries too many"
        if self.unanswered:
            yield f"{self.unanswered} published events were never answered"
        if self.disordered:
            yield f"{self.disordered} sampled deliveries came twice or out of order"
        if self.ended:
            yield f"the server closed {self.ended} streams"
        yield from generator_faults(self.generator, self.server_share)


def generator_faults(generator: float, server: float | None) -> Iterator[str]:
    """Whether the generator may be what limits the figures: it is busy, and the server is not. Both as shares of a core."""
    if generator > BUSY and (server is None or server < BUSY):
        beside = f", the server {server:.0%}" if server is not None else ""
        yield f"the generator used {generator:.0%} of a core{beside}: it may be what limits these figures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """Whom the events are for: these keys in turn, each of which reaches `each` subscribers. size: bytes of the payload."""

    keys: Sequence[str]
    each: int
    size: int


class Load:
    """One publisher and the crowd in one loop. The methods return when every delivery came, or none did for GRACE."""

    def __init__(self, crowd: Crowd, sender: Sender, aim: Aim) -> None:
        self._crowd, self._sender, self._aim = crowd, sender, aim
        self._keys = itertools.cycle(aim.keys)
        self._numbers = itertools.count()
        self._sent = self._base = 0
        self._last = 0.0
        crowd.watch(sender.descriptor, sender.arrived)

    def close(self) -> None:
        """Ends the publisher; the crowd stays."""
        self._crowd.unwatch(self._sender.descriptor)
        self._sender.close()

    def closed_loop(self, outstanding: int, seconds: float = 0.0, events: int = 0) -> Outcome:
        """Keeps `outstanding` events on their way for `seconds`, or until there were `events`."""
        return self._measured(lambda: self._keep(outstanding, seconds, events))

    def open_loop(self, rate: float, seconds: float) -> Outcome:
        """Sends `rate` events a second; latency counts from when each was due."""
        return self._measured(lambda: self._follow(Schedule(time.monotonic_ns(), rate), max(1, round(rate * seconds))))

    def spaced(self, events: int, pause: float) -> Outcome:
        """One event at a time, each `pause` seconds after the last one came; latency counts from the send."""
        return self._measured(lambda: self._space(events, pause))

    def _measured(self, run: Callable[[], float]) -> Outcome:
        """Runs with the collector off: its pauses would count as the server's."""
        crowd, pids = self._crowd, process.family(self._crowd.target.pids)
        crowd.delays.clear()
        self._sender.answers.clear()
        self._sent, self._base, disordered, ended = 0, crowd.total, crowd.disordered, crowd.ended
        with _undisturbed():
            used = process.cpu(pids) if pids else None
            own, start = process.Own(), time.monotonic()
            late = run()
            share, last = own.share(), max(self._last, start)
            used = process.cpu(pids) - used if used is not None else None
        if self._sent and crowd.total == self._base:
            raise Broken("nothing arrived of what was published; the server's log may say why")
        return Outcome(
            events=self._sent,
            expected=self._sent * self._aim.each,
            received=crowd.total - self._base,
            seconds=last - start,
            server=used,
            generator=share,
            latency=Latency.of(crowd.delays),
            answers=Latency.of(self._sender.answers),
            unanswered=self._sender.unanswered,
            disordered=crowd.disordered - disordered,
            ended=crowd.ended - ended,
            late=late,
        )

    # The three ways to publish. Each returns by how many seconds it was behind its own clock at worst.

    def _keep(self, outstanding: int, seconds: float, events: int) -> float:
        now = self._last = time.monotonic()
        end = now + seconds
        while now - self._last <= GRACE:
            if now < end or self._sent < events:
                self._fill(outstanding, events or sys.maxsize)
            elif self._complete():
                break
            now = self._turn(0.2, 1000)
        return 0.0

    def _fill(self, outstanding: int, events: int) -> None:
        """Sends until `outstanding` events are on their way, or there were `events`."""
        ahead, room = (outstanding - 1) * self._aim.each, self._sender.room
        while self._sent < events and self._missing() <= ahead and room():
            while self._sent < events and self._missing() <= ahead and room():
                self._send(time.monotonic_ns())
            # Answers that this brings make room for more, and nothing would wake us for them again.
            self._sender.flush()

    def _missing(self) -> int:
        """Deliveries of what was sent that have not come yet."""
        return self._sent * self._aim.each - (self._crowd.total - self._base)

    def _complete(self) -> bool:
        return self._missing() <= 0 and not self._sender.unanswered

    def _follow(self, schedule: Schedule, events: int) -> float:
        late, wait = 0, 0.0
        now = self._last = time.monotonic()
        # While nothing is missing nothing comes, and that is no loss.
        while now - self._last <= GRACE + wait or self._missing() <= 0:
            wait = 0.2
            if self._sent < events:
                late = max(late, time.monotonic_ns() - schedule.due(self._sent))
                for number in range(self._sent, min(schedule.reached(time.monotonic_ns()), events)):
                    self._send(schedule.due(number))
                self._sender.flush()
                wait = max(0, schedule.due(self._sent) - time.monotonic_ns()) / 1e9
            elif self._complete():
                break
            now = self._turn(wait, SLICE)
        return late / 1e9

    def _space(self, events: int, pause: float) -> float:
        for number in range(events):
            self._keep(1, 0.0, number + 1)
            if self._missing():
                break
            self._turn(pause, 1)
        return 0.0

    def _send(self, due: int) -> None:
        self._sender.send(next(self._keys), payload(due, next(self._numbers), self._aim.size))
        self._sent += 1

    def _turn(self, timeout: float, at_most: int) -> float:
        """One turn of the loop, and the time after it; notes when something came."""
        before = self._crowd.total
        self._crowd.turn(timeout, at_most)
        now = time.monotonic()
        if self._crowd.total != before:
            self._last = now
        return now


@contextmanager
def _undisturbed() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
