"""The streams of one process, and everything that serves them: the hub with its window, the doors, the clock.

The whole daemon has one of these, or each of its workers has.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from sse_daemon import web
from sse_daemon.auth_book import Proofs
from sse_daemon.auth_modes import authenticator
from sse_daemon.backend import Backend, Opened
from sse_daemon.catchup import CatchUp
from sse_daemon.config import Config
from sse_daemon.desk import DRAINED, Desk
from sse_daemon.directory import Directory
from sse_daemon.door import Door
from sse_daemon.event import Logged
from sse_daemon.followed import Followed
from sse_daemon.guests import Guests
from sse_daemon.hub import Hub
from sse_daemon.listener import KEPT_BACK, Listener, name_of
from sse_daemon.liveness import Liveness, Timing
from sse_daemon.longpoll import Held, LongPoll
from sse_daemon.loop_lag import LoopLag
from sse_daemon.web_site import Site
from sse_daemon.window import Window


class Floor:
    """Made of a log that has just been opened; `deliver` is to be called with what it delivers from then on.

    ready, name, reach: as in `Site`. followed: the channels of which events come, where that is not all of them.
    proofs: the book of what clients have proven, where the mode of `[auth]` has one. Raises AuthUnusable.
    """

    def __init__(
        self,
        config: Config,
        backend: Backend,
        opened: Opened,
        directory: Directory,
        ready: Callable[[], str | None],
        name: str = "",
        reach: Callable[[], Awaitable[int]] | None = None,
        followed: Followed | None = None,
        proofs: Proofs | None = None,
    ) -> None:
        self.config = config
        loop = self._loop = asyncio.get_running_loop()
        self._listeners: list[Listener] = []
        self._exit = AsyncExitStack()
        door = Door(config.streams, lambda: len(held), loop.time)
        self.catchup = CatchUp(backend, loop, door.bye_ms)
        window = Window(config.streams.window_bytes, opened.head, None if followed is None else followed.since)
        if followed is not None:
            followed.fill(window)
        hub = self.hub = self.catchup.hub = Hub(window, opened.incarnation, loop, self.catchup.fetch, time.time)
        self._exit.callback(hub.shutdown)
        self._exit.push_async_callback(self.catchup.close)
        self._liveness = Liveness(hub, _timing(config), loop, time.time, door.bye_ms)
        self._exit.callback(self._liveness.close)
        longpoll = LongPoll(hub, self.catchup, backend, loop)
        held = Held(hub.streams, longpoll.polls)
        loop_lag = LoopLag(loop)
        self._exit.callback(loop_lag.close)
        door.overrun = lambda: loop_lag.sustained(self.config.streams.shed_lag)
        self._authenticator = authenticator(lambda: self.config, proofs)
        self._exit.push_async_callback(self._authenticator.close)
        self.desk = Desk(hub, door, self.catchup, self._liveness, longpoll, loop_lag, self._authenticator, time.time)
        self._entrance = web.Entrance(
            Site(
                config=lambda: self.config,
                hub=hub,
                catchup=self.catchup,
                longpoll=longpoll,
                liveness=self._liveness,
                backend=backend,
                directory=directory,
                authenticator=self._authenticator,
                door=door,
                guests=Guests(lambda: self.config, held, loop.time, self._authenticator),
                ready=lambda: ready() or self.why_not_ready,
                wall=time.time,
                name=name,
                reach=reach,
            )
        )
        self._exit.push_async_callback(self._entrance.close_all_connections)

    @property
    def why_not_ready(self) -> str | None:
        """Why no client should be sent here as far as this process goes, or None."""
        return DRAINED if self.desk.door.closed_for is not None else self._authenticator.why_not_ready

    def deliver(self, batch: Sequence[Logged], after: int, last: int) -> None:
        """Takes what the log holds after `after` through `last`."""
        self.hub.deliver(batch, after, last)

    async def start(self, sockets: Sequence[Sequence[socket.socket]]) -> None:
        """Accepts from the first of these sets of sockets, once it can tell who asks. Raises AuthUnusable."""
        await self._authenticator.open([name_of(each) for each in sockets[0]])
        send_buffer = self.config.streams.send_buffer
        self._listeners = [Listener(each, self._loop, send_buffer, self._entrance.serve, KEPT_BACK) for each in sockets[0]]
        # Else the first to come to a machine on which starting took long could be sent away, by a daemon with nothing to do.
        self.desk.loop_lag.forget()
        for listener in self._listeners:
            listener.start()

    def stop_listening(self) -> None:
        """Accepts no more; the sockets are the caller's."""
        for listener in self._listeners:
            listener.stop()

    async def end(self, seconds: float) -> None:
        """Lets the streams take their `bye`, for at most so long."""
        await self.desk.end(seconds)

    def apply(self, config: Config) -> None:
        """Puts what can change while it runs in force."""
        self.config = config
        self.desk.door.settings = config.streams
        self._liveness.timing = _timing(config)
        self._entrance.reload()

    async def close(self) -> None:
        """Ends everything at once."""
        self.stop_listening()
        await self._exit.aclose()


def _timing(config: Config) -> Timing:
    return Timing(config.streams.heartbeat, config.streams.stall_timeout, config.streams.pinned_limit)
