"""The daemon's peers, with nothing of the product in them: clients on bare sockets, producers on bare ZeroMQ sockets, operators.

Nothing here runs by itself: a client takes in what has come when it is told to (`pump`), so that a test that wants a slow client
just does not ask it.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote, urlencode

import zmq

from tests.integration.daemon import DEADLINE, RunningDaemon
from tests.wire.whatwg import Message, Parser

OWN_TYPES = frozenset({"connected", "heartbeat", "resync", "bye"})
"""What only the daemon writes."""

_numbers = itertools.count(1)


def wait(condition: Callable[[], Any], what: str, clients: Iterable[Client] = (), seconds: float = DEADLINE) -> Any:
    """The first true value of condition(), while the clients read; fails after `seconds`."""
    clients = list(clients)
    end = time.monotonic() + seconds
    while True:
        busy = [client.pump() for client in clients]
        if value := condition():
            return value
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
        if not any(busy):
            time.sleep(0.005)


# Clients ----------------------------------------------------------------------------------------------------------------------


class Client:
    """One `GET` of a stream over HTTP/1.1.

    where: a TCP port, or the path of a Unix socket. buffer: SO_RCVBUF, for one that is to be full soon. messages: everything so
    far; head: status line and headers; ended: the response came to its proper end; closed: so did the connection.
    """

    def __init__(
        self,
        where: int | Path,
        participant: str | None = None,
        *,
        path: str = "/events",
        last_id: str = "",
        buffer: int | None = None,
        **query: str,
    ) -> None:
        self.messages: list[Message] = []
        self.parser = Parser(last_id)
        self.head = b""
        self.ended = self.closed = self.reset = False
        self._left = b""
        self.sock = socket.socket(socket.AF_INET if isinstance(where, int) else socket.AF_UNIX)
        if buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.settimeout(DEADLINE)
        try:
            self.sock.connect(("127.0.0.1", where) if isinstance(where, int) else str(where))
        except OSError:
            self.sock.close()
            raise
        target = path + ("?" + urlencode(query, quote_via=quote) if query else "")
        lines = [f"GET {target} HTTP/1.1", "Host: localhost", "Accept: text/event-stream"]
        lines += [f"X-Public-Key: {participant}"] if participant is not None else []
        lines += [f"Last-Event-ID: {last_id}"] if last_id else []
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())
        self.sock.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.sock.close()

    def opened(self) -> Self:
        """Waits for the stream's first block: from here on it is on its channels."""
        wait(lambda: self.parser.retry is not None or self.closed, "the stream to open", [self])
        assert self.status == 200, self.head
        return self

    def pump(self) -> bool:
        """Takes in what has come; True if there was something."""
        return self.take(1 << 30) > 0

    def take(self, most: int) -> int:
        """Takes in at most so many bytes of what has come; how many there were."""
        taken = 0
        while taken < most and not self.closed:
            try:
                part = self.sock.recv(min(most - taken, 1 << 18))
            except BlockingIOError:
                break
            except ConnectionResetError:
                part, self.reset = b"", True
            if not part:
                self.closed = True
            taken += len(part)
            self._left += part
            self._parse()
        return taken

    def _parse(self) -> None:
        if not self.head:
            head, found, rest = self._left.partition(b"\r\n\r\n")
            if not found:
                return
            self.head, self._left = head, rest
        if b"chunked" not in self.head:
            self.messages += self.parser.feed(self._left)
            self._left = b""
            return
        self._chunks()

    def _chunks(self) -> None:
        at = 0
        while not self.ended and (end := self._left.find(b"\r\n", at)) >= 0:
            size = int(self._left[at:end], 16)
            if len(self._left) < end + size + 4:
                break
            self.messages += self.parser.feed(self._left[end + 2 : end + 2 + size])
            at = end + size + 4
            self.ended = size == 0
        self._left = self._left[at:]

    @property
    def status(self) -> int:
        """The status of the answer; 0 before it has come."""
        return int(self.head.split(b" ", 2)[1]) if self.head else 0

    @property
    def body(self) -> str:
        """What came that is no stream."""
        return self._left.decode()

    @property
    def events(self) -> list[Message]:
        """What producers sent."""
        return [message for message in self.messages if message.type not in OWN_TYPES]

    @property
    def data(self) -> list[str]:
        """The data of `events`."""
        return [message.data for message in self.events]

    def of(self, type: str) -> list[Any]:
        """The decoded data of the daemon's own events of a type."""
        return [json.loads(message.data) for message in self.messages if message.type == type]

    def wait_events(self, count: int, *others: Client) -> list[str]:
        """The data of all events, once there are `count`."""
        wait(lambda: len(self.events) >= count or self.closed, f"event {count}", [self, *others])
        return self.data

    def wait_closed(self, *others: Client) -> None:
        """Waits until the daemon has closed the connection."""
        wait(lambda: self.closed, "the end of the stream", [self, *others])


def connect(daemon: RunningDaemon, participant: str | None = None, **options: Any) -> Client:
    """A client whose stream is open."""
    return Client(daemon.http_port, participant, **options).opened()


class Answer(NamedTuple):
    status: int
    body: Any
    """JSON where it is, else text."""


