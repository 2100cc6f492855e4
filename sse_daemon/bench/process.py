"""What processes have used, from /proc: CPU time and memory, with all their children."""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from sse_daemon.bench.errors import Broken

PROC = Path("/proc")


class Gone(Broken):
    """A process that is measured has ended."""


def family(pids: Iterable[int]) -> list[int]:
    """The processes and all that descend from them."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    found, queue = [], list(pids)
    while queue:
        found.append(queue.pop())
        queue += [pid for pid in children.get(found[-1], ()) if pid not in queue and pid not in found]
    return sorted(set(found))


def _parents() -> Iterator[tuple[int, int]]:
    for path in PROC.glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold anything, further parentheses included.
            yield int(path.parent.name), int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since it was listed


def cpu(pids: Iterable[int]) -> float:
    """Seconds of CPU that all threads of the processes have used so far."""
    return sum(_cpu(pid) for pid in pids)


def _cpu(pid: int) -> float:
    # schedstat counts nanoseconds; stat counts ticks of 10 ms, too coarse for a short measurement.
    total = 0
    for path in PROC.glob(f"{pid}/task/*/schedstat"):
        try:
            total += int(path.read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that has ended; its process may go on
    if not (PROC / str(pid)).exists():
        raise Gone(f"process {pid} has ended")
    return total / 1e9


def memory(pids: Iterable[int]) -> int:
    """Bytes of memory that the processes have to themselves, and their part of what they share."""
    return sum(_memory(pid) for pid in pids)


def _memory(pid: int) -> int:
    try:
        text = (PROC / str(pid) / "smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        raise Gone(f"process {pid} has ended") from None
    return sum(int(kib) for kib in re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)) * 1024


def files(pid: int) -> tuple[int, int]:
    """(how many files the process has open, how many it may)."""
    try:
        limit = re.search(r"^Max open files\s+(\w+)", (PROC / str(pid) / "limits").read_text(), re.MULTILINE)
        return len(list((PROC / str(pid) / "fd").iterdir())), int(limit[1]) if limit and limit[1].isdigit() else 1 << 30
    except FileNotFoundError:
        raise Gone(f"process {pid} has ended") from None


def own_files() -> int:
    """How many more files this process may open, its soft limit raised to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard - len(list((PROC / "self" / "fd").iterdir()))


class Own:
    """The CPU time of this process since it was made, as a share of one core."""

    def __init__(self) -> None:
        self._cpu, self._at = time.process_time(), time.monotonic()

    def share(self) -> float:
        """1.0 is one core, the threads of ZeroMQ included."""
        elapsed = time.monotonic() - self._at
        return (time.process_time() - self._cpu) / elapsed if elapsed else 0.0
