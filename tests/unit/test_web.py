"""What a request finds when its answer is ready may not be what it found when it came. The rest is tested from outside."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from sse_daemon import config, web
from sse_daemon.auth import authenticator
from sse_daemon.backend import Limits, Snapshots
from sse_daemon.backends.memory import MemoryBackend
from sse_daemon.catchup import CatchUp
from sse_daemon.directory import Directory
from sse_daemon.door import Door
from sse_daemon.event import Draft, participant_channel
from sse_daemon.hub import Hub
from sse_daemon.liveness import Liveness, Timing
from sse_daemon.longpoll import LongPoll
from sse_daemon.window import Window

Until = Callable[..., Awaitable[Any]]


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
    """The clients' side on a slow log, and connections to it."""

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
        self.http = web.server(
            web.Site(
                config=lambda: self.config,
                hub=self.hub,
                catchup=self.catchup,
                longpoll=LongPoll(self.hub, self.catchup, self.backend, self.loop),
                liveness=self.liveness,
                backend=self.backend,
                directory=Directory({}, (), max_groups=1, max_topics=1),
                authenticator=authenticator("claim"),
                door=self.door,
                ready=lambda: None,
                wall=time.time,
            )
        )
        return self

    def ask(self, key: str, accept: str = "text/event-stream", after: int | None = None) -> socket.socket:
        """The client's end of a connection on which it has asked for events."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.theirs.append(theirs)
        cursor = "" if after is None else f"Last-Event-ID: {self.hub.incarnation}-{after}\r\n"
        theirs.send(f"GET /events HTTP/1.1\r\nHost: x\r\nX-Public-Key: {key}\r\nAccept: {accept}\r\n{cursor}\r\n".encode())
        web.serve(self.http, ours, None)
        return theirs

    async def stop(self) -> None:
        await self.http.close_all_connections()
        self.liveness.close()
        await self.catchup.close()
        self.hub.shutdown()
        await self.backend.close()
        for theirs in self.theirs:
            theirs.close()


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


async def test_who_is_shut_out_while_the_snapshots_are_read_does_not_get_in(house: House, until: Until) -> None:
    client = house.ask("a")
    await until(lambda: house.backend.asked)
    house.door.bar("a", 600)
    house.backend.go.set()
    assert (await answer(client)).startswith(b"HTTP/1.1 403 ")
    assert house.hub.opened == 0


async def test_a_stream_that_opens_into_a_drain_is_sent_away(house: House, until: Until) -> None:
    client = house.ask("a")
    await until(lambda: house.backend.asked)
    house.door.closed_for = "drain"
    house.backend.go.set()
    assert b'event: bye\ndata: {"reason":"drain"' in await answer(client)
    assert house.hub.opened == 0


async def test_a_crowd_that_comes_at_once_does_not_pass_the_limit(house: House, until: Until) -> None:
    house.door.settings = evolve(house.config.streams, max_streams=2)
    for number in range(5):
        house.ask(f"k{number}")
    await until(lambda: house.backend.asked == 5)
    house.backend.go.set()
    await until(lambda: house.door.turned_away + house.hub.opened == 5)
    assert (house.hub.opened, house.door.turned_away) == (2, 3)


async def test_a_long_poll_does_not_answer_who_was_shut_out_while_it_waited(house: House, until: Until) -> None:
    client = house.ask("a", "application/json", after=0)
    await until(lambda: participant_channel("a") in house.hub.window.channels)
    house.door.bar("a", 600)
    await house.backend.append([(Draft((participant_channel("a"),), "message", None, (), b"secret"),)])
    head, _, body = (await answer(client)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 ") and json.loads(body)["error"] == "kicked"
