"""The publisher's side of the load: ZeroMQ or pipelined POST, never blocking, in the loop of the subscribers.

What is sent differs only in the payload, so the bytes around it are made once for each key.
"""

from __future__ import annotations

import socket
import time
from typing import Protocol

import zmq

from sse_daemon.bench.errors import Broken
from sse_daemon.bench.target import DATA, HttpPublish, Publish, ZmqPublish

PIPELINED = 64
"""Requests without an answer on one HTTP connection, beyond which the next one waits."""
PATIENCE = 10.0
_STATUS = b"HTTP/1.1 "
_KINDS = {"pub": zmq.XPUB, "push": zmq.PUSH, "dealer": zmq.DEALER}


class Sender(Protocol):
    """descriptor: where answers show, to be followed by `arrived`. answers: ns that each took, where that is measured."""

    descriptor: int
    answers: list[int]

    @property
    def unanswered(self) -> int:
        """How many were sent and not answered yet, where there are answers."""

    def send(self, key: str, data: bytes) -> None:
        """Publishes; what it cannot hand over yet it keeps."""

    def room(self) -> bool:
        """Whether one more may be sent now."""

    def flush(self) -> None:
        """To be called after a row of `send`."""

    def arrived(self) -> None:
        """Takes in answers. Raises Broken for one that says no."""

    def close(self) -> None: ...


def connected(publish: Publish, size: int) -> Sender:
    """A connected publisher of payloads of `size` bytes. Raises Broken if nobody takes them."""
    return HttpSender(publish, size) if isinstance(publish, HttpPublish) else ZmqSender(publish)


class HttpSender:
    """Pipelined POST on one connection; a row of them is one write."""

    def __init__(self, publish: HttpPublish, size: int) -> None:
        self._publish, self._size = publish, size
        self._around: dict[str, tuple[bytes, bytes]] = {}
        self._out = bytearray()
        self._rest = b""
        self._unanswered = 0
        self.answers: list[int] = []
        try:
            self._socket = socket.create_connection((publish.host, publish.port), PATIENCE)
        except OSError as error:
            raise Broken(f"cannot publish to {publish.host}:{publish.port}: {error}") from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self.descriptor = self._socket.fileno()

    def send(self, key: str, data: bytes) -> None:
        before, after = self._around.get(key) or self._make(key)
        self._out += before + data + after
        self._unanswered += 1

    def _make(self, key: str) -> tuple[bytes, bytes]:
        # A stand-in of the right length, for the sake of Content-Length.
        stand_in = "\0" * self._size
        before, _, after = self._publish.request(key, stand_in).partition(stand_in.encode())
        self._around[key] = before, after
        return before, after

    @property
    def unanswered(self) -> int:
        return self._unanswered

    def room(self) -> bool:
        return self._unanswered < PIPELINED

    def flush(self) -> None:
        # PIPELINED small requests fit the kernel's buffer; should they not, the answers to the first ones bring us back.
        if self._out:
            try:
                del self._out[: self._socket.send(self._out)]
            except BlockingIOError:
                pass  # nothing went out; it stays for the next time
            except OSError as error:
                raise Broken(f"the publisher's connection is gone: {error.strerror}") from None

    def arrived(self) -> None:
        received = self._socket.recv(65536)
        if not received:
            raise Broken("the server closed the publisher's connection")
        # A body need not end with a line end, so the next status line may stand behind it.
        data = self._rest + received
        at = data.find(_STATUS)
        while 0 <= at <= len(data) - len(_STATUS) - 3:
            self._answer(data[at + len(_STATUS) : at + len(_STATUS) + 3])
            data = data[at + len(_STATUS) + 3 :]
            at = data.find(_STATUS)
        self._rest = data[-len(_STATUS) - 2 :]
        self.flush()

    def _answer(self, status: bytes) -> None:
        if not status.startswith(b"2"):
            raise Broken(f"the server refuses to publish: status {status.decode('latin-1')}")
        self._unanswered -= 1

    def close(self) -> None:
        self._socket.close()


class ZmqSender:
    """A PUB, PUSH or DEALER socket. waits: when each unanswered request of a DEALER was sent, by its number.

    answers: ns that each took. in_flight: how many may be unanswered. Its queue has no bound: the load itself keeps so many
    outstanding and not more.
    """

    def __init__(self, publish: ZmqPublish, in_flight: int = 1 << 30) -> None:
        self._publish = publish
        self._around: dict[str, list[tuple[bytes, bytes, bytes]]] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(_KINDS[publish.kind])
        self._socket.set(zmq.SNDHWM, 0)
        self._socket.set(zmq.LINGER, 0)
        self._dealer = publish.kind == "dealer"
        self._number = 0
        self.waits: dict[bytes, int] = {}
        self.answers: list[int] = []
        self._in_flight = in_flight
        try:
            self._connect()
        except BaseException:
            self.close()
            raise
        self.descriptor = int(self._socket.get(zmq.FD))

    def _connect(self) -> None:
        try:
            self._socket.connect(self._publish.address)
        except zmq.ZMQError as error:
            raise Broken(f"cannot connect to {self._publish.address}: {error}") from None
        # A PUB drops what nobody has subscribed to yet; XPUB shows when somebody has. The others show a connection.
        events = zmq.POLLIN if self._publish.kind == "pub" else zmq.POLLOUT
        if not self._socket.poll(int(PATIENCE * 1000), events):
            raise Broken(f"nobody takes events at {self._publish.address}, or only from producers with a key of theirs (CURVE)")

    def send(self, key: str, data: bytes) -> None:
        # A frame without the mark, such as a topic, is what it is.
        frames = [before + data + after if mark else before for before, mark, after in self._around.get(key) or self._make(key)]
        if self._dealer:
            self._number += 1
            request = b"%d" % self._number
            self.waits[request] = time.monotonic_ns()
            frames.insert(0, request)
        if len(frames) == 1:
            self._socket.send(frames[0])
        else:
            self._socket.send_multipart(frames)

    def _make(self, key: str) -> list[tuple[bytes, bytes, bytes]]:
        parts = [frame.partition(DATA.encode()) for frame in self._publish.message(key, DATA)]
        self._around[key] = parts
        return parts

    @property
    def unanswered(self) -> int:
        return len(self.waits)

    def room(self) -> bool:
        return len(self.waits) < self._in_flight

    def flush(self) -> None:
        # Its descriptor signals edges only, and a send may swallow one.
        if self._dealer:
            self.arrived()

    def arrived(self) -> None:
        now = time.monotonic_ns()
        try:
            while True:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
                if self._dealer:
                    self._answer(frames, now)
        except zmq.Again:
            return

    def _answer(self, frames: list[bytes], now: int) -> None:
        if b'"ok":true' not in frames[1].replace(b" ", b""):
            raise Broken(f"the server refuses: {frames[1].decode(errors='replace')[:200]}")
        self.answers.append(now - self.waits.pop(frames[0]))

    def close(self) -> None:
        self._context.destroy(linger=0)
