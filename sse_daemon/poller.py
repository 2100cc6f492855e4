"""Which of the open streams' sockets became writable, were closed, or said something.

All of them stand in one edge-triggered epoll of this process, registered once, and that epoll is one reader of the loop: a write
to a stream then costs no system call beside its send. Linux only.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

from sse_daemon.stream import Stream

EVENTS_A_TURN = 32
"""Sockets looked at before the loop gets a turn for everything else; the loop comes back at once if there are more."""

_MASK = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_INPUT = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Poller:
    """Calls writable(stream) and spoke(stream); `spoke` is about input of any kind, the end included."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, writable: Callable[[Stream], None], spoke: Callable[[Stream], None]
    ) -> None:
        self._loop = loop
        self._writable = writable
        self._spoke = spoke
        self._epoll = select.epoll()
        self._streams: dict[int, Stream] = {}
        loop.add_reader(self._epoll.fileno(), self._ready)

    def add(self, stream: Stream) -> None:
        """Watches the stream's socket; what it has to say already is reported too."""
        fd = stream.sock.fileno()
        self._streams[fd] = stream
        self._epoll.register(fd, _MASK)

    def remove(self, stream: Stream) -> None:
        """To be called before the socket is closed: its number may be another's the moment after."""
        fd = stream.sock.fileno()
        if self._streams.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Watches nothing any more."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._streams.clear()

    def _ready(self) -> None:
        for fd, mask in self._epoll.poll(0, EVENTS_A_TURN):
            stream = self._streams.get(fd)
            if stream is None:  # removed by an earlier event of the same poll
                continue
            if mask & _INPUT:
                self._spoke(stream)
            if mask & select.EPOLLOUT:
                self._writable(stream)
