"""Child processes of the benchmark: bound to a core, with the files they may open, and never left behind."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from bench.peers.base import PeerError

SETTLE = Path(__file__).with_name("settle.py")
STOP_WITHIN = 5.0
"""Seconds that a server has to end by itself before it is killed; each of them takes far less than one."""
LOG_TAIL = 2000
"""Characters of its log that a server's failure shows."""
SPARE_FILES = 1000
"""Open files that a server keeps for itself, beside its connections."""


def launch(
    argv: Sequence[str | Path],
    *,
    core: int | Literal["*"] | None,
    directory: Path,
    log: str,
    environ: Mapping[str, str] | None = None,
) -> Child:
    """A process in a group of its own, working in `directory`, its output in the file `log` there.

    core: the one that it is bound to; None: where its parent is; "*": anywhere.
    It gets SIGTERM when the thread that called this ends, however that came about, so a server with processes of its own ends them.
    """
    place = "-" if core is None else str(core)
    with (directory / log).open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-I", SETTLE, str(os.getpid()), place, *argv],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environ or {})},
        )
    return Child(process, directory / log)


class Child:
    """A launched process and whatever it started."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pids(self) -> tuple[int, ...]:
        """The process and its descendants, now."""
        return descendants(self._process.pid)

    def check(self) -> None:
        """Raises PeerError if it has ended."""
        status = self._process.poll()
        if status is not None:
            raise PeerError(f"{self._process.args!r} ended with status {status}:\n{self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-LOG_TAIL:]

    def stop(self) -> None:
        """Ends it and what it started; may be called again."""
        if self._process.poll() is None:
            left = self.pids
            self._process.terminate()
            try:
                self._process.wait(STOP_WITHIN)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            kill(left)


def descendants(pid: int) -> tuple[int, ...]:
    """`pid` and every process below it, parents first; empty if it is gone."""
    found = [pid] if alive(pid) else []
    for parent in found:
        found.extend(_children(parent))
    return tuple(found)


def _children(pid: int) -> list[int]:
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):
        return []  # It, or one of its threads, ended while we looked.
    return [int(child) for text in lists for child in text.split()]


def kill(pids: Sequence[int]) -> None:
    """Kills those that are left, and waits until each is gone or a zombie (whose parent may be anybody)."""
    for pid in filter(alive, pids):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # It ended between the look and the signal.
    while any(map(alive, pids)):
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat[stat.rindex(")") + 2] not in "ZX"


def free_ports(count: int) -> list[int]:
    """Different TCP ports of the loopback that nobody holds now."""
    with contextlib.ExitStack() as held:
        listeners = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]


def connection_limit() -> int:
    """How many connections a server may take within the limit of open files that `launch` gives it."""
    return max(resource.getrlimit(resource.RLIMIT_NOFILE)[1], SPARE_FILES * 2) - SPARE_FILES


def debian_version(package: str) -> str:
    """The version of an installed package; `unknown` where it came another way."""
    query = ["dpkg-query", "--show", "--showformat=${Version}", package]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
