"""What the benchmark knows of a peer: where to subscribe, how to publish, which processes to charge.

Every template is plain text with two marks, `{key}` and `{data}`, and nothing else is replaced (a body may be JSON, so str.format
would trip over its braces). A key is `[A-Za-z0-9-]+`; data is ASCII without quotes, backslashes and line ends, so that no
peer's format needs escaping and no generator has to do it. All subscribers with one key is "to all"; a key each is "to one".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

KEY = "{key}"
DATA = "{data}"


class PeerError(Exception):
    """A peer did not start, or died; the text says why, with the end of its log."""


@dataclass(frozen=True, kw_only=True)
class HttpPublish:
    """One POST an event, on a connection that stays open; the peer answers 2xx to each, in order."""

    host: str
    port: int
    path: str
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "text/plain"),)
    body: str = DATA

    def request(self, key: str, data: str) -> bytes:
        """The whole HTTP/1.1 request."""
        body = fill(self.body, key, data)
        lines = [f"POST {fill(self.path, key, '')} HTTP/1.1", f"Host: {self.host}:{self.port}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("ascii")


@dataclass(frozen=True, kw_only=True)
class ZmqPublish:
    """One ZeroMQ message an event; the generator's socket of `kind` connects to `address`. Nothing is answered."""

    address: str
    kind: Literal["pub", "push", "dealer"]
    frames: tuple[str, ...] = (DATA,)

    def message(self, key: str, data: str) -> list[bytes]:
        """The frames to send."""
        return [fill(frame, key, data).encode("ascii") for frame in self.frames]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A peer that has carried a probe from its publisher's side to a subscriber; `path` has the mark `{key}`."""

    name: str
    version: str
    pids: tuple[int, ...]
    """Every process whose CPU time and memory count as the peer's."""
    host: str
    port: int
    path: str
    publish: HttpPublish | ZmqPublish
    stop: Callable[[], None] = field(repr=False)
    """Ends all of its processes and returns when they are gone; may be called again."""

    def subscribe(self, key: str) -> bytes:
        """The whole request of one subscriber."""
        lines = [f"GET {fill(self.path, key, '')} HTTP/1.1", f"Host: {self.host}:{self.port}", "Accept: text/event-stream"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


class Peer(Protocol):
    """A server that does what the daemon does."""

    @property
    def name(self) -> str: ...

    def missing(self) -> str | None:
        """What is not installed, and the line that installs it; None if the peer can be started."""

    def start(self, *, core: int | None, directory: Path) -> Running:
        """Returns when a probe went through; raises PeerError if none did in time.

        All processes are bound to `core` (None: to none), everything that is written goes into `directory`, which exists and is
        empty, and they end with `stop()` or with the process that started them.
        """


def fill(template: str, key: str, data: str) -> str:
    """`template` with its marks replaced."""
    return template.replace(KEY, key).replace(DATA, data)
