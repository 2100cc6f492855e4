"""This daemon, started as any peer is."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import sse_daemon
from bench.peers.base import Running
from bench.peers.probe import when_ready
from bench.peers.process import free_ports, launch
from sse_daemon.bench.daemon import FRAME
from sse_daemon.bench.target import ZmqPublish

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class OwnRunning(Running):
    """With the addresses that only this daemon has."""

    pubsub: str
    acked: str


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """`serve --dev` with a log of this kind: `memory`, or `sqlite` with a file in the peer's directory.

    options: more of `serve`. source: the folder that the package is imported from. everywhere: not bound to the servers' core.
    """

    backend: str = "memory"
    options: tuple[str, ...] = ()
    environ: tuple[tuple[str, str], ...] = ()
    name: str = "sse-daemon"
    source: Path = ROOT
    everywhere: bool = False

    def missing(self) -> str | None:
        """As Peer.missing."""
        return None

    def start(self, *, core: int | None, directory: Path) -> Running:
        """As Peer.start; what comes is an OwnRunning."""
        port, pubsub, acked = (str(port) for port in free_ports(3))
        where = ("--http", f"127.0.0.1:{port}", "--pubsub", f"tcp://127.0.0.1:{pubsub}", "--acked", f"tcp://127.0.0.1:{acked}")
        child = launch(
            [sys.executable, "-m", "sse_daemon.cli", "serve", "--dev", *where, *self._log(directory), *self.options],
            core="*" if self.everywhere else core,
            directory=directory,
            log="output.log",
            # All subscribers of a fan-out are one participant.
            environ={"PYTHONPATH": str(self.source), "SSE_DAEMON_STREAMS_MAX_PER_PARTICIPANT": "0", **dict(self.environ)},
        )
        running = OwnRunning(
            name=self.name,
            version=sse_daemon.__version__,
            pids=(),
            host="127.0.0.1",
            port=int(port),
            path="/events?public_key={key}",
            publish=ZmqPublish(address=f"tcp://127.0.0.1:{pubsub}", kind="pub", frames=(FRAME,)),
            stop=child.stop,
            pubsub=f"tcp://127.0.0.1:{pubsub}",
            acked=f"tcp://127.0.0.1:{acked}",
        )
        return when_ready(running, child)

    def _log(self, directory: Path) -> tuple[str, ...]:
        url = "memory://" if self.backend == "memory" else f"sqlite://{directory}/log.db"
        return "--admin", str(directory / "admin.sock"), "--backend", url
