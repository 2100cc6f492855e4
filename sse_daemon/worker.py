"""A worker: a process that holds streams and follows the log of the process that started it, its owner.

It has no configuration, signals or admin socket of its own: all of that comes over the link. When the owner is gone, its streams
get a moment to take what is on its way to them, and it ends.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol

from sse_daemon import log
from sse_daemon.auth_link import LinkedProofs
from sse_daemon.backend import Backend
from sse_daemon.config import Config
from sse_daemon.config_plain import unplain
from sse_daemon.directory import Directory
from sse_daemon.errors import AuthUnusable, BackendError
from sse_daemon.event import Logged, Topic
from sse_daemon.floor import Floor
from sse_daemon.followed import Followed
from sse_daemon.link import Link
from sse_daemon.timely import Timely

TICK = 1.0
"""Seconds between two words to the owner. A channel that nobody needs here any more is followed for one to two of them longer."""
SILENCE = 5.0
"""Seconds without a word of the owner after which this is not ready any more."""
GRACE = 2.0
"""Seconds that streams stay when the owner is gone."""

_log = log.logger("worker")


class Follower(Backend, Protocol):
    """What a worker's log has beyond the port."""

    async def reach(self) -> int:
        """The owner's head; when it returns, everything up to there has been delivered."""

    def forget(self) -> None:
        """To be called every second or so: channels that nobody has needed since the call before are not followed any more."""


class Worker:
    """One run of a worker. backend: follows `followed` of the log at the other end of `link`, which is not started yet."""

    def __init__(self, name: str, link: Link, backend: Follower, followed: Followed, sockets: Sequence[socket.socket]) -> None:
        self._name = name
        self._link = link
        self._follower = backend
        self._followed = followed
        self._backend = Timely(backend)
        self._sockets = sockets
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._why_not = "starting"
        self._newest: Config | None = None
        self._floor: Floor
        self._standing = False
        """The floor is there, and what the owner says goes to it at once."""
        self._leaving = False
        self._gone = asyncio.Event()
        self._stop = asyncio.Event()
        self._exit = AsyncExitStack()

    async def run(self) -> int:
        """Serves until it is told to leave, or the owner is gone; the exit status."""
        # The terminal and the service manager signal all processes; what is to happen the owner says.
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        self._link.closed = self._gone.set
        self._link.posts |= {
            "config": self._configure,
            "leave": self._leave,
            "owner": self._owner_says,
            "stop_listening": self._stop_listening,
        }
        self._link.start()
        async with self._exit:
            try:
                await self._start()
            except (BackendError, AuthUnusable) as error:
                _log.error("cannot start", extra={"reason": str(error)})
                return 1
            await self._serve()
        return 0

    async def _start(self) -> None:
        config, bars, drained, self._why_not = await self._link.call("hello")
        settings = unplain(config)
        self._newest = self._newest or settings
        log.setup(settings.log.format, settings.log.level, worker=self._name)
        # From here to the floor there is no await: nothing is delivered before there is somebody to take it.
        opened = await self._backend.open(self._deliver)
        self._directory = Directory({}, opened.topics, max_groups=0, max_topics=settings.ingest.max_topics)
        self._floor = Floor(
            settings,
            self._backend,
            opened,
            self._directory,
            self._not_ready,
            name=f"{self._name}-",
            reach=self._follower.reach,
            followed=self._followed,
            proofs=LinkedProofs(self._link),
        )
        self._exit.push_async_callback(self._floor.close)
        self._take_over(bars, drained)
        self._link.calls |= self._floor.desk.answers()
        self._link.posts["standing"] = self._take_over
        self._floor.apply(self._newest)  # it may have changed meanwhile
        self._standing = True
        # Before what may wait for somebody else, such as the application that is asked who comes: this process is not stuck then.
        self._exit.push_async_callback(_ended, self._loop.create_task(self._tick()))
        await self._floor.start([self._sockets])
        gc.collect()
        gc.freeze()
        self._link.post("tick", self._floor.desk.counted())  # first: whether it waits for something is known with its start
        self._link.post("ready")

    def _take_over(self, bars: Mapping[str, float], drained: bool) -> None:
        """What operators did before this worker was there holds for it too."""
        self._floor.desk.door.bars.replace(bars)
        if drained:
            self._floor.desk.door.closed_for = "drain"

    async def _serve(self) -> None:
        waits = [asyncio.ensure_future(each.wait()) for each in (self._gone, self._stop)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not self._leaving:
                await self._end()
        finally:
            await _ended(*waits)

    async def _end(self) -> None:
        """The owner is gone, or this worker was told to stop by a signal: the streams go elsewhere."""
        _log.warning("the owner is gone" if self._gone.is_set() else "stopping by a signal")
        self._stop_listening()
        if self._gone.is_set():
            await asyncio.sleep(GRACE)
        await self._floor.end(GRACE)

    async def _tick(self) -> None:
        while True:
            self._link.post("tick", self._floor.desk.counted())
            self._follower.forget()
            await asyncio.sleep(TICK)

    # What the owner says.

    def _owner_says(self, why_not: str) -> None:
        self._heard, self._why_not = self._loop.time(), why_not

    def _not_ready(self) -> str | None:
        if self._link.over:
            return "the process that owns the log is gone"
        if self._loop.time() - self._heard > SILENCE:
            return "the process that owns the log says nothing"
        return self._why_not or None

    def _deliver(self, batch: Sequence[Logged], after: int, last: int) -> None:
        for item in batch:
            if isinstance(item, Topic):
                self._directory.apply(item)
        self._floor.deliver(batch, after, last)

    def _configure(self, config: Mapping[str, Any]) -> None:
        """The configuration has changed; it may be that this has not started yet."""
        self._newest = unplain(config)
        log.setup(self._newest.log.format, self._newest.log.level, worker=self._name)
        if self._standing:
            self._floor.apply(self._newest)

    def _stop_listening(self) -> None:
        if self._standing:
            self._floor.stop_listening()
        for listening in self._sockets:
            listening.close()
        self._sockets = ()

    def _leave(self) -> None:
        self._leaving = True
        self._stop.set()


async def _ended(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
