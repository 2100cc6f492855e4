"""What the disk does to the sqlite log: full, failing, and the order of sync and answer. Real file systems, real faults."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sse_daemon.backend import Limits
from sse_daemon.backends.conformance_harness import Follower, draft, numbered
from sse_daemon.backends.sqlite import SqliteBackend
from sse_daemon.errors import BackendError, BackendUnavailable, StorageFull

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def opened(path: Path, limits: Limits | None = None) -> Follower:
    follower = Follower(SqliteBackend(f"sqlite://{path}", limits or Limits()))
    follower.opened = await follower.backend.open(follower.deliver)
    return follower


async def fill(log: Follower, size: int = 20_000) -> int:
    """Appends until the disk is full; returns the number that did not fit any more."""
    for n in range(1, 1000):
        try:
            await log.store((draft(data=bytes(size), n=2 * n), draft("b", retain=True, n=2 * n + 1)))
        except StorageFull:
            return n
    raise AssertionError("the disk never became full")


@pytest.mark.may_skip("needs root")
async def test_a_full_disk_refuses_and_recovers_by_itself(tiny: Path) -> None:
    ballast = tiny / "ballast"
    ballast.write_bytes(bytes(400_000))
    log = await opened(tiny / "log.db")
    try:
        n = await fill(log)
        failed = (draft(data=bytes(20_000), n=2 * n), draft("b", retain=True, n=2 * n + 1))
        before = log.last
        for _ in range(3):
            with pytest.raises(StorageFull, match="no room on the disk"):
                await log.append(failed, (draft(data=bytes(300_000)),))
        assert log.last == before == 2 * (n - 1)
        # Reading goes on, and nothing of what failed is there.
        assert await log.page(["a"], 0, 1000) == (list(range(1, before, 2)), before)
        assert await log.snapshots(None) == [b"data"]
        ballast.unlink()
        await log.backend.check()
        assert await log.store(failed) == [before + 1, before + 2]  # it was not remembered
        assert await log.store(failed) == [before + 1, before + 2]
    finally:
        await log.backend.close()
    log = await opened(tiny / "log.db")
    assert log.opened.head == before + 2
    await log.backend.close()


@pytest.mark.may_skip("needs root")
async def test_check_says_that_the_disk_is_full_and_when_it_is_not(tiny: Path) -> None:
    log = await opened(tiny / "log.db")
    try:
        await log.backend.check()
        ballast = tiny / "ballast"
        try:
            ballast.write_bytes(bytes(2_000_000))
        except OSError:
            assert ballast.stat().st_size > 500_000
        await _until_full(log)
        ballast.unlink()
        await log.backend.check()
        await log.store((draft(),))
    finally:
        await log.backend.close()


async def _until_full(log: Follower) -> None:
    """A check writes for real: it may find room that SQLite has already, but not for ever."""
    for _ in range(2000):
        try:
            await log.backend.check()
        except StorageFull:
            return
    raise AssertionError("check never found the disk full")


@pytest.mark.may_skip("needs root")
async def test_a_log_that_is_not_begun_on_a_full_disk(tiny: Path) -> None:
    try:
        (tiny / "ballast").write_bytes(bytes(2_000_000))
    except OSError:
        assert (tiny / "ballast").exists()
    with pytest.raises(BackendError) as error:
        await opened(tiny / "log.db")
    assert "log.db" in str(error.value)
    (tiny / "ballast").unlink()
    log = await opened(tiny / "log.db")
    assert await log.store((draft(),)) == [1]
    await log.backend.close()


WRITER = """
import asyncio, sys
from sse_daemon.backend import Limits
from sse_daemon.backends import create
from sse_daemon.backends.conformance import draft
from sse_daemon.errors import BackendError

