"""One epoll for all streams: what it reports, and that it reports it of streams that are still there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from sse_daemon import poller as module
from sse_daemon.poller import Poller
from sse_daemon.stream import Stream
from tests.unit.test_stream import stream_on


class Watched:
    """A poller, and what it reported of which stream."""

    def __init__(self) -> None:
        self.writable: list[Stream] = []
        self.spoke: list[Stream] = []
        self.on_spoke: Callable[[Stream], None] = lambda stream: None
        self.poller = Poller(asyncio.get_running_loop(), self.writable.append, self._spoke)
        self.peers: list[socket.socket] = []
        self.streams: list[Stream] = []

    def _spoke(self, stream: Stream) -> None:
        self.spoke.append(stream)
        self.on_spoke(stream)

    def open(self) -> tuple[Stream, socket.socket]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        stream = stream_on(ours)
        self.poller.add(stream)
        self.peers.append(theirs)
        self.streams.append(stream)
        return stream, theirs

    def close(self) -> None:
        self.poller.close()
        for sock in (*self.peers, *(stream.sock for stream in self.streams)):
            sock.close()


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    watched = Watched()
    yield watched
    watched.close()


async def test_a_new_stream_is_writable_once_and_then_only_after_it_was_full(watched: Watched, until: Any) -> None:
    stream, peer = watched.open()
    await until(lambda: watched.writable == [stream], "the first report")
    for _ in range(5):
        await asyncio.sleep(0)
    assert watched.writable == [stream]
    stream.rest = memoryview(b"x" * 5_000_000)
    assert not stream.flush(0.0)
    await asyncio.sleep(0)
    assert watched.writable == [stream]
    peer.recv(5_000_000)
    await until(lambda: len(watched.writable) == 2, "the second report")
    assert watched.writable == [stream, stream] and not watched.spoke


@pytest.mark.parametrize(
    "end", [lambda peer: peer.send(b"x"), lambda peer: peer.close(), lambda peer: peer.shutdown(socket.SHUT_WR)]
)
async def test_input_and_every_kind_of_end_is_reported(watched: Watched, until: Any, end: Callable[[socket.socket], Any]) -> None:
    stream, peer = watched.open()
    end(peer)
    await until(lambda: stream in watched.spoke, "the report")


async def test_a_stream_that_another_ones_report_removed_is_not_reported(watched: Watched, until: Any) -> None:
    pairs = [watched.open() for _ in range(2)]

    def remove_all(stream: Stream) -> None:
        for other, _ in pairs:
            watched.poller.remove(other)

    watched.on_spoke = remove_all
    for _, peer in pairs:
        peer.send(b"x")
    await until(lambda: watched.spoke, "a report")
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(watched.spoke) == 1


async def test_more_sockets_than_a_turn_takes_are_all_looked_at(watched: Watched, until: Any) -> None:
    pairs = [watched.open() for _ in range(3 * module.EVENTS_A_TURN)]
    for _, peer in pairs:
        peer.send(b"x")
    await until(lambda: len(set(watched.spoke)) == len(pairs), "all reports")
