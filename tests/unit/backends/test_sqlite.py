from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sse_daemon.backend import Limits, Page
from sse_daemon.backends import sqlite_file
from sse_daemon.backends.conformance_harness import Clock, Follower, draft, numbered
from sse_daemon.backends.sqlite import SqliteBackend
from sse_daemon.backends.sqlite_file import path_of
from sse_daemon.backends.sqlite_log import Log
from sse_daemon.errors import BackendUnavailable, BackendUnusable, ConfigError
from sse_daemon.event import Logged


async def opened(path: Path, limits: Limits | None = None, **more: Any) -> Follower:
    follower = Follower(SqliteBackend(f"sqlite://{path}", limits or Limits(), **more))
    follower.opened = await follower.backend.open(follower.deliver)
    return follower


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
async def log(path: Path) -> AsyncIterator[Follower]:
    follower = await opened(path)
    yield follower
    await follower.backend.close()


@pytest.mark.parametrize(
    "url", ["sqlite:log.db", "sqlite://log.db", "sqlite://host/log.db", "sqlite:///", "sqlite:///d/", "sqlite:///x?mode=ro"]
)
def test_a_url_that_is_no_absolute_path_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:///var/lib|no options"):
        SqliteBackend(url, Limits())


def test_a_path_may_be_escaped() -> None:
    assert path_of("sqlite:///a%20b/%3Fc.db") == Path("/a b/?c.db")


async def test_nothing_is_touched_before_open(path: Path) -> None:
    await SqliteBackend(f"sqlite://{path}", Limits()).close()
    assert not path.exists()


async def test_the_file_is_its_owners(log: Follower, path: Path) -> None:
    assert log.opened.head == 0
    assert {name.name: name.stat().st_mode & 0o777 for name in path.parent.iterdir()} == {
        "log.db": 0o600, "log.db-shm": 0o600, "log.db-wal": 0o600, "log.db.lock": 0o600
    }  # fmt: skip


PRAGMAS = ("journal_mode", "synchronous")


async def test_a_commit_is_on_the_disk(log: Follower) -> None:
    def asked(name: str) -> object:
        connection = log.backend._log._connection  # type: ignore[attr-defined]
        return connection.execute(f"PRAGMA {name}").fetchone()

    # On the thread that writes, which tidies up once the file is open: SQLite's module does not bear two in one connection.
    found = [await asyncio.get_running_loop().run_in_executor(log.backend._writer, asked, name) for name in PRAGMAS]  # type: ignore[attr-defined]
    assert found == [("wal",), (2,)]  # FULL


async def test_an_incarnation_stays(path: Path) -> None:
    incarnations = set()
    for n in range(3):
        log = await opened(path)
        incarnations.add(log.opened.incarnation)
        assert await log.store((draft(),)) == [n + 1]
        await log.backend.close()
    assert len(incarnations) == 1


async def test_a_second_opener_is_refused_and_the_first_goes_on(log: Follower, path: Path) -> None:
    with pytest.raises(BackendUnusable, match=f"held by another daemon .process {os.getpid()}"):
        await opened(path)
    assert await log.store((draft(),)) == [1]
    await log.backend.close()
    second = await opened(path)
    assert second.opened.head == 1
    await second.backend.close()


