"""This daemon with its compiled core (SSE_DAEMON_COMPILE=1), built from the tree when it is first needed."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from bench.peers.base import PeerError, Running
from bench.peers.cache import CACHE
from bench.peers.daemon import ROOT, Daemon

COMPILED_WITHIN = 600
"""Seconds; it takes about one minute."""


@dataclass(frozen=True, kw_only=True)
class CompiledDaemon:
    """Measured beside the one that runs as it is. backend: as Daemon's."""

    backend: str = "memory"
    name: str = "sse-daemon compiled"

    def missing(self) -> str | None:
        """As Peer.missing."""
        return missing()

    def start(self, *, core: int | None, directory: Path) -> Running:
        """As Peer.start; builds it first."""
        return Daemon(backend=self.backend, name=self.name, source=built()).start(core=core, directory=directory)


def missing() -> str | None:
    """What it takes to compile and is not installed, and what installs it; None if it is all there."""
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        return "a C compiler is not installed: apt-get install -y --no-install-recommends gcc libc6-dev"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's headers are not installed: apt-get install -y --no-install-recommends python3-dev"
    return None if importlib.util.find_spec("mypyc") else "mypyc is not installed: pip install '.[dev]'"


def compile_into(out: Path, tree: Path) -> None:
    """Installs the package of `tree` with its core compiled into the folder `out`. Raises PeerError with what the compiler said."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--target", str(out), str(tree)],
        env={**os.environ, "SSE_DAEMON_COMPILE": "1"},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMPILED_WITHIN,
    )
    if done.returncode:
        raise PeerError(f"the core does not compile:\n{done.stdout[-4000:]}")


def built() -> Path:
    """A folder with the package as it is now, compiled for this Python. Raises PeerError with what the compiler said."""
    folder = CACHE / "compiled" / _fingerprint()
    if not folder.is_dir():
        shutil.rmtree(folder.parent, ignore_errors=True)  # what was built from an older tree
        part = folder.with_suffix(".part")
        compile_into(part, ROOT)
        part.replace(folder)
    return folder


def _fingerprint() -> str:
    found = hashlib.sha256(sys.version.encode())
    for path in sorted([ROOT / "setup.py", *(ROOT / "sse_daemon").glob("**/*.py"), *(ROOT / "backends").glob("*.py")]):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
