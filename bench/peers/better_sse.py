"""better-sse on Node's own HTTP server."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bench.peers.base import Running
from bench.peers.cache import CACHE, Cached
from bench.peers.probe import when_web_ready
from bench.peers.process import free_port, launch

PINS = ("better-sse@0.16.1",)
APP = Path(__file__).with_name("apps") / "better_sse_app.cjs"
INSTALL = "apt-get install -y --no-install-recommends nodejs npm"
NODE = 20
"""The major version that this version of better-sse asks for."""


class BetterSse:
    """One process, one loop."""

    name = "better-sse"

    def __init__(self, cache: Path = CACHE) -> None:
        self._cached = Cached(name=self.name, pins=PINS, cache=cache)

    def missing(self) -> str | None:
        """As Peer.missing."""
        version = _node()
        if version is None or not shutil.which("npm"):
            return f"node or npm is not installed: {INSTALL}"
        if int(version.split(".")[0]) < NODE:
            return f"node {version} is too old, {NODE} is needed: {INSTALL} (of a newer release)"
        return self._cached.missing

    def install(self) -> None:
        """Into a folder of its own."""
        self._cached.install(
            ["npm", "install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--prefix", ".", *PINS]
        )

    def start(self, *, core: int | None, directory: Path) -> Running:
        """As Peer.start."""
        port = free_port()
        environ = {"NODE_PATH": str(self._cached.folder / "node_modules"), "NODE_ENV": "production"}
        child = launch(["node", APP, str(port)], core=core, directory=directory, log="node.log", environ=environ)
        return when_web_ready(self.name, f"{PINS[0].replace('@', ' ')}, node {_node()}", port, child)


def _node() -> str | None:
    """The version of node that would run; None if there is none."""
    try:
        done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip().removeprefix("v")