HOLDER = """
import asyncio, sys
from sse_daemon.backend import Limits
from sse_daemon.backends import create

async def main():
    await create(sys.argv[1], Limits()).open(lambda *batch: None)
    print("open", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the file open."""
    command = [sys.executable, "-c", HOLDER, f"sqlite://{path}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


async def test_another_processs_file_is_refused_until_it_is_killed(path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(BackendUnusable, match=f"process {holder.pid}"):
        await opened(path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    await (await opened(path)).backend.close()


async def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    await (await opened(path)).backend.close()
    _change(path, "PRAGMA user_version=99")
    before = path.read_bytes()
    with pytest.raises(BackendUnusable, match=r"newer sse-daemon .schema 99, this one knows 1.; use that version"):
        await opened(path)
    assert path.read_bytes() == before


async def test_a_foreign_database_is_refused_and_left_alone(path: Path) -> None:
    _change(path, "CREATE TABLE photos (id)")
    before = path.read_bytes()
    with pytest.raises(BackendUnusable, match="something else"):
        await opened(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["no database", "middle", "cut off", "table gone", "row gone"])
async def test_a_corrupt_file_is_refused_with_the_remedy(path: Path, damage: str) -> None:
    log = await opened(path)
    await log.store(*[(draft(f"c{i}", data=b"%0500d" % i, n=i),) for i in range(1, 400)])
    await log.backend.close()
    size = path.stat().st_size
    if damage == "no database":
        path.write_bytes(b"not a database, whatever it may be\n" * 200)
    elif damage == "middle":
        _overwrite(path, 4096 * 5, bytes(range(256)) * (size // 4096 - 10) * 16)
    elif damage == "cut off":
        os.truncate(path, size // 2)
    elif damage == "table gone":
        _change(path, "DROP TABLE snapshots")
    else:
        _change(path, "DELETE FROM log")
    with pytest.raises(BackendUnusable, match="restore it from a backup, or move it"):
        await opened(path)


async def test_a_damaged_event_is_not_read(path: Path) -> None:
    log = await opened(path)
    await log.store((draft(data=b"right"),), (draft(data=b"right"),))
    await log.backend.close()
    _change(path, "UPDATE events SET data = CAST('wrong' AS BLOB) WHERE position = 2")
    log = await opened(path)
    try:
        assert isinstance(await log.backend.read(["a"], 0, 1), Page)
        with pytest.raises(BackendUnavailable, match="position 2 is damaged"):
            await log.backend.read(["a"], 1, 1)
    finally:
        await log.backend.close()


async def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dir").mkdir()
    for name in ("missing/log.db", "file/log.db", "dir"):
        with pytest.raises(BackendUnusable, match=name):
            await opened(tmp_path / name)


async def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendUnusable, match=f"the folder {tmp_path}/missing does not exist"):
        await opened(tmp_path / "missing" / "log.db")


async def test_an_old_sqlite_is_named_in_the_log(path: Path, expect_log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "SOUND_SQLITE", (99, 0, 0))
    line = expect_log("sse_daemon.backends.sqlite_file", f"SQLite {sqlite3.sqlite_version} has a fault")
    # The line that this machine's SQLite may give anyway was expected first, so it is looked for there.
    line.required = False
    monkeypatch.setattr(sqlite_file.logger, "warning", lambda text, version: line.seen.append(text % version))
    await (await opened(path)).backend.close()
    assert line.seen


async def test_appends_that_wait_share_a_transaction(log: Follower) -> None:
    await asyncio.gather(*(log.store(numbered([n])) for n in range(1, 201)))
    assert log.batches <= 3
    assert len(log.items) == 200


async def test_one_failing_append_does_not_hang_the_others(log: Follower) -> None:
    """A text that UTF-8 does not have is nothing that an envelope lets through; whatever it is, all who wait are answered."""
    answers = await asyncio.gather(
        log.backend.append([(draft(topic="\ud800"),)]), log.backend.append([(draft(),)]), return_exceptions=True
    )
    assert isinstance(answers[0], UnicodeError)
    assert await log.store((draft(),)) == [log.last]
    assert log.last == len(log.items)


async def test_reads_do_not_wait_for_a_transaction(log: Follower, path: Path) -> None:
    await log.store((draft(),))
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        append = asyncio.ensure_future(log.store((draft(),)))
        assert await log.page(["a"]) == ([1], 1)
        assert not append.done()
        other.execute("COMMIT")
        assert await append == [2]
    finally:
        other.close()


async def test_the_loop_does_not_wait_for_the_disk(log: Follower, path: Path) -> None:
    """While the file is locked for appends, everything else on the loop goes on."""
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        appends = [asyncio.ensure_future(log.store(numbered([n]))) for n in range(1, 50)]
        turns = 0
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            await asyncio.sleep(0)
            turns += 1
        assert turns > 100
        assert not any(append.done() for append in appends)
        other.execute("COMMIT")
        assert sorted(position for (position,) in await asyncio.gather(*appends)) == list(range(1, 50))
    finally:
        other.close()


async def test_channels_that_share_a_key_stay_apart(log: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sqlite_changes", "sqlite_reads"):
        monkeypatch.setattr(f"sse_daemon.backends.{module}.channel_key", lambda name: 7)
    await log.store(*[(draft("a" if i % 3 else "b"),) for i in range(9)])
    assert await log.page(["b"], 0, 2) == ([1], 2)
    assert await log.page(["b"], 2, 5) == ([4, 7], 7)


async def test_what_is_too_old_goes_while_nothing_is_appended(path: Path, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sse_daemon.backends.sqlite.TIDY_INTERVAL", 0.02)
    clock = Clock()
    log = await opened(path, Limits(retention_age=10.0), clock=clock)
    try:
        await log.store(*[(draft(),) for _ in range(1000)])  # several pieces
        clock.now += 11.0

        async def gone() -> bool:
            return getattr(await log.backend.read(["a"], 999, 1), "reason", None) == "expired"

        await until(gone, "the events are given up")
        assert _count(path, "events") == _count(path, "places") == 0
    finally:
        await log.backend.close()


async def test_old_numbers_go_and_their_floor_stays(path: Path) -> None:
    clock = Clock()
    limits = Limits(dedupe_window=60.0)
    log = await opened(path, limits, clock=clock)
    for n in range(1, 11):
        await log.store(numbered([n]))
        clock.now += 20.0
    await log.backend.close()
    assert _count(path, "numbers") < 10
    log = await opened(path, limits, clock=clock)
    assert (await log.refused(numbered([2]))).code == "too_old"
    assert await log.store(numbered([11])) == [11]
    await log.backend.close()


async def test_the_file_holds_no_more_producers_and_snapshots_than_the_memory(path: Path) -> None:
    clock = Clock()
    log = await opened(path, Limits(max_producers=5, dedupe_window=10.0, retained_slots=3), clock=clock)
    for number in range(20):
        clock.now += 11.0
        await log.store((draft(sender=f"s{number}", n=1),))
        await log.store((draft(retain=True, type=f"t{number}", expires=clock.now + 5),))
        clock.now += 11.0
        await log.backend.check()
    await log.backend.close()
    assert 0 < _count(path, "senders") <= 5
    assert 0 < _count(path, "snapshots") <= 3


async def test_a_file_with_events_beyond_its_head_is_refused(path: Path) -> None:
    log = await opened(path)
    await log.store((draft(),), (draft(),))
    await log.backend.close()
    with closing(sqlite3.connect(path)) as file:
        file.execute("UPDATE log SET head = 1")
        file.commit()
    with pytest.raises(BackendUnusable, match="holds events beyond its head"):
        await opened(path)


@pytest.mark.parametrize("change", ["incarnation = 'another'", "head = 1"])
async def test_after_a_fault_only_the_log_that_was_opened_is_gone_on_with(
    path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await opened(path)
    try:
        await log.store((draft(),), (draft(),))
        transact = Log._transact

        def fails(self: Log, *_: Any) -> Any:
            monkeypatch.setattr(Log, "_transact", transact)
            with closing(sqlite3.connect(path)) as file:
                self.close()
                file.execute(f"UPDATE log SET {change}")
                file.commit()
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

        monkeypatch.setattr(Log, "_transact", fails)
        with pytest.raises(BackendUnavailable, match="I/O error"):
            await log.store((draft(),))
        with pytest.raises(BackendUnavailable, match="is not the log any more that was opened"):
            await log.store((draft(),))
    finally:
        await log.backend.close()


async def test_the_daemons_defect_comes_out_of_append(path: Path, expect_log: Any) -> None:
    expect_log("sse_daemon.backends.sqlite", "the daemon failed over what its log delivered")
    seen: list[Logged] = []

    def deliver(batch: Any, after: int, last: int) -> None:
        seen.extend(batch)
        if len(seen) == 1:
            raise ZeroDivisionError

    log = SqliteBackend(f"sqlite://{path}", Limits())
    await log.open(deliver)
    with pytest.raises(ZeroDivisionError):
        await log.append([(draft(),)])
    await log.append([(draft(),)])
    await log.close()
    assert len(seen) == 2


async def test_a_cancelled_open_gives_the_file_back(path: Path, until: Any) -> None:
    task = asyncio.ensure_future(opened(path))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    async def free() -> Follower | None:
        try:
            return await opened(path)
        except BackendUnusable:
            return None

    await (await until(free, "the file is free")).backend.close()


def _change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()


def _count(path: Path, table: str) -> int:
    connection = sqlite3.connect(path)
    (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    connection.close()
    return int(count)


def _overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
