"""Producers with keys, strangers, and peers that speak ZMTP by hand, for the tests of what they may do."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from typing import Any, Self

import zmq

from sse_daemon.curve_key import KeyPair, generate, write_secret
from tests.integration.daemon import RunningDaemon
from tests.integration.peers import metrics

PATIENCE = 30_000
"""Milliseconds for one answer."""


class Guarded(RunningDaemon):
    """A daemon whose producers need CURVE. own: its key; config: further lines of [ingest]."""

    def __init__(self, config: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.own = generate()
        self.secret = self.directory / "curve.key"
        write_secret(self.secret, self.own)
        self.folder = self.directory / "producers"
        self.folder.mkdir()
        self.configure(f'[ingest]\ncurve_secret = "{self.secret}"\nauthorized_keys = "{self.folder}"\n{config}')

    def authorize(self, name: str, public: str, limits: str = "") -> None:
        """Makes the producer's file, in force after SIGHUP or a start."""
        (self.folder / f"{name}.toml").write_text(f'public_key = "{public}"\n{limits}\n')

    def failed(self) -> float:
        """Handshakes that came to nothing, so far: which reason counts may hang on who hangs up first."""
        counts: dict[str, float] = metrics(self)["producer_handshakes_failed_total"]
        return sum(counts.values())

    def strangers(self) -> float:
        """Those that came to nothing because of their key."""
        return float(metrics(self)["producer_handshakes_failed_total"].get("key", 0))


class Dealer:
    """An acked producer on a bare socket. key: its CURVE key; None: it speaks NULL."""

    def __init__(self, address: str, server: str | None = None, key: KeyPair | None = None, routing_id: bytes = b"") -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        if routing_id:
            self.socket.setsockopt(zmq.ROUTING_ID, routing_id)
        if key is not None and server is not None:
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, server.encode())
            self.socket.setsockopt(zmq.CURVE_PUBLICKEY, key.public.encode())
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, key.secret.encode())
        self.socket.connect(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.destroy(linger=0)

    def send(self, *frames: bytes) -> None:
        """One request."""
        self.socket.send_multipart([b"1", *frames])

    def answer(self, milliseconds: int = PATIENCE) -> dict[str, Any] | None:
        """The next answer; None if there is none in time."""
        if not self.socket.poll(milliseconds):
            return None
        answer: dict[str, Any] = json.loads(self.socket.recv_multipart()[1])
        return answer

    def ask(self, *frames: bytes) -> str:
        """What came of a message: ok, or the code of its refusal."""
        self.send(*frames)
        answer = self.answer()
        assert answer is not None, "no answer"
        return "ok" if answer["ok"] else str(answer["code"])


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
"""What a ZMTP 3.0 peer without security begins with: signature, version, mechanism, as-server, filler (RFC 23)."""


def ready(kind: bytes) -> bytes:
    """The READY command of such a peer."""
    body = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    return bytes([4, len(body)]) + body


@contextmanager
def raw(address: str, *sent: bytes) -> Iterator[socket.socket]:
    """A bare connection to a tcp:// address, on which `sent` was sent."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        for part in sent:
            connection.sendall(part)
        yield connection


@contextmanager
def peer(address: str, kind: bytes) -> Iterator[socket.socket]:
    """A bare connection whose handshake is done: until the other side is ready, frames are errors."""
    with raw(address, GREETING, ready(kind)) as connection, connection.makefile("rb", buffering=0) as answer:
        exactly(answer, 64)
        exactly(answer, exactly(answer, 2)[1])
        yield connection


def exactly(file: RawIOBase, count: int) -> bytes:
    """The next so many bytes."""
    found = b""
    while len(found) < count:
        part = file.read(count - len(found))
        assert part, "it ended"
        found += part
    return found


def ends(connection: socket.socket) -> bool:
    """Reads until the other side ends the connection; False if it says nothing for half a minute."""
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def cut_after(connection: socket.socket, part: bytes, most: int) -> int | None:
    """Bytes that could be sent, `part` over and over, until the other side ended the connection; None if `most` could, or nobody cared."""
    sent = 0
    try:
        while sent < most:
            connection.sendall(part)  # whole: in the middle of a frame anything else is something else
            sent += len(part)
    except TimeoutError:
        return None
    except OSError:
        return sent
    return None


def memory(pid: int) -> int:
    """Bytes of memory that a process has."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096
