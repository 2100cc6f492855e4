"""Two ends of a socket pair: order, questions, and what happens when the other end fails in each way that it can."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sse_daemon import codec
from sse_daemon.errors import BackendError, BackendUnavailable, BackendUnusable, StorageFull
from sse_daemon.event import Draft, Event, Group, Repeat, Topic
from sse_daemon.link import MAX_CALLS, Link, posted
from tests.conftest import LogWatch

Until = Callable[..., Awaitable[Any]]


@contextmanager
def pair(**limits: int) -> Iterator[tuple[Link, Link]]:
    """Two links to each other, not started."""
    loop = asyncio.get_running_loop()
    one, two = (Link(sock, loop, **limits) for sock in socket.socketpair())
    try:
        yield one, two
    finally:
        one.close()
        two.close()


@pytest.fixture
async def links() -> AsyncIterator[tuple[Link, Link]]:
    with pair() as (one, two):
        one.start()
        two.start()
        yield one, two


# Frames -----------------------------------------------------------------------------------------------------------------------


def test_frames_are_read_however_they_are_cut() -> None:
    messages = [(0, "a", ()), (1, 2, "b", (None, 1.5, b"\x00", ("x", ["y"], {"z": True}))), (0, "c" * 1000, ())]
    whole = b"".join(map(codec.frame, messages))
    for cut in range(len(whole) + 1):
        first, used = codec.frames(whole[:cut])
        second, rest = codec.frames(whole[used:])
        assert first + second == messages and used + rest == len(whole)


def test_items_of_a_log_are_the_same_on_the_other_side() -> None:
    items = [
        Event(1, ("a", "b"), "t", None, (("k", "v"), ("l", ("v", "w"))), b"\xff", 5.5),
        Group("g", ("p",), "from", 3),
        Topic("t", True),
        Event(2, ("a",), "t", "topic", (), b""),
    ]
    ((plain,), _) = codec.frames(codec.frame(tuple(codec.plain_items(items))))
    back = codec.logged(plain)
    assert back == items and [type(item) for item in back] == [type(item) for item in items]


def test_records_are_the_same_on_the_other_side() -> None:
    record = (
        Draft(("a",), "t", None, (), b"x", None, True, "from", 1),
        Group("g", ()),
        Topic("t", False),
        Repeat("f", 1, "c", "d"),
    )
    ((plain,), _) = codec.frames(codec.frame((codec.plain_items(record),)))
    (back,) = codec.records(plain)
    assert back == record and [type(item) for item in back] == [type(item) for item in record]


# Messages ---------------------------------------------------------------------------------------------------------------------


async def test_messages_come_in_order_and_whole(links: tuple[Link, Link], until: Until) -> None:
    got: list[tuple[int, int]] = []
    links[1].posts["m"] = lambda number, data: got.append((number, len(data)))
    for number in range(300):
        links[0].post("m", number, b"x" * (number * 37 % 50_000))
    await until(lambda: len(got) == 300)
    assert got == [(number, number * 37 % 50_000) for number in range(300)]
    assert links[0].unsent == 0


async def test_questions_are_answered_each_by_its_own(links: tuple[Link, Link]) -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0.001 * (number % 5))
        return 2 * number

    links[1].calls["double"] = double
    assert await asyncio.gather(*(links[0].call("double", number) for number in range(200))) == [2 * n for n in range(200)]


@pytest.mark.parametrize("kind", [StorageFull, BackendUnavailable, BackendUnusable])
async def test_faults_travel(links: tuple[Link, Link], kind: type[BackendError]) -> None:
    async def fail() -> None:
        raise kind("why")

    links[1].calls["fail"] = fail
    with pytest.raises(kind, match="why"):
        await links[0].call("fail")


async def test_a_defect_is_logged_there_and_told_here(links: tuple[Link, Link], expect_log: LogWatch) -> None:
    async def fail() -> None:
        raise RuntimeError

    expect_log("sse_daemon.link", "could not be answered")
    links[1].calls["fail"] = fail
    with pytest.raises(BackendUnavailable):
        await links[0].call("fail")
    assert not links[1].over


async def test_a_message_that_cannot_be_taken_ends_it(links: tuple[Link, Link], expect_log: LogWatch, until: Until) -> None:
    # What follows in order makes no sense without it.
    expect_log("sse_daemon.link", "could not be taken")
    links[0].post("nobody knows this")
    await until(lambda: links[1].over)
    await until(lambda: links[0].over)


# The other end ----------------------------------------------------------------------------------------------------------------


async def test_whoever_waits_is_told_when_the_other_end_is_gone(links: tuple[Link, Link], until: Until) -> None:
    gone: list[str] = []
    links[0].closed = lambda: gone.append("gone")
    links[1].calls["never"] = asyncio.Event().wait
    asking = asyncio.ensure_future(links[0].call("never"))
    await asyncio.sleep(0)
    links[1].close()
    with pytest.raises(BackendUnavailable):
        await asking
    await until(lambda: gone == ["gone"])
    with pytest.raises(BackendUnavailable):
        await links[0].call("never")
    links[0].post("nothing happens")
    links[0].close()


async def test_who_gives_up_leaves_nothing_behind(links: tuple[Link, Link]) -> None:
    async def late() -> str:
        await asyncio.sleep(0.01)
        return "late"

    links[1].calls["late"] = late
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await links[0].call("late")
    assert await links[0].call("late") == "late"
    assert not links[0]._asked


async def test_who_does_not_read_is_cut_off_at_the_limit(expect_log: LogWatch) -> None:
    expect_log("sse_daemon.link", "does not read")
    with pair(limit=1_000_000) as (one, _):
        one.start()
        frame = posted("m", b"x" * 10_000)
        sent = 0
        while not one.over:
            one.push(frame)
            sent += len(frame)
            assert one.unsent <= 1_000_000 + len(frame)
        assert sent < 3_000_000  # the limit, and what the kernel takes
        await asyncio.sleep(0)


async def test_small_messages_that_wait_count_what_they_take(expect_log: LogWatch) -> None:
    expect_log("sse_daemon.link", "does not read")
    with pair(limit=1_000_000) as (one, _):
        one.start()
        while not one.over:
            one.push(posted("m", None))
            assert one.unsent < 200_000
        await asyncio.sleep(0)


async def test_an_answer_is_not_what_anybody_is_cut_off_for(expect_log: LogWatch) -> None:
    with pair(limit=1_000_000) as (one, two):
        two.calls["large"] = lambda: asyncio.sleep(0, b"x" * 5_000_000)
        one.start()
        two.start()
        answers = await asyncio.gather(*(one.call("large") for _ in range(3)))
        assert [len(answer) for answer in answers] == [5_000_000] * 3
        assert (two.unsent, two.unasked) == (0, 0)
        # It leaves the limit of the others as it was.
        expect_log("sse_daemon.link", "does not read")
        asking = asyncio.ensure_future(one.call("large"))
        one._loop.remove_reader(one._sock.fileno())
        while not two.unsent:
            await asyncio.sleep(0)
        while not two.over:
            two.push(posted("m", b"x" * 10_000))
            assert two.unasked <= 1_000_000 + 20_000
        one.close()
        with pytest.raises(BackendUnavailable):
            await asking


async def test_an_answer_that_cannot_be_carried_is_a_defect_that_is_told(links: tuple[Link, Link], expect_log: LogWatch) -> None:
    expect_log("sse_daemon.link", "could not be answered")
    links[1].calls["object"] = lambda: asyncio.sleep(0, object())
    with pytest.raises(BackendUnavailable, match="a defect"):
        await links[0].call("object")


async def test_questions_beyond_the_limit_are_refused(links: tuple[Link, Link]) -> None:
    links[1].calls["never"] = asyncio.Event().wait
    links[1].calls["now"] = lambda: asyncio.sleep(0, "now")
    waiting = [asyncio.ensure_future(links[0].call("never")) for _ in range(MAX_CALLS)]
    await asyncio.sleep(0)
    with pytest.raises(BackendUnavailable, match="too many"):
        await links[0].call("now")
    links[0].close()
    assert all(isinstance(end, BackendUnavailable) for end in await asyncio.gather(*waiting, return_exceptions=True))
