"""A process that follows some channels: whatever comes when, its window never gives a part for the whole."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import pytest

from sse_daemon import relay as relay_module
from sse_daemon import timely
from sse_daemon.backend import Limits, Page
from sse_daemon.backends.broker import BrokerBackend
from sse_daemon.backends.conformance import draft
from sse_daemon.backends.memory import MemoryBackend
from sse_daemon.errors import BackendUnavailable
from sse_daemon.event import Event, Logged
from sse_daemon.followed import Followed
from sse_daemon.link import Link
from sse_daemon.relay import ADVANCE, LOOK_AGAIN, PACE, ROOM, Relay
from sse_daemon.timely import Timely
from sse_daemon.window import Overtaken, Window

Until = Callable[..., Awaitable[Any]]
NAMES = ("a", "b", "c", "d")


class Follower:
    """A window over what comes to a process that asks about some channels."""

    def __init__(self, relay: Relay, limit: int) -> None:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        self.links = Link(ours, loop), Link(theirs, loop)
        relay.attach(self.links[1])
        for link in self.links:
            link.start()
        self.followed = Followed()
        self.log = BrokerBackend(self.links[0], self.followed)
        self.window = Window(limit, 0, self.followed.since)
        self.followed.fill(self.window)
        self.came: list[int] = []
        self.batches: list[tuple[int, int]] = []

    def deliver(self, batch: Sequence[Logged], after: int, last: int) -> None:
        self.batches.append((after, last))
        assert after == self.window.head
        events = [item for item in batch if isinstance(item, Event)]
        self.came += [event.position for event in events]
        self.window.extend([(event, event.data) for event in events], last)
        self.window.evict(last)

    async def close(self) -> None:
        await self.log.close()
        for link in self.links:
            link.close()


class Reader:
    """Somebody who reads channels as a stream does: from the window if it can, else from the log."""

    def __init__(self, follower: Follower, names: Sequence[str], cursor: int) -> None:
        self.names, self.start, self.cursor = names, cursor, cursor
        self.got: list[int] = []
        self._follower = follower
        self._channels = [follower.window.watch(name) for name in names]
        for channel in self._channels:
            channel.streams[self] = None

    async def read(self) -> bool:
        """One step; True if it came from the window."""
        window = self._follower.window
        try:
            positions, through = [e[0] for e in window.read(self._channels, self.cursor, window.head, 3)], window.head
            if len(positions) == 3:
                through = positions[-1]
        except Overtaken:
            page = await self._follower.log.read(self.names, self.cursor, 3)
            assert isinstance(page, Page)
            self.got += [event.position for event in page.events]
            self.cursor = max(self.cursor, page.through)
            return False
        self.got += positions
        self.cursor = max(self.cursor, through)
        return True

    def leave(self) -> None:
        for channel in self._channels:
            del channel.streams[self]
            if channel.name in self._follower.window.channels:
                self._follower.window.release(channel)


class Slow(MemoryBackend):
    """A log that takes a few turns of the loop for an answer, during which it goes on."""

    turns = 0

    async def read(self, *asked: Any) -> Any:
        answer = await super().read(*asked)
        for _ in range(self.turns):
            await asyncio.sleep(0)
        return answer

    async def retained(self, *asked: Any) -> Any:
        answer = await super().retained(*asked)
        for _ in range(self.turns):
            await asyncio.sleep(0)
        return answer


class House:
    """A log, its relay, and followers."""

    def __init__(self) -> None:
        self.log = Slow("memory://", Limits())
        self.truth: list[Event] = []

    async def open(self, *limits: int) -> list[Follower]:
        opened = await self.log.open(self._deliver)
        self.relay = Relay(self.log, opened.incarnation, opened.head, lambda: ())
        self.followers = [Follower(self.relay, limit) for limit in limits]
        for follower in self.followers:
            await follower.log.open(follower.deliver)
        return self.followers

    def _deliver(self, batch: Sequence[Logged], after: int, last: int) -> None:
        self.truth += [item for item in batch if isinstance(item, Event)]
        self.relay.deliver(batch, after, last)

    async def add(self, *channels: str) -> None:
        await self.add_all([channels])

    async def add_all(self, events: Iterable[Sequence[str]]) -> None:
        """Stores an event for each of these, together: they are delivered as one batch."""
        await self.log.append([(draft(*channels),) for channels in events])

    def expected(self, reader: Reader) -> list[int]:
        names = set(reader.names)
        return [e.position for e in self.truth if names & set(e.channels) and reader.start < e.position <= reader.cursor]

    async def close(self) -> None:
        for follower in self.followers:
            await follower.close()
        await self.log.close()


@pytest.mark.parametrize("seed", range(60))
async def test_nobody_misses_anything_whatever_happens_when(seed: int) -> None:
    chance = random.Random(seed)
    house = House()
    house.log.turns = chance.choice((0, 5, 20))
    followers = await house.open(chance.choice((0, 2000, 10**6)), 10**6)
    readers: list[Reader] = []
    reading: dict[Reader, list[asyncio.Future[bool]]] = {}
    try:
        for _ in range(400):
            follower = chance.choice(followers)
            match chance.randrange(8):
                case 0 | 1 | 2:
                    together = chance.choice((1, 1, 2, 4))
                    await house.add_all([chance.sample(NAMES, chance.choice((1, 1, 1, 2, 3))) for _ in range(together)])
                case 3 if len(readers) < 6:
                    names = chance.sample(NAMES, chance.choice((1, 2)))
                    asking = asyncio.ensure_future(follower.log.retained(names))
                    for _ in range(chance.choice((0, 3))):
                        await asyncio.sleep(0)
                        follower.log.forget()
                    at = (await asking).at if chance.random() < 0.5 else chance.randint(0, (await asking).at)
                    readers.append(Reader(follower, names, at))
                case 4 if readers:
                    reader = readers.pop(chance.randrange(len(readers)))
                    await asyncio.gather(*reading.pop(reader, ()))
                    assert reader.got == house.expected(reader)
                    reader.leave()
                case 5:
                    for _ in range(chance.choice((1, 2))):
                        follower.log.forget()
                case 6:
                    await asyncio.sleep(0)
                case _ if readers:
                    # It takes a while, and everything else goes on meanwhile.
                    reader = chance.choice(readers)
                    await asyncio.gather(*reading.pop(reader, ()))
                    reading[reader] = [asyncio.ensure_future(reader.read())]
            for reader in readers:
                assert reader.got == house.expected(reader)
        for follower in followers:
            await follower.log.reach()
        for reader in readers:
            await asyncio.gather(*reading.pop(reader, ()))
            while reader.cursor < house.relay.head:
                await reader.read()
            assert reader.got == house.expected(reader)
    finally:
        await house.close()


async def test_only_what_was_asked_for_comes_and_positions_always(until: Until) -> None:
    house = House()
    one, two = await house.open(10**6, 10**6)
    try:
        await one.log.retained(["a"])
        await two.log.retained(["b"])
        for name in ("a", "b", "c", "b", "a"):
            await house.add(name)
        await house.add("a", "b", "c")
        await house.add("c")
        await until(lambda: one.window.head == two.window.head == 7, f"{ADVANCE} s")
        assert (one.came, two.came) == ([1, 5, 6], [2, 4, 6])
        assert set(one.window.channels) == {"a"} and set(two.window.channels) == {"b"}
    finally:
        await house.close()


async def test_events_that_come_together_go_to_whom_they_are_for_though_the_first_is_for_both() -> None:
    house = House()
    one, two = await house.open(10**6, 10**6)
    try:
        await one.log.retained(["a", "b"])
        await two.log.retained(["a", "c"])
        await house.add_all([["a"], ["b"]])
        await house.add_all([["a"], ["c"]])
        for follower in (one, two):
            await follower.log.reach()
        assert (one.came, two.came) == ([1, 2, 3], [1, 3, 4])
    finally:
        await house.close()


async def test_what_has_come_together_is_delivered_as_one(until: Until) -> None:
    house = House()
    (follower,) = await house.open(10**6)
    try:
        await follower.log.retained(["a"])
        for number in range(5):  # nothing here waits: the follower cannot read before all have been sent
            house.relay.deliver([Event(number + 1, ("a",), "t", None, (), b"x" * 10_000)], number, number + 1)
        await until(lambda: follower.window.head == 5)
        assert follower.batches == [(0, 5)]
    finally:
        await house.close()


async def test_from_its_second_read_on_a_reader_needs_no_log() -> None:
    house = House()
    (follower,) = await house.open(10**6)
    try:
        await house.add("a")
        reader = Reader(follower, ["a"], 0)
        assert not await reader.read()
        for _ in range(5):
            await house.add("a")
            await follower.log.reach()
            assert await reader.read()
        assert reader.got == [1, 2, 3, 4, 5, 6]
    finally:
        await house.close()


async def test_what_nobody_needs_any_more_is_not_sent_any_more() -> None:
    house = House()
    (follower,) = await house.open(10**6)
    try:
        reader = Reader(follower, ["a"], 0)
        await reader.read()
        for _ in range(3):
            follower.log.forget()
        await house.add("a")
        await follower.log.reach()
        assert follower.came == [1], "somebody is there"
        reader.leave()
        for _ in range(2):
            follower.log.forget()
        await follower.log.reach()
        await house.add("a")
        await follower.log.reach()
        assert follower.came == [1]
        late = Reader(follower, ["a"], 1)
        assert not await late.read(), "what came meanwhile has to be asked for"
        assert late.got == [2]
    finally:
        await house.close()


@pytest.mark.parametrize("how", ["cancelled", "failed"])
async def test_a_question_that_comes_to_nothing_leaves_nothing_followed(
    how: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House()
    (follower,) = await house.open(10**6)
    (owners,) = house.relay._followers.values()
    asked: list[asyncio.Future[Any]] = []

    async def read(*_: Any) -> Any:
        if how == "failed":
            raise BackendUnavailable("no disk")
        await asyncio.Event().wait()

    monkeypatch.setattr(house.log, "read", read)
    try:
        asked += [asyncio.ensure_future(follower.log.read([f"c{number}"], 0, 1)) for number in range(10)]
        await until(lambda: len(owners.since) == 10)
        for question in asked:
            if how == "cancelled":
                question.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        for _ in range(3):
            follower.log.forget()
        await until(lambda: not owners.since, "it to be forgotten")
        assert not follower.followed.since
    finally:
        await house.close()


async def test_large_answers_are_made_one_after_the_other_as_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    (follower,) = await house.open(10**6)
    snapshots = await house.log.retained(None)
    large = snapshots._replace(events=[Event(1, ("a",), "t", None, (), b"x" * ROOM)])
    before: list[int] = []

    async def retained(_: Any) -> Any:
        before.append(follower.links[1].unsent)
        await asyncio.sleep(0)
        return large

    monkeypatch.setattr(house.log, "retained", retained)
    try:
        answers = await asyncio.gather(*(follower.log.retained(["a"]) for _ in range(8)))
        assert [len(answer.events[0].data) for answer in answers] == [ROOM] * 8
        assert len(before) == 8 and max(before) <= ROOM
    finally:
        await house.close()


async def test_questions_that_nobody_waits_for_any_more_hold_up_no_others(until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that hangs: whoever asks gives up, and asks again. Once it is well, the first to be answered are those who still wait."""
    monkeypatch.setattr(timely, "PATIENCE", 0.2)
    house = House()
    (follower,) = await house.open(10**6)
    asked = Timely(follower.log, 0.2)
    hangs, answered = asyncio.Event(), 0
    retained = house.log.retained

    async def hanging(names: Any) -> Any:
        nonlocal answered
        await hangs.wait()
        answered += 1
        return await retained(names)

    monkeypatch.setattr(house.log, "retained", hanging)
    try:
        for _ in range(3):
            answers = await asyncio.gather(*(asked.retained([f"c{n}"]) for n in range(50)), return_exceptions=True)
            assert all(isinstance(answer, BackendUnavailable) for answer in answers)
        await until(lambda: not follower.links[1]._tasks, "them to be given up")
        hangs.set()
        await follower.log.retained(["a"])
        assert answered == 1
    finally:
        await house.close()


