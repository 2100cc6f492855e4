"""The clients' side on a log in memory, without a process around it, and connections to it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from sse_daemon import config, web
from sse_daemon.auth_modes import authenticator
from sse_daemon.backend import Limits, Snapshots
from sse_daemon.backends.memory import MemoryBackend
from sse_daemon.catchup import CatchUp
from sse_daemon.directory import Directory
from sse_daemon.door import Door
from sse_daemon.guests import Guests
from sse_daemon.hub import Hub
from sse_daemon.liveness import Liveness, Timing
from sse_daemon.longpoll import LongPoll
from sse_daemon.web_site import Site
from sse_daemon.window import Window


class Slow(MemoryBackend):
    """A log whose snapshots come when the test lets them."""

    def __init__(self) -> None:
        super().__init__("memory://", Limits())
        self.asked = 0
        self.go = asyncio.Event()

    async def retained(self, channels: Collection[str] | None) -> Snapshots:
        self.asked += 1
        await self.go.wait()
        return await super().retained(channels)


class House:
    """The clients' side on a log that answers once `backend.go` is set, and connections to it."""

    def __init__(self, path: Path) -> None:
        self.loop = asyncio.get_running_loop()
        self.backend = Slow()
        self.config = config.load(None, {"XDG_RUNTIME_DIR": str(path)}, {}, dev=True)
        self.theirs: list[socket.socket] = []

    async def start(self) -> House:
        opened = await self.backend.open(lambda *a: self.hub.deliver(*a))
        self.door = Door(self.config.streams, lambda: len(self.hub.streams), self.loop.time)
        self.catchup = CatchUp(self.backend, self.loop, self.door.bye_ms)
        window = Window(1 << 20, opened.head)
        self.hub = self.catchup.hub = Hub(window, opened.incarnation, self.loop, self.catchup.fetch, time.time)
        self.liveness = Liveness(self.hub, Timing(15, 30, 1 << 20), self.loop, time.time, self.door.bye_ms)
        self.site = Site(
            config=lambda: self.config,
            hub=self.hub,
            catchup=self.catchup,
            longpoll=LongPoll(self.hub, self.catchup, self.backend, self.loop),
            liveness=self.liveness,
            backend=self.backend,
            directory=Directory({}, (), max_groups=1, max_topics=1),
            authenticator=(asked := authenticator(lambda: self.config, None)),
            door=self.door,
            guests=Guests(lambda: self.config, self.hub.streams, self.loop.time, asked),
            ready=lambda: None,
            wall=time.time,
        )
        self.http = web.Entrance(self.site)
        return self

    def connection(self, request: bytes) -> tuple[socket.socket, socket.socket]:
        """A connection on which a client has said this: our end, and the client's."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.theirs.append(theirs)
        theirs.send(request)
        return ours, theirs

    def ask(self, key: str, *lines: str, accept: str = "text/event-stream") -> socket.socket:
        """The client's end of a connection on which it has asked for events. lines: further headers."""
        ours, theirs = self.connection(get(f"X-Public-Key: {key}", f"Accept: {accept}", *lines))
        self.http.serve(ours, None)
        return theirs

    async def stop(self) -> None:
        await self.http.close_all_connections()
        self.liveness.close()
        await self.catchup.close()
        self.hub.shutdown()
        await self.backend.close()
        for theirs in self.theirs:
            theirs.close()


def get(*lines: str, target: str = "/events", host: str = "Host: localhost") -> bytes:
    """A GET with these headers."""
    return ("\r\n".join([f"GET {target} HTTP/1.1", host, *lines]) + "\r\n\r\n").encode("latin-1")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = await House(tmp_path).start()
    yield house
    await house.stop()


async def answer(client: socket.socket) -> bytes:
    """What comes on the connection until it ends."""
    loop, parts = asyncio.get_running_loop(), []
    async with asyncio.timeout(10):
        while part := await loop.sock_recv(client, 65536):
            parts.append(part)
    return b"".join(parts)
