"""The floor: the least that a fan-out can cost, a server in C that does one send for each subscriber and nothing else (bench/floor.c)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bench.peers.base import HttpPublish, PeerError, Running
from bench.peers.probe import when_ready
from bench.peers.process import free_port, launch

SOURCE = Path(__file__).parents[1] / "floor.c"


class Floor:
    """It knows no keys: for events that go to all only."""

    name = "floor"

    def missing(self) -> str | None:
        """As Peer.missing."""
        return (
            None
            if shutil.which("cc")
            else "a C compiler is not installed: apt-get install -y --no-install-recommends gcc libc6-dev"
        )

    def start(self, *, core: int | None, directory: Path) -> Running:
        """As Peer.start; compiles it first."""
        program = directory / "floor"
        made = subprocess.run(["cc", "-O2", "-o", program, SOURCE], capture_output=True, text=True, check=False)
        if made.returncode:
            raise PeerError(f"floor.c does not compile:\n{made.stderr}")
        port = free_port()
        child = launch([program, str(port)], core=core, directory=directory, log="output.log")
        running = Running(
            name=self.name,
            version="",
            pids=(),
            host="127.0.0.1",
            port=port,
            path="/?{key}",
            publish=HttpPublish(host="127.0.0.1", port=port, path="/"),
            stop=child.stop,
        )
        return when_ready(running, child)