async def test_appending_waits_for_a_follower_that_takes_what_comes_and_for_none_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = House()
    (follower,) = await house.open(10**6)
    loop, theirs = asyncio.get_running_loop(), follower.links[0]
    monkeypatch.setattr(relay_module, "PATIENCE", 1000.0)
    try:
        await follower.log.retained(["a"])
        loop.remove_reader(theirs._sock.fileno())
        while follower.links[1].unasked <= PACE:
            await house.log.append([(draft("a", data=b"x" * 100_000),)])
        one, two = (asyncio.ensure_future(house.relay.append([(draft("a"),)])) for _ in range(2))
        await asyncio.sleep(5 * LOOK_AGAIN)
        assert not one.done()
        monkeypatch.setattr(relay_module, "PATIENCE", 0.0)
        await asyncio.wait_for(asyncio.gather(one, two), 30)
        # It takes something again.
        monkeypatch.setattr(relay_module, "PATIENCE", 1000.0)
        three = asyncio.ensure_future(house.relay.append([(draft("a"),)]))
        await asyncio.sleep(5 * LOOK_AGAIN)
        assert not three.done()
        loop.add_reader(theirs._sock.fileno(), theirs._readable)
        await asyncio.wait_for(three, 30)
    finally:
        await house.close()


async def test_nothing_is_kept_for_a_follower_that_is_gone() -> None:
    house = House()
    gone, stays = await house.open(10**6, 10**6)
    try:
        for follower in (gone, stays):
            await follower.log.retained(["a"])
        owners = house.relay._followers[gone.links[1]]
        house.relay.detach(gone.links[1])
        for _ in range(3):
            await house.add("a")
            await house.add("a", "b")
        await stays.log.reach()
        assert len(stays.came) == 6
        assert not owners.items and not owners.since
    finally:
        await house.close()


async def test_whoever_follows_a_process_that_is_gone_is_told() -> None:
    house = House()
    (follower,) = await house.open(10**6)
    asking = asyncio.ensure_future(follower.log.read(["a"], 0, 1))
    await asyncio.sleep(0)
    follower.links[1].close()
    with pytest.raises(BackendUnavailable):
        await asking
    with pytest.raises(BackendUnavailable):
        await follower.log.retained(["a"])
    house.relay.detach(follower.links[1])
    await house.add("a")
    await house.close()
