"""What time does to streams: heartbeats in silence, an end for those that vanish, stall, pin memory, or have lived long enough."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Callable
from typing import NamedTuple

from sse_daemon import sse
from sse_daemon.event import Cursor
from sse_daemon.hub import SLICE, Hub
from sse_daemon.stream import State, Stream

MAX_TICK = 1.0
VANISHED = 20.0
"""Seconds after a heartbeat that is not acknowledged: whoever is there has acknowledged it by then, however bad the network is."""
ENDED_KEPT = 100
"""Streams that ended and still stand in the wheel, beyond twice as many as are open: about a kilobyte each."""


class Timing(NamedTuple):
    """Seconds: heartbeat (silence before one), stall_timeout; bytes: pinned_limit."""

    heartbeat: float
    stall_timeout: float
    pinned_limit: int

    @property
    def tick(self) -> float:
        """How often time is looked at: a tenth of the shortest of these, and at least once a second."""
        return min(MAX_TICK, self.heartbeat / 10, self.stall_timeout / 10)


class Liveness:
    """One timer for all streams.

    Each stream stands in one slot of a wheel, at the time when something may be due; writes do not touch the wheel, a stream
    that was written to meanwhile is just put off.
    """

    def __init__(
        self, hub: Hub, timing: Timing, loop: asyncio.AbstractEventLoop, wall: Callable[[], float], retry_ms: Callable[[], int]
    ) -> None:
        self.heartbeats = 0
        self._timing = timing
        self._hub = hub
        self._loop = loop
        self._wall = wall
        self._retry_ms = retry_ms
        self._wheel: defaultdict[int, list[Stream]] = defaultdict(list)
        self._due: deque[Stream] = deque()
        self._next = loop.time() + timing.tick
        self._handle: asyncio.Handle = loop.call_at(self._next, self._tick)

    @property
    def timing(self) -> Timing:
        """What is in force; it can be changed at any time."""
        return self._timing

    @timing.setter
    def timing(self, timing: Timing) -> None:
        # The slots of the wheel count ticks, and a tick may now be longer: what stands in a slot would be due in a far future.
        for streams in self._wheel.values():
            self._due.extend(streams)
        self._wheel.clear()
        self._timing = timing

    def watch(self, stream: Stream) -> None:
        """Takes a new stream. Its first heartbeat comes early by chance, so that a crowd does not stay in step."""
        self._put(stream, self._loop.time() + self.timing.heartbeat * random.uniform(0.5, 1.0))

    def close(self) -> None:
        """Stops the clock."""
        self._handle.cancel()

    def _put(self, stream: Stream, due: float) -> None:
        if stream.profile.expires is not None:
            due = min(due, stream.profile.expires)
        self._wheel[int(due / self.timing.tick) + 1].append(stream)

    def _tick(self) -> None:
        now = self._loop.time()
        self._excuse(now - self._next, now)
        self._end_stalled(now)
        self._end_pinning()
        self._forget_ended()
        current = int(now / self.timing.tick)
        for slot in [slot for slot in self._wheel if slot <= current]:
            self._due.extend(self._wheel.pop(slot))
        self._serve()

    def _forget_ended(self) -> None:
        """Whoever opens streams only to end them would otherwise have each stay until its heartbeat would have been due."""
        if sum(map(len, self._wheel.values())) <= 2 * len(self._hub.streams) + ENDED_KEPT:
            return
        for slot in tuple(self._wheel):
            self._wheel[slot] = [stream for stream in self._wheel[slot] if stream.state not in (State.CLOSING, State.CLOSED)]

    def _serve(self) -> None:
        """Serves whose time has come, in slices; the next tick is set when all of them are."""
        now = self._loop.time()
        while self._due:
            stream = self._due.popleft()
            if stream.state not in (State.CLOSING, State.CLOSED):
                self._look_at(stream, now)
            if self._loop.time() > now + SLICE:
                break
        if self._due:
            self._handle = self._loop.call_soon(self._serve)
        else:
            self._next = self._loop.time() + self.timing.tick
            self._handle = self._loop.call_at(self._next, self._tick)

    def _look_at(self, stream: Stream, now: float) -> None:
        expires = stream.profile.expires
        if expires is not None and now >= expires:
            self._hub.finish(stream, "lifetime", self._retry_ms())
            return
        # Whoever is there has acknowledged something since a heartbeat before the one that it was last sent.
        patience = self.timing.heartbeat + VANISHED - stream.unheard()
        if patience <= 0:
            self._hub.close(stream, "vanished")
            return
        due = stream.written + self.timing.heartbeat
        if due - now < self.timing.tick and self._hub.at_rest(stream):
            self._beat(stream)
            due = now + self.timing.heartbeat
        self._put(stream, min(max(due, now), now + patience))

    def _beat(self, stream: Stream) -> None:
        self.heartbeats += 1
        position = self._hub.position(stream)
        id = str(Cursor(self._hub.incarnation, position))
        if stream.profile.heartbeat_event:
            block = sse.heartbeat(int(self._wall()), id)
        elif stream.announced != position:
            block = sse.KEEPALIVE + sse.position(id)
        else:
            block = sse.KEEPALIVE
        self._hub.say(stream, block, position)

    def _excuse(self, late: float, now: float) -> None:
        """Time in which we stood still ourselves is not the streams': what they took meanwhile we could not see."""
        if late > self.timing.tick:
            for stream in self._hub.blocked:
                stream.progress = min(now, stream.progress + late)

    def _end_stalled(self, now: float) -> None:
        for stream in tuple(self._hub.blocked):
            if now - stream.progress < self.timing.stall_timeout:
                return  # they stand in the order of their progress
            self._hub.close(stream, "stalled")

    def _end_pinning(self) -> None:
        pinned = self._hub.pinned()
        for stream in tuple(self._hub.blocked):
            if pinned <= self.timing.pinned_limit:
                return
            pinned -= len(stream.rest)
            self._hub.close(stream, "pinned")
