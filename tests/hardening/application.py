"""An application that the daemon asks who asks: a server whose answers a test writes byte by byte, and which remembers every question."""

from __future__ import annotations

import itertools
import json
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.integration.daemon import RunningDaemon

SETTINGS = """
[streams]
open_rate = 0
[[stream]]
path = "/open"
anonymous = "public"
[[stream]]
path = "/public"
participant = "none"
"""
"""A route where it may name nobody, and one about which it is not asked; and streams at any pace."""

AWAY = (503, "auth_unavailable")
"""What a client gets while the application does not say who asks."""

_numbers = itertools.count(1)


class Asked(NamedTuple):
    """A question: the target, and its headers in order, names in lower case."""

    target: str
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str | None:
        """The value of a header that stands at most once."""
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) < 2, f"{name} stands twice"
        return values[0] if values else None

    @property
    def token(self) -> str:
        """Who asks, by what the tests send: Authorization: Bearer alice.1, or Cookie: session=alice.1."""
        credential = self.header("Authorization") or self.header("Cookie") or ""
        return credential.removeprefix("Bearer ").removeprefix("session=")


Piece = bytes | Callable[[], None]
"""Bytes to send, or something to do before going on."""


def answer(status: int, body: bytes | str = b"", *headers: str, length: int | None = None) -> bytes:
    """A whole HTTP answer."""
    content = body.encode() if isinstance(body, str) else body
    said = "".join(f"{line}\r\n" for line in (*headers, f"Content-Length: {len(content) if length is None else length}"))
    return f"HTTP/1.1 {status} Said\r\n{said}\r\n".encode() + content


def named(participant: str | None, **more: Any) -> bytes:
    """The answer that names somebody, or nobody."""
    return answer(200, json.dumps({"participant": participant, **more}), "Content-Type: application/json")


def by_token(asked: Asked) -> list[Piece]:
    """Whoever has a token is who stands before its dot."""
    name = asked.token.partition(".")[0]
    return [named(name) if name else answer(401)]


def fresh(name: str) -> str:
    """A token of `name` that nobody had before."""
    return f"{name}.{next(_numbers)}"


def outcomes(daemon: RunningDaemon) -> dict[str, float]:
    """What became of the questions, as the daemon counts them."""
    return dict(daemon.ask("stats")["metrics"]["hook_questions_total"])


class Application:
    """It runs from `with` or `start` to `stop`; a second `start` takes the same address. path: a Unix socket instead of a port."""

    def __init__(self, path: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.answers: Callable[[Asked], Iterable[Piece]] = by_token
        self.asked: list[Asked] = []
        self.at_once = 0
        """The most questions that were being answered at a time."""
        self.go = threading.Event()
        """What `held` waits for; the end of the application sets it too."""
        self.path = path
        self._tls = tls
        self._port = 0
        self._now = 0
        self._lock = threading.Lock()
        self._server: socketserver.BaseServer | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}/who?x=1"

    def config(self, **settings: Any) -> str:
        """The [auth] table of a daemon that asks this application."""
        said = {"mode": "hook", "hook_url": self.url, **settings}
        return "[auth]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items())

    def reserve(self) -> None:
        """Takes an address and lets nobody in yet."""
        self.start()
        self.stop()

    def start(self) -> None:
        """Answers from now on."""
        self.go.clear()
        app = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):  # the daemon did not wait for the end of it
                    if app._tls is None:
                        app._handle(self.request)
                    else:
                        with app._tls.wrap_socket(self.request, server_side=True) as connection:
                            app._handle(connection)

        if self.path is not None:
            self.path.unlink(missing_ok=True)
            server: socketserver.BaseServer = _UnixServer(str(self.path), Handler)
        else:
            server = _TcpServer(("127.0.0.1", self._port), Handler)
            self._port = server.server_address[1]  # type: ignore[index, assignment]
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Ends it, with whatever waits."""
        self.go.set()
        if self._server is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    def held(self) -> None:
        """For an answer that comes when `go` is set."""
        self.go.wait(30)

    def of(self, *tokens: str) -> int:
        """How many questions there were about these tokens."""
        return sum(asked.token in tokens for asked in self.asked)

    def _handle(self, connection: Any) -> None:
        asked = _read(connection)
        if asked is None:
            return
        with self._lock:
            self.asked.append(asked)
            self._now += 1
            self.at_once = max(self.at_once, self._now)
        try:
            for piece in self.answers(asked):
                connection.sendall(piece) if isinstance(piece, bytes) else piece()
        finally:
            with self._lock:
                self._now -= 1


class _TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    request_queue_size = 128


def _read(connection: Any) -> Asked | None:
    """The head of a question, by the letter."""
    read = b""
    while b"\r\n\r\n" not in read:
        part = connection.recv(65536)
        if not part:
            return None
        read += part
    head, _, rest = read.partition(b"\r\n\r\n")
    assert rest == b"", "a question has no body"
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    assert (method, version) == ("GET", "HTTP/1.1")
    return Asked(target, tuple((name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)))
