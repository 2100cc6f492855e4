"""Many subscribers in one process: opened, counted and cut as fast as one epoll goes.

A read costs about 2 us, most of it in the kernel: one recv_into a buffer that all share, one count. Only sampled subscribers have their
payloads read one by one. Level-triggered, so that no second read has to find that there is nothing more.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Self

from sse_daemon.bench.errors import Broken
from sse_daemon.bench.payload import MARK, Cut, found, last_id
from sse_daemon.bench.target import Target

BUFFER = 256 * 1024
TURN = 256
"""Events of the epoll that are taken at a time."""
PATIENCE = 10.0
"""Seconds without any progress after which an opening is given up."""
PORTS = 4000
"""Connections from one loopback address: those that were closed keep their ports for a minute, and there are only 28,000."""
FINE = 0.01
"""Below so many seconds a wait is measured by select: epoll's own knows whole milliseconds only."""
_LINE_END = 10
_NO_PORT_YET = 24  # IP_BIND_ADDRESS_NO_PORT, which the socket module does not name

_connections = itertools.count()


class Subscriber:
    """One connection. got: events so far. sampled: each of its payloads is read; last is then the number of the latest."""

    __slots__ = ("cut", "got", "key", "last", "opened", "receive", "sampled", "socket", "tail")

    def __init__(self, key: str, sampled: bool, connection: socket.socket) -> None:
        self.key, self.sampled, self.socket = key, sampled, connection
        self.receive = connection.recv_into
        self.opened = False
        self.got = 0
        self.last = -1
        self.cut: Cut | None = None
        self.tail = Cut()


