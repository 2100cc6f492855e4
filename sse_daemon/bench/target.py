"""What is measured, from outside: where to subscribe, how to publish, which processes to charge.

Every template is plain text with two marks, `{key}` and `{data}`, and nothing else is replaced (a body may be JSON, so str.format
would trip over its braces). A key is `[A-Za-z0-9-]+`; data is ASCII without quotes, backslashes and line ends, so that no
server's format needs escaping and no generator has to do it. All subscribers with one key is "to all"; a key each is "to one".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

KEY = "{key}"
DATA = "{data}"


@dataclass(frozen=True, kw_only=True)
class HttpPublish:
    """One POST an event, on a connection that stays open; the server answers 2xx to each, in order."""

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
    """One ZeroMQ message an event; the generator's socket of `kind` connects to `address`.

    pub waits for the subscription, push for the connection; a dealer puts a request id before the frames and is answered.
    """

    address: str
    kind: Literal["pub", "push", "dealer"]
    frames: tuple[str, ...] = (DATA,)

    def message(self, key: str, data: str) -> list[bytes]:
        """The frames to send."""
        return [fill(frame, key, data).encode("ascii") for frame in self.frames]


Publish: TypeAlias = HttpPublish | ZmqPublish


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server under load. path has the mark `{key}`. pids: the processes to charge; none: CPU and memory are not measured.

    prefix stands before every key, so that two runs never meet, nor anybody who is really there. publish_all: how to reach
    all subscribers of one key, where that is not simply publishing to this key.
    """

    name: str
    host: str
    port: int
    path: str
    publish: Publish
    version: str = ""
    pids: tuple[int, ...] = ()
    prefix: str = "bench-"
    publish_all: Publish | None = None
    separator: str | None = None
    """What stands between two keys in the place of `{key}`, if the server has events for several subscribers."""
    acked: ZmqPublish | None = None
    """How to publish with an answer to each event, if the server has that."""
    at_once: int = 256
    """Connections under way at a time while many are opened."""

    def key(self, number: int) -> str:
        """The key of subscriber `number`; 0 is also the one that all share."""
        return f"{self.prefix}{number}"

    def subscribe(self, key: str, cursor: str | None = None) -> bytes:
        """The whole request of one subscriber; cursor: it resumes there."""
        lines = [f"GET {fill(self.path, key, '')} HTTP/1.1", f"Host: {self.host}:{self.port}", "Accept: text/event-stream"]
        if cursor is not None:
            lines.append(f"Last-Event-ID: {cursor}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def fill(template: str, key: str, data: str) -> str:
    """`template` with its marks replaced."""
    return template.replace(KEY, key).replace(DATA, data)
