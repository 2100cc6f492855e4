"""sse-starlette under uvicorn with uvloop and httptools: what most Python services that do this are made of."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.peers.base import Running
from bench.peers.cache import CACHE, Cached
from bench.peers.probe import when_web_ready
from bench.peers.process import free_port, launch

PINS = (
    "sse-starlette==3.7.0",
    "starlette==1.10.0",
    "uvicorn==0.54.0",
    "uvloop==0.23.0",
    "httptools==0.9.0",
)
APP = Path(__file__).with_name("apps") / "sse_starlette_app.py"


class SseStarlette:
    """One process, one loop."""

    name = "sse-starlette"

    def __init__(self, cache: Path = CACHE) -> None:
        self._cached = Cached(name=self.name, pins=PINS, cache=cache)

    def missing(self) -> str | None:
        """As Peer.missing."""
        return self._cached.missing

    def install(self) -> None:
        """Into an environment of its own."""
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        self._cached.install([sys.executable, "-m", "venv", "."], [self._python, *pip, *PINS])

    def start(self, *, core: int | None, directory: Path) -> Running:
        """As Peer.start."""
        port = free_port()
        fast = ["--loop", "uvloop", "--http", "httptools", "--backlog", "4096", "--no-access-log", "--log-level", "warning"]
        command = [
            str(self._python),
            "-m",
            "uvicorn",
            f"{APP.stem}:app",
            "--app-dir",
            str(APP.parent),
            "--port",
            str(port),
            *fast,
        ]
        child = launch(command, core=core, directory=directory, log="uvicorn.log")
        return when_web_ready(self.name, ", ".join(pin.replace("==", " ") for pin in PINS), port, child)

    @property
    def _python(self) -> Path:
        return self._cached.folder / "bin" / "python"