class Crowd:
    """The open subscribers of one target, and whatever else shares their epoll (`watch`).

    total: deliveries to all of them. delays: ns since each event was due, of those sampled. disordered: how many sampled events came
    again or after a later one. ended: how many subscribers the server has closed. cursor: the latest id, if `cursors` is set.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.total = self.disordered = self.ended = 0
        self.delays: list[int] = []
        self.cursors = False
        self.cursor: str | None = None
        self._epoll = select.epoll()
        self._subscribers: dict[int, Subscriber] = {}
        self._watched: dict[int, Callable[[], object]] = {}
        self._buffer = bytearray(BUFFER)
        self._address = (socket.gethostbyname(target.host), target.port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._epoll.close()

    def __len__(self) -> int:
        return len(self._subscribers)

    @property
    def subscribers(self) -> Sequence[Subscriber]:
        return list(self._subscribers.values())

    # Opening and cutting.

    def open(
        self,
        keys: Sequence[str],
        *,
        sample: int = 1,
        cursor: str | None = None,
        receive_buffer: int | None = None,
        progress: Callable[[int], object] = lambda done: None,
    ) -> None:
        """Opens one for each key; returns when all have their response's head. Raises Broken.

        sample: every so manyth is sampled. cursor: where all of them resume. receive_buffer: the kernel's, in bytes.
        """
        waiting = enumerate(keys)
        under_way = opened = 0
        moved = time.monotonic()
        while opened < len(keys):
            for place, key in itertools.islice(waiting, self.target.at_once - under_way):
                self._connect(Subscriber(key, place % sample == 0, self._socket(receive_buffer)))
                under_way += 1
            if done := self._open_turn(cursor):
                under_way, opened, moved = under_way - done, opened + done, time.monotonic()
                progress(opened)
            elif time.monotonic() - moved > PATIENCE:
                raise Broken(f"{self.target.name} opened {opened} of {len(keys)} streams, then none for {PATIENCE:g} s")

    def _socket(self, receive_buffer: int | None) -> socket.socket:
        try:
            made = socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise Broken(f"after {len(self)} streams: {error.strerror}") from None
        if receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if self._address[0].startswith("127."):
            # The port is chosen at connect, when the other end is known too.
            made.setsockopt(socket.IPPROTO_IP, _NO_PORT_YET, 1)
            made.bind((f"127.0.{next(_connections) // PORTS % 200 + 1}.1", 0))
        return made

    def _connect(self, subscriber: Subscriber) -> None:
        subscriber.socket.connect_ex(self._address)  # what comes of it, the epoll says
        descriptor = subscriber.socket.fileno()
        self._subscribers[descriptor] = subscriber
        self._epoll.register(descriptor, select.EPOLLOUT)

    def _open_turn(self, cursor: str | None) -> int:
        """One wait; how many subscribers got their response's head in it."""
        opened = 0
        for descriptor, events in self._epoll.poll(1.0, TURN):
            subscriber = self._subscribers.get(descriptor)
            if subscriber is None:
                self._watched[descriptor]()
            elif subscriber.opened:
                self._take(descriptor, subscriber)
            elif events & select.EPOLLIN:
                self._head(descriptor, subscriber)
                opened += 1
            else:
                self._ask(descriptor, subscriber, cursor)
        return opened

    def _ask(self, descriptor: int, subscriber: Subscriber, cursor: str | None) -> None:
        if error := subscriber.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise Broken(f"no connection to {self.target.name} on port {self.target.port}: {os.strerror(error)}")
        subscriber.socket.send(self.target.subscribe(subscriber.key, cursor))
        self._epoll.modify(descriptor, select.EPOLLIN)

    def _head(self, descriptor: int, subscriber: Subscriber) -> None:
        # A look only: what is behind the head is taken as everything else is.
        head = subscriber.socket.recv(64, socket.MSG_PEEK)
        if not head.startswith(b"HTTP/1.1 200"):
            said = head.splitlines()[0].decode("latin-1") if head else "it closed the connection"
            raise Broken(f"{self.target.name} opened no stream: {said}")
        subscriber.opened = True
        self._take(descriptor, subscriber)

    def stall(self, subscribers: Iterable[Subscriber]) -> None:
        """They read nothing any more; for good."""
        for subscriber in subscribers:
            self._epoll.unregister(subscriber.socket.fileno())

    def cut(self) -> None:
        """Closes all of them. What was counted stays."""
        for subscriber in self._subscribers.values():
            subscriber.socket.close()
        self._subscribers.clear()

    # Reading.

    def watch(self, descriptor: int, call: Callable[[], object]) -> None:
        """Calls `call` in a turn in which this descriptor is readable."""
        self._watched[descriptor] = call
        self._epoll.register(descriptor, select.EPOLLIN)

    def unwatch(self, descriptor: int) -> None:
        """Ends `watch`."""
        del self._watched[descriptor]
        self._epoll.unregister(descriptor)

    def turn(self, timeout: float, at_most: int = 1000) -> None:
        """Waits for up to `timeout` seconds, then reads once from each of `at_most` subscribers that have something."""
        if 0 < timeout < FINE:
            select.select([self._epoll], (), (), timeout)
            timeout = 0
        get, take = self._subscribers.get, self._take
        for descriptor, _ in self._epoll.poll(timeout, at_most):
            if (subscriber := get(descriptor)) is not None:
                take(descriptor, subscriber)
            else:
                self._watched[descriptor]()

    def _take(self, descriptor: int, subscriber: Subscriber) -> None:
        buffer = self._buffer
        try:
            n = subscriber.receive(buffer)
        except OSError:  # reset, which is an end too
            n = 0
        if not n:
            self._lose(descriptor)
            return
        count = buffer.count(MARK, 0, n)
        if subscriber.cut is not None or buffer[n - 1] != _LINE_END:
            count += self._across(subscriber, n)
        if subscriber.sampled:
            self._sample(subscriber, bytes(memoryview(buffer)[:n]))
        subscriber.got += count
        self.total += count

    def _across(self, subscriber: Subscriber, n: int) -> int:
        cut = subscriber.cut or Cut()
        subscriber.cut = None if self._buffer[n - 1] == _LINE_END else cut
        return cut.across(self._buffer, n)

    def _sample(self, subscriber: Subscriber, data: bytes) -> None:
        now = time.monotonic_ns()
        data = subscriber.tail.joined(data)
        for due, number in found(data):
            self.delays.append(now - due)
            self.disordered += number <= subscriber.last
            subscriber.last = number
        if self.cursors:
            self.cursor = last_id(data) or self.cursor

    def _lose(self, descriptor: int) -> None:
        self.ended += 1
        self._epoll.unregister(descriptor)
        self._subscribers.pop(descriptor).socket.close()
