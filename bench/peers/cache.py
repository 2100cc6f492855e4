"""Where the peers live that no system package brings: `.bench-peers/` at the top of the tree, made by `python -m bench.peers install`."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.peers.base import PeerError

CACHE = Path(__file__).parents[2] / ".bench-peers"


@dataclass(frozen=True, kw_only=True)
class Cached:
    """A folder of the cache, and the exact versions that belong into it."""

    name: str
    pins: tuple[str, ...]
    cache: Path = CACHE

    @property
    def folder(self) -> Path:
        """Of this peer alone."""
        return self.cache / self.name

    @property
    def ready(self) -> bool:
        """Whether exactly these versions were installed, to the end."""
        return self._stamp.is_file() and self._stamp.read_text().split() == list(self.pins)

    @property
    def missing(self) -> str | None:
        """As Peer.missing."""
        return None if self.ready else f"its packages are not installed: python -m bench.peers install {self.name}"

    def install(self, *commands: Sequence[str | Path]) -> None:
        """Runs the commands in the folder, unless the versions are there; raises PeerError with what the failing one said."""
        if self.ready:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for command in commands:
            done = subprocess.run(
                command, check=False, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            if done.returncode:
                raise PeerError(f"{self.name}: {' '.join(map(str, command))} ended with status {done.returncode}:\n{done.stdout}")
        self._stamp.write_text("\n".join(self.pins) + "\n")

    @property
    def _stamp(self) -> Path:
        return self.folder / "installed"