async def main(url, count):
    delivered = []
    while True:
        try:
            log = create(url, Limits())
            await log.open(lambda batch, after, last: delivered.extend(event.position for event in batch))
            break
        except BackendError:
            await log.close()
    for n in range(1, count + 1):
        try:
            (stored,) = await log.append([(draft(data=b"%d" % n, n=n),)])
            print("stored", n, stored.positions[0], flush=True)
        except BackendError as error:
            print("failed", n, type(error).__name__, flush=True)
    await log.close()
    print("delivered", *delivered, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def traced(path: Path, count: int, *options: str) -> list[str]:
    """What the writer printed under strace."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    command = ["strace", "-f", "-qq", *options, sys.executable, "-c", WRITER, f"sqlite://{path}", str(count)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120
    )
    if "PTRACE" in done.stderr:
        pytest.skip("processes may not be traced here")
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.mark.may_skip("needs strace")
@pytest.mark.parametrize("when", ["8+3", "10+7", "12..14", "9", "10", "11"])
async def test_what_a_failing_disk_answers_is_true(tmp_path: Path, when: str) -> None:
    """fdatasync fails now and then: what is answered as stored is there, once; what is not, is not; nothing is out of order."""
    path = tmp_path / "log.db"
    inject = f"inject=fdatasync:error=EIO:when={when}"
    lines = traced(path, 30, "-e", "trace=fdatasync", "-e", inject, "-o", "/dev/null")
    words = [line.split() for line in lines]
    stored = {int(n): int(position) for word, n, position in words[:-1] if word == "stored"}
    failed = {int(n) for word, n, *_ in words[:-1] if word == "failed"}
    delivered = [int(position) for position in words[-1][1:]]
    assert len(stored) + len(failed) == 30
    assert delivered == sorted(set(delivered))
    assert set(stored.values()) <= set(delivered)
    log = await opened(path)
    try:
        page: Any = await log.backend.read(["a"], 0, 100)
        held = {int(event.data): event.position for event in page.events}
        assert {n: held[n] for n in stored} == stored
        assert sorted(held.values()) == delivered == list(range(1, log.opened.head + 1))
        assert await log.store(*[numbered([n]) for n in stored]) == list(stored.values())
    finally:
        await log.backend.close()


@pytest.mark.may_skip("needs strace")
def test_the_answer_comes_after_the_sync(tmp_path: Path) -> None:
    """For each answer an fdatasync of the WAL lies between the last writing to it and the answer."""
    trace = tmp_path / "trace"
    traced(tmp_path / "log.db", 20, "-y", "-e", "trace=pwrite64,fdatasync,write", "-o", str(trace))
    synced, answers = True, 0
    for line in trace.read_text().splitlines():
        if re.search(r"pwrite64\(\d+<[^>]*-wal>", line):
            synced = False
        elif re.search(r"fdatasync\(\d+<[^>]*-wal>", line) or "fdatasync resumed" in line:
            synced = True
        elif '"stored' in line:
            answers += 1
            assert synced, line
    assert answers == 20


@pytest.mark.parametrize("end", ["", "-wal"])
async def test_nothing_is_stored_in_a_file_that_is_not_at_its_name_any_more(tmp_path: Path, end: str) -> None:
    log = await opened(tmp_path / "log.db")
    try:
        await log.store((draft(n=1),))
        assert await log.page(["a"]) == ([1], 1)
        os.rename(tmp_path / f"log.db{end}", tmp_path / "elsewhere")
        for ask in (lambda: log.append((draft(n=2),)), log.backend.check):
            with pytest.raises(BackendUnavailable, match="log.db or its -wal was moved, removed or replaced"):
                await ask()
        # Whoever reads already reads on, and the name stays free.
        assert await log.page(["a"]) == ([1], 1)
        assert not (tmp_path / f"log.db{end}").exists()
        os.rename(tmp_path / "elsewhere", tmp_path / f"log.db{end}")
        assert await log.store((draft(n=2),)) == [2]
    finally:
        await log.backend.close()
    log = await opened(tmp_path / "log.db")
    assert log.opened.head == 2
    await log.backend.close()


async def test_a_file_that_was_put_in_the_place_of_the_log_is_neither_written_nor_read(tmp_path: Path) -> None:
    other = await opened(tmp_path / "other.db")
    await other.store((draft(data=b"other"),))
    await other.backend.close()
    log = await opened(tmp_path / "log.db")
    try:
        os.rename(tmp_path / "other.db", tmp_path / "log.db")
        before = (tmp_path / "log.db").read_bytes()
        for ask in (lambda: log.append((draft(),)), lambda: log.page(["a"]), lambda: log.snapshots(None)):
            with pytest.raises(BackendUnavailable, match="replaced"):
                await ask()
        assert (tmp_path / "log.db").read_bytes() == before
    finally:
        await log.backend.close()


async def test_reading_makes_no_file(tmp_path: Path) -> None:
    """Whoever begins to read once the file is gone must not leave an empty one for the next start to be misled by."""
    log = await opened(tmp_path / "log.db")
    try:
        (tmp_path / "log.db").unlink()
        with pytest.raises(BackendUnavailable, match="removed"):
            await log.page(["a"])
        assert not (tmp_path / "log.db").exists()
    finally:
        await log.backend.close()
