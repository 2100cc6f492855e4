"""The log stands still, the append queue is full, and PUB is not read: what comes all the same is bounded, and counted where it is lost.

The daemon's own sockets in process, over a log that appends when the test says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from sse_daemon.appender import Appender, Outcome
from sse_daemon.backend import Stored
from sse_daemon.census import Census
from sse_daemon.directory import Directory
from sse_daemon.envelope import Bounds
from sse_daemon.event import Draft, Record
from sse_daemon.ingest import SLACK, Ingest
from sse_daemon.zmq_binding import FRAME_FACTOR
from tests.conftest import LogWatch
from tests.hardening.curve import cut_after, peer
from tests.integration.peers import Pub, event

Until = Callable[..., Awaitable[Any]]

FRAME = 64 * 1024
BOUNDS = Bounds(max_frame=FRAME, max_message=FRAME)
ALLOWANCE = FRAME_FACTOR * FRAME + SLACK
"""Bytes that a connection may bring without a message of it being read."""
QUEUE = 4096


class Stuck:
    """A log that takes what it is given once `go` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.numbers: list[int] = []

    async def append(self, records: Sequence[Record]) -> Sequence[Outcome]:
        await self.go.wait()
        before = len(self.numbers)
        self.numbers += [item.n for (item,) in records if isinstance(item, Draft) and item.n is not None]
        return [Stored((position,), False) for position in range(before + 1, len(self.numbers) + 1)]


class Rig:
    """The sockets, their queue and their log, as the daemon puts them together."""

    def __init__(self) -> None:
        self.log, self.census = Stuck(), Census(10)
        directory = Directory((), (), max_groups=1, max_topics=1)
        self.appender = Appender(
            self.log, directory, BOUNDS, QUEUE, time.time, lambda: self.ingest.room(), lambda told: self.ingest.settled(told)
        )
        loop = asyncio.get_running_loop()
        self.ingest = Ingest(self.appender, self.census, "0" * 12, 0, loop, time.time, None, 10)
        self.running = asyncio.ensure_future(self.appender.run())


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    await rig.ingest.bind(["tcp://127.0.0.1:0"], [])
    rig.ingest.start()
    yield rig
    rig.running.cancel()
    await asyncio.gather(rig.running, return_exceptions=True)
    rig.ingest.close()


def numbered(n: int) -> bytes:
    return event(["a"], "x" * 40_000, sender="p/1", n=n)


async def test_what_a_full_queue_leaves_in_the_socket_is_read_when_there_is_room(rig: Rig, until: Until) -> None:
    with await asyncio.to_thread(Pub, rig.ingest.addresses[0]) as pub:
        for n in range(1, 4):  # less than a connection may bring
            pub.send(numbered(n))
        await until(lambda: rig.appender.full)
        rig.log.go.set()
        await until(lambda: len(rig.log.numbers) == 3)
        assert rig.log.numbers == [1, 2, 3]
        assert rig.census.lost == 0


async def test_beyond_its_bound_a_connection_loses_what_is_counted_and_stays(
    rig: Rig, until: Until, expect_log: LogWatch
) -> None:
    expect_log("sse_daemon.ingest", "message refused")
    count = 0
    with await asyncio.to_thread(Pub, rig.ingest.addresses[0]) as pub:

        def lost() -> bool:
            """One more on its way, until some of it was lost."""
            nonlocal count
            count += 1
            pub.send(numbered(count))
            return rig.census.lost > 0

        await until(lost)
        assert count * 40_000 > ALLOWANCE // 2, "what was within the bound was lost"
        assert rig.census.refused.keys() == {"overloaded"}
        rig.log.go.set()
        count += 1
        pub.send(numbered(count))
        await until(lambda: count in rig.log.numbers)
        stored = rig.log.numbers
        assert stored == sorted(set(stored)), "each once, and in their order"
        tally = rig.census.tallies["p/1"]
        assert (tally.accepted, tally.lost, tally.missing) == (len(stored), count - len(stored), 0)
        assert rig.census.lost == tally.lost
    assert rig.ingest.peers.cut == {}


async def test_a_message_without_an_end_is_cut_off_although_nothing_is_read(rig: Rig, until: Until, expect_log: LogWatch) -> None:
    expect_log("sse_daemon.ingest", "its message does not end")
    address = rig.ingest.addresses[0]

    def endless() -> int | None:
        with peer(address, b"PUB") as connection:
            return cut_after(connection, b"\x01\x00" * 50_000, 1 << 30)

    with await asyncio.to_thread(Pub, address) as pub:
        pub.send(numbered(1))
        await until(lambda: rig.appender.full)
        assert await asyncio.to_thread(endless) is not None, "it could go on for ever"
        rig.log.go.set()
        pub.send(numbered(2))
        await until(lambda: rig.log.numbers == [1, 2])
    assert rig.ingest.peers.cut == {"endless_message": 1}