def ask(where: RunningDaemon | Path, method: str, path: str, body: Any = None, timeout: float = DEADLINE) -> Answer:
    """One request; where: the daemon, for its HTTP, or the path of a Unix socket."""
    connection: http.client.HTTPConnection
    if isinstance(where, Path):
        connection = http.client.HTTPConnection("localhost", timeout=timeout)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(timeout)
        connection.sock.connect(str(where))
    else:
        connection = http.client.HTTPConnection("127.0.0.1", where.http_port, timeout=timeout)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        text = response.read().decode()
        return Answer(response.status, json.loads(text) if "json" in (response.getheader("Content-Type") or "") else text)
    finally:
        connection.close()


# Operators --------------------------------------------------------------------------------------------------------------------


def operator(daemon: RunningDaemon, path: str) -> Any:
    """What the admin socket answers to a GET."""
    answer = ask(daemon.admin, "GET", path)
    assert answer.status == 200, answer
    return answer.body


def metrics(daemon: RunningDaemon) -> dict[str, Any]:
    """The daemon's counters and gauges."""
    found: dict[str, Any] = operator(daemon, "/stats")["metrics"]
    return found


def tally(daemon: RunningDaemon, sender: str) -> dict[str, Any]:
    """The row of one producer; empty if it is not known."""
    return next((row for row in operator(daemon, "/producers")["producers"] if row["from"] == sender), {})


def files_of(pid: int) -> int:
    """How many files a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident(pid: int) -> int:
    """Bytes of a process's memory that are in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# Producers --------------------------------------------------------------------------------------------------------------------


def event(to: Any = "*", data: str | bytes | None = "", **members: Any) -> bytes:
    """One frame; data None: no LF, so that a member `data` is the data. `sender` stands for the member `from`."""
    header = {"to": to, **members}
    if "sender" in header:
        header["from"] = header.pop("sender")
    head = json.dumps({name: value for name, value in header.items() if value is not None}, ensure_ascii=False).encode()
    return head if data is None else head + b"\n" + (data if isinstance(data, bytes) else data.encode())


def group(name: str, *members: str, **more: Any) -> bytes:
    """The control envelope that sets a group."""
    return json.dumps({"group": name, "members": members, **more}).encode()


class Acked:
    """A DEALER or REQ socket, and what it was answered."""

    def __init__(self, address: str, kind: int = zmq.DEALER, hwm: int = 0) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(kind)
        self.socket.setsockopt(zmq.SNDHWM, hwm)
        self.socket.setsockopt(zmq.RCVHWM, hwm)
        self.socket.connect(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.context.destroy(linger=0)

    def send(self, *frames: bytes, id: bytes | None = None) -> bytes:
        """Sends a request, its id first; returns the id."""
        id = b"%d" % next(_numbers) if id is None else id
        self.socket.send_multipart([id, *frames])
        return id

    def receive(self, seconds: float = DEADLINE) -> list[bytes]:
        """The frames of the next answer."""
        assert self.socket.poll(int(seconds * 1000)), f"waited {seconds:g} s for an answer"
        return self.socket.recv_multipart()

    def answers(self, count: int) -> dict[bytes, Any]:
        """The next `count` answers by request id."""
        return {id: json.loads(answer) for id, answer in (self.receive() for _ in range(count))}

    def ask(self, *frames: bytes, id: bytes | None = None) -> Any:
        """The answer to one message."""
        id = self.send(*frames, id=id)
        *envelope, answer = self.receive()
        while envelope != [id]:  # the answer to something that was sent before
            *envelope, answer = self.receive()
        return json.loads(answer)

    def store(self, *frames: bytes) -> list[str]:
        """The ids of one message, which must be stored."""
        answer = self.ask(*frames)
        assert answer["ok"] is True and set(answer) == {"ok", "ids"}, answer
        ids: list[str] = answer["ids"]
        return ids

    def refused(self, *frames: bytes) -> tuple[str, int | None]:
        """(code, index) of the refusal of one message, which must be refused."""
        answer = self.ask(*frames)
        assert answer["ok"] is False and isinstance(answer["detail"], str) and answer["detail"], answer
        return answer["code"], answer.get("index")


class Pub:
    """A publisher that nothing is lost of: it has no bound, and waits until the daemon has subscribed."""

    def __init__(self, address: str) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.XPUB)  # a PUB socket that shows subscriptions
        self.socket.setsockopt(zmq.SNDHWM, 0)
        self.socket.connect(address)
        assert self.socket.poll(int(DEADLINE * 1000)), "waited for the daemon to subscribe"
        assert self.socket.recv() == b"\x01"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.context.destroy(linger=0)

    def send(self, *frames: bytes) -> None:
        """Publishes one message."""
        self.socket.send_multipart(frames)


@contextmanager
def producers(daemon: RunningDaemon) -> Iterator[tuple[Acked, Pub]]:
    """One of each kind."""
    with Acked(daemon.acked) as acked, Pub(daemon.pubsub) as pub:
        yield acked, pub


def positions(ids: Sequence[str]) -> list[int]:
    """The places in the log that ids name."""
    return [int(id.partition("-")[2]) for id in ids]
