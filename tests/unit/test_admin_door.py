"""Who is at the operators' socket, as the kernel says, and an answer that nobody takes."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tornado.iostream import IOStream

from sse_daemon import admin_door
from sse_daemon.admin import Queue
from sse_daemon.admin_door import Operator, entitled, give_up_unread, groups, operator
from sse_daemon.event import PUBLIC, Event
from tests.conftest import LogWatch


def test_who_connected_is_who_the_kernel_says() -> None:
    here, there = socket.socketpair()
    with here, there:
        assert operator(here) == Operator(os.getpid(), os.getuid(), os.getgid())
        assert operator(here).named() == {"uid": os.getuid(), "pid": os.getpid()}


@pytest.mark.parametrize(
    ("uid", "gid", "others", "right"),
    [
        (0, 9, (), True),
        (4711, 9, (), True),
        (4712, 9, (), False),
        (4712, 9, (8, 7), False),
        (4712, 1, (), True),
        (4712, 9, (8, 1), True),
    ],
)
def test_its_user_root_and_members_of_the_group_are_entitled(uid: int, gid: int, others: tuple[int, ...], right: bool) -> None:
    assert entitled(Operator(5, uid, gid), others, own=4711, group=1) is right


def test_the_kernel_tells_all_groups_of_a_peer() -> None:
    here, there = socket.socketpair()
    with here, there:
        assert sorted(groups(here)) == sorted(os.getgroups())


async def test_an_answer_that_is_not_taken_ends_its_connection(
    monkeypatch: pytest.MonkeyPatch, until: Callable[..., Awaitable[Any]], expect_log: LogWatch
) -> None:
    expect_log("sse_daemon.admin", "did not take an answer")
    monkeypatch.setattr(admin_door, "UNREAD", 0.05)
    here, there = socket.socketpair()
    with here, there:
        stream = IOStream(here)
        written = stream.write(bytes(1 << 20))
        give_up_unread(stream)
        await until(stream.closed)
        assert written.exception() is not None


async def test_one_that_is_taken_leaves_it_open(monkeypatch: pytest.MonkeyPatch, until: Callable[..., Awaitable[Any]]) -> None:
    monkeypatch.setattr(admin_door, "UNREAD", 0.05)
    here, there = socket.socketpair()
    with here, there:
        stream, peer = IOStream(here), IOStream(there)
        stream.write(bytes(1 << 20))
        give_up_unread(stream)
        await peer.read_bytes(1 << 20)
        over: list[bool] = []
        asyncio.get_running_loop().call_later(0.1, over.append, True)
        await until(lambda: over)
        assert not stream.closed()
        stream.close()
        peer.close()


def test_a_tail_that_is_not_read_holds_so_many_events_and_bytes() -> None:
    queue = Queue(limit=5, max_bytes=100)
    queue.put([event(number, 30) for number in range(4)])
    assert (queue._dropped, [e.position for e in queue._events]) == (1, [1, 2, 3])
    queue.put([event(number, 0) for number in range(4, 8)])
    assert (queue._dropped, [e.position for e in queue._events]) == (3, [3, 4, 5, 6, 7])
    queue.put([event(8, 1000)])
    assert [e.position for e in queue._events] == [8], "the latest is kept"


def event(position: int, size: int) -> Event:
    return Event(position, (PUBLIC,), "message", None, (), bytes(size))
