"""A small server to load: what is posted goes to every subscriber, as badly as a test asks for."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sse_daemon.bench.target import HttpPublish, Target

OPENING = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"

Deliver = Callable[[int, bytes], list[bytes]]


def faithful(number: int, block: bytes) -> list[bytes]:
    """Every event as it is."""
    return [block]


class FanOut:
    """deliver(number, block): the pieces in which event `number` (0, 1, 2 ...) goes to each subscriber; an empty piece closes it."""

    def __init__(self, deliver: Deliver = faithful, answer: bytes = ANSWER, opening: bytes = OPENING) -> None:
        self._deliver, self._answer, self._opening = deliver, answer, opening
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._subscribers: list[socket.socket] = []
        self._input: dict[socket.socket, bytes] = {}
        self._events = 0
        self._stop, self._stopped = socket.socketpair()
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)

    @property
    def target(self) -> Target:
        host, port = self._listener.getsockname()
        return Target(
            name="fan-out", host=host, port=port, path="/?{key}", publish=HttpPublish(host=host, port=port, path="/publish/{key}")
        )

    @contextmanager
    def running(self) -> Iterator[FanOut]:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._stopped, selectors.EVENT_READ)
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.close()
            self._thread.join()
            for each in (self._listener, self._stopped, self._selector, *self._input):
                each.close()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._stopped:
                    return
                self._ready(key.fileobj)  # type: ignore[arg-type]

    def _ready(self, ready: socket.socket) -> None:
        if ready is self._listener:
            made, _ = ready.accept()
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._input[made] = b""
            self._selector.register(made, selectors.EVENT_READ)
            return
        try:
            data = ready.recv(65536)
        except ConnectionResetError:  # it was closed with something unread
            data = b""
        if not data:
            self._close(ready)
            return
        self._input[ready] += data
        while self._request(ready):
            pass

    def _request(self, source: socket.socket) -> bool:
        head, whole, rest = self._input[source].partition(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0] or 0)
        if not whole or len(rest) < length:
            return False
        self._input[source] = rest[length:]
        self.requests.append(head)
        if head.startswith(b"GET"):
            source.sendall(self._opening)
            self._subscribers.append(source)
        else:
            self._publish(rest[:length])
            source.sendall(self._answer)
        return True

    def _publish(self, data: bytes) -> None:
        block = b"id: %d\ndata: %s\n\n" % (self._events, data)
        pieces = self._deliver(self._events, b"%x\r\n%s\r\n" % (len(block), block))
        self._events += 1
        for subscriber in list(self._subscribers):
            with suppress(ConnectionError):  # it was cut, which is noticed when it is its turn
                for piece in pieces:
                    if piece:
                        subscriber.sendall(piece)
                    else:
                        self._close(subscriber)

    def _close(self, gone: socket.socket) -> None:
        self._selector.unregister(gone)
        self._subscribers = [each for each in self._subscribers if each is not gone]
        del self._input[gone]
        gone.close()
