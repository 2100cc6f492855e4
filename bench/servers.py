"""The servers of one run: started when they are first needed, all of them on one core, and ended with the run."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.peers import Peer, Running
from bench.peers.daemon import OwnRunning
from sse_daemon.bench.daemon import target as own_target
from sse_daemon.bench.target import Target


def cores() -> tuple[int | None, set[int]]:
    """(the core of the servers, those of the generator); without a second core nobody is bound."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], set(allowed[1:])) if len(allowed) > 1 else (None, set(allowed))


def target(running: Running) -> Target:
    """A started server as the generator sees it. To all is to everybody at once: nobody else is there."""
    if isinstance(running, OwnRunning):
        return own_target(
            host=running.host,
            port=running.port,
            pubsub=running.pubsub,
            acked=running.acked,
            pids=running.pids,
            public=True,
            name=running.name,
            version=running.version,
        )
    return Target(
        name=running.name,
        version=running.version,
        host=running.host,
        port=running.port,
        path=running.path,
        publish=running.publish,
        pids=running.pids,
        prefix=f"bench-{secrets.token_hex(4)}-",
        at_once=running.at_once,
    )


class Servers:
    """They idle beside each other, so that two can be measured one right after the other."""

    def __init__(self, peers: Mapping[str, Peer], core: int | None) -> None:
        self.peers, self._core = peers, core
        self._running: dict[str, tuple[Running, Path]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for name in list(self._running):
            self.drop(name)

    def target(self, name: str, *, fresh: bool = False) -> Target:
        """The server, running; fresh: only just started. Raises PeerError if it does not start."""
        if fresh:
            self.drop(name)
        if name not in self._running:
            # Not below a long path: a Unix socket's has to be short.
            directory = Path(tempfile.mkdtemp(prefix="sse-bench-"))
            try:
                self._running[name] = self.peers[name].start(core=self._core, directory=directory), directory
            except BaseException:
                shutil.rmtree(directory, ignore_errors=True)
                raise
        return target(self._running[name][0])

    def drop(self, name: str) -> None:
        """Ends it, if it runs; the next `target` starts it again."""
        if (found := self._running.pop(name, None)) is not None:
            running, directory = found
            running.stop()
            shutil.rmtree(directory, ignore_errors=True)
