"""What the benchmark knows of a peer: where to subscribe, how to publish, which processes to charge.

Templates of paths and messages are those of sse_daemon.bench.target: plain text with the marks `{key}` and `{data}`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sse_daemon.bench.target import HttpPublish, ZmqPublish, fill

__all__ = ["HttpPublish", "Peer", "PeerError", "Running", "ZmqPublish"]


class PeerError(Exception):
    """A peer did not start, or died; the text says why, with the end of its log."""


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
    at_once: int = 256
    """How many streams may be opened at once; for a peer that states fewer, more are too many."""

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
