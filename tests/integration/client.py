"""A client and a producer for tests that look at single bytes: plain sockets, HTTP read by the letter, no library between.

    with Publisher(daemon.acked) as publisher, Client(daemon.http_port) as client:
        stream = client.get("/events", ("X-Public-Key", "alice"))       the head is read, stream.status and stream.header(...)
        id = publisher.event("hi", to=["alice"])
        stream.blocks(2)                                                the next two blocks as bytes
        stream.until(id)                                                the messages up to and with this last event id

Every read fails after DEADLINE seconds. What comes is checked on the way: a chunk ends where a block ends.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import zmq

from tests.wire.whatwg import Message, Parser

DEADLINE = 30.0

Header = tuple[str, str]


class Publisher:
    """A producer on the acked socket: a DEALER that knows the envelope and nothing of our libraries."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVTIMEO, int(DEADLINE * 1000))
        self._socket.connect(address)
        self._asked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._context.destroy()

    def send(self, *frames: bytes) -> list[str]:
        """Publishes one message of these frames; the ids of its items, once they are stored."""
        self._asked += 1
        request = b"%d" % self._asked
        self._socket.send_multipart([request, *frames])
        answered, answer = self._socket.recv_multipart()
        assert answered == request
        parsed = json.loads(answer)
        assert parsed["ok"], parsed
        return list(parsed["ids"])

    def event(self, data: str | bytes, **header: Any) -> str:
        """Publishes one event; its id."""
        (id,) = self.send(envelope(data, **header))
        return id


def envelope(data: str | bytes, **header: Any) -> bytes:
    """One event as one frame."""
    return json.dumps(header).encode() + b"\n" + (data.encode() if isinstance(data, str) else data)


def query(path: str, **parameters: str) -> str:
    """A target with a query string."""
    return path + "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())


class Client:
    """One TCP connection to the daemon. buffer: bytes that the kernel keeps for a client that does not read; source: its address."""

    def __init__(self, port: int, buffer: int | None = None, source: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(DEADLINE)
        self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.socket.close()

    def get(self, target: str, *headers: Header, method: str = "GET", version: str = "1.1", host: str = "localhost") -> Response:
        """Sends a request and reads the head of its response."""
        self.ask(target, *headers, method=method, version=version, host=host)
        return Response(self, method)

    def ask(self, target: str, *headers: Header, method: str = "GET", version: str = "1.1", host: str = "localhost") -> None:
        """Sends a request."""
        lines = [f"{method} {target} HTTP/{version}", f"Host: {host}", *(f"{name}: {value}" for name, value in headers)]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def line(self) -> bytes:
        """The next line, which ends with CRLF, without it."""
        return self.up_to(b"\r\n")[:-2]

    def up_to(self, mark: bytes) -> bytes:
        """What comes, through the first `mark`."""
        while mark not in self._read:
            assert self._more(), f"the connection ended within {self._read!r}"
        part, found, self._read = self._read.partition(mark)
        return part + found

    def exactly(self, count: int) -> bytes:
        """The next `count` bytes."""
        while len(self._read) < count:
            assert self._more(), f"the connection ended within {self._read!r}"
        part, self._read = self._read[:count], self._read[count:]
        return part

    def to_end(self) -> bytes:
        """Everything until the daemon closes the connection."""
        while self._more():
            pass
        rest, self._read = self._read, b""
        return rest

    def _more(self) -> bool:
        part = self.socket.recv(1 << 20)
        self._read += part
        return part != b""


class Response:
    """A response whose head was read. parser: what the stream came to so far."""

    def __init__(self, client: Client, method: str = "GET") -> None:
        self.client = client
        self.raw_head = client.up_to(b"\r\n\r\n")
        first, *lines = self.raw_head.decode("latin-1").split("\r\n")[:-2]
        self.version, status, _ = first.split(" ", 2)
        self.status = int(status)
        self.headers = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
        self.chunked = ("transfer-encoding", "chunked") in self.headers
        self.parser = Parser()
        self.messages: list[Message] = []
        """Everything that was dispatched, from the first."""
        self._method = method
        self._given = 0

    def header(self, name: str) -> str | None:
        """The value of a header that stands at most once."""
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) < 2, f"{name} stands twice"
        return values[0] if values else None

    def body(self) -> bytes:
        """The whole body of a response that has a length."""
        length = self.header("Content-Length")
        assert length is not None, self.raw_head
        return b"" if self._method == "HEAD" else self.client.exactly(int(length))

    def json(self) -> Any:
        """The body, decoded."""
        assert (self.header("Content-Type") or "").partition(";")[0] == "application/json"
        return json.loads(self.body())

    # A stream.

    def chunk(self) -> bytes | None:
        """The next piece of the stream, a chunk where it has chunks; None at its proper end, behind which the connection closes."""
        part = self._chunk() if self.chunked else self._block()
        if part is not None:
            self.messages += self.parser.feed(part)
            assert not self.parser.pending and part.endswith(b"\n\n"), f"a piece that ends within a block: {part[-200:]!r}"
        return part

    def _chunk(self) -> bytes | None:
        size = int(self.client.line(), 16)
        part = self.client.exactly(size)
        assert self.client.exactly(2) == b"\r\n"
        if size:
            return part
        assert self.client.to_end() == b"", "bytes behind the last chunk"
        return None

    def _block(self) -> bytes:
        return self.client.up_to(b"\n\n")

    def blocks(self, count: int) -> bytes:
        """As many chunks as hold the next `count` blocks (or comments), and no more."""
        found = b""
        while found.count(b"\n\n") < count:
            part = self.chunk()
            assert part is not None, f"the stream ended after {found!r}"
            found += part
        assert found.count(b"\n\n") == count, found
        return found

    def wait(self, condition: Callable[[], object]) -> list[Message]:
        """Reads until the condition holds; the messages that nobody was given before."""
        while not condition():
            assert self.chunk() is not None, f"the stream ended after {self.messages}"
        found, self._given = self.messages[self._given :], len(self.messages)
        return found

    def until(self, id: str) -> list[Message]:
        """The messages up to the one that moves the last event id to `id`."""
        return self.wait(lambda: self.parser.last_event_id == id)

    def next(self, count: int = 1) -> list[Message]:
        """The next `count` messages."""
        most = self._given + count
        found = self.wait(lambda: len(self.messages) >= most)
        assert len(found) == count, found
        return found

    def rest(self) -> list[Message]:
        """The messages until the stream properly ends: the last chunk, then the connection."""
        while self.chunk() is not None:
            pass
        found, self._given = self.messages[self._given :], len(self.messages)
        return found


def admin(socket_path: Any, method: str, path: str, **body: Any) -> Any:
    """Asks the daemon's admin socket; the answer, decoded."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket_path)), timeout=DEADLINE) as http:
        answer = http.request(method, "http://daemon" + path, json=body or None)
    assert answer.status_code == 200, answer.text
    return answer.json()
