"""The sqlite log when its disk is full, and when its file is not what it should be."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.integration.daemon import RunningDaemon
from tests.integration.peers import Acked, ask, connect, event, metrics, producers, tally, wait


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of 2 MB."""
    if os.getuid() != 0:
        pytest.skip("only root may mount")
    path = Path(tempfile.mkdtemp(prefix="sse-daemon-disk-"))
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", path], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        path.rmdir()
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
        path.rmdir()


@pytest.mark.may_skip("to have a disk of its own that it can fill takes root")
def test_a_full_disk_is_refused_told_and_recovered_from(disk: Path) -> None:
    with ExitStack() as stack:
        daemon = stack.enter_context(RunningDaemon("[streams]\nheartbeat = 0.5", backend=f"sqlite://{disk}/log.db"))
        acked, pub = stack.enter_context(producers(daemon))
        client = stack.enter_context(connect(daemon, "a", heartbeat="event"))
        acked.store(event(["a"], "first", sender="run/1", n=1))
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 1_000_000)
        stored = {1: "first"}
        n = 1
        while True:
            n += 1
            data = f"{n} " + "y" * 20_000
            answer = acked.ask(event(["a"], data, sender="run/1", n=n))
            if not answer["ok"]:
                break
            stored[n] = data
            assert n < 200, "the disk does not get full"
        assert answer["code"] == "storage_full"
        # Not ready, but alive; streams stay and get their heartbeats; what was refused is not delivered.
        ready = ask(daemon, "GET", "/readyz")
        assert ready.status == 503 and ready.body["error"] == "not_ready" and "room" in ready.body["detail"]
        assert ask(daemon, "GET", "/healthz").status == 200
        beats = len(client.of("heartbeat"))
        wait(lambda: len(client.of("heartbeat")) >= beats + 2, "heartbeats", [client])
        assert client.data == list(stored.values())
        # An event that cannot be stored and that nobody will send again is counted as lost.
        pub.send(event(["a"], "z" * 20_000, sender="lossy/1", n=1))
        wait(lambda: tally(daemon, "lossy/1").get("lost") == 1, "the loss")
        # A client that comes now is served from what there is.
        with connect(daemon, "a", last_id=client.events[0].id) as other:
            assert other.wait_events(len(stored) - 1) == list(stored.values())[1:]
        # It says so a few times and no more.
        for _ in range(50):
            assert acked.refused(event(["a"], data, sender="run/1", n=n))[0] == "storage_full"
        assert len(daemon.lines("message refused")) <= 4
        ballast.unlink()
        # By itself: nobody publishes.
        wait(lambda: ask(daemon, "GET", "/readyz").status == 200, "it to recover", [client])
        # The number that was refused was not remembered.
        stored[n] = data
        acked.store(event(["a"], data, sender="run/1", n=n))
        assert client.wait_events(len(stored)) == list(stored.values())
        assert metrics(daemon)["streams_closed_total"].get("stalled") is None
        daemon.restart(kill=True)
        with connect(daemon, "a", last_id=client.events[0].id) as again:
            assert again.wait_events(len(stored) - 1) == list(stored.values())[1:]


def test_a_log_that_was_moved_away_is_noticed_though_nobody_publishes() -> None:
    with RunningDaemon(backend="sqlite://{directory}/log.db") as daemon, Acked(daemon.acked) as acked:
        acked.store(event(["a"], "before"))
        os.rename(daemon.directory / "log.db", daemon.directory / "away.db")
        ready = wait(lambda: (answer := ask(daemon, "GET", "/readyz")).status == 503 and answer, "it not to be ready")
        assert "was moved, removed or replaced" in ready.body["detail"]
        assert daemon.lines("the backend fails")
        os.rename(daemon.directory / "away.db", daemon.directory / "log.db")
        wait(lambda: ask(daemon, "GET", "/readyz").status == 200, "it to be ready again")
        acked.store(event(["a"], "after"))
        with connect(daemon, "a", last_id=f"{daemon.ask('stats')['about']['incarnation']}-0") as client:
            assert client.wait_events(2) == ["before", "after"]


def spoil(path: Path, how: str) -> None:
    if how == "no database":
        path.write_bytes(b"this is no database " * 1000)
    elif how == "damaged":
        data = bytearray(path.read_bytes())
        data[4096:] = os.urandom(len(data) - 4096)
        path.write_bytes(data)
    elif how == "another program's":
        path.unlink()
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE theirs (x)")
            other.commit()
    else:
        with closing(sqlite3.connect(path)) as newer:
            newer.execute("PRAGMA user_version = 99")
            newer.commit()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no database", "damaged or no database"),
        ("damaged", "damaged"),
        ("another program's", "something else"),
        ("newer", "newer"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line_and_is_left_alone(how: str, says: str) -> None:
    daemon = RunningDaemon(backend="sqlite://{directory}/log.db")
    path = daemon.directory / "log.db"
    try:
        daemon.start()
        with Acked(daemon.acked) as acked:
            acked.store(*(event(["a"], "x" * 1000) for _ in range(50)))
        daemon.stop()
        for beside in (Path(f"{path}-wal"), Path(f"{path}-shm")):
            beside.unlink(missing_ok=True)
        spoil(path, how)
        before = path.read_bytes()
        daemon.launch()
        assert daemon.wait() == 1
        (line,) = daemon.lines("cannot start")
        assert line["level"] == "error" and says in line["reason"] and str(path) in line["reason"]
        assert "Traceback" not in daemon.log()
        assert len(daemon.lines("ready")) == 1, "only the first time"
        assert path.read_bytes() == before
    finally:
        daemon._end()


def test_a_path_that_cannot_be_is_one_clear_line() -> None:
    daemon = RunningDaemon(backend="sqlite://{directory}/no/such/folder/log.db")
    try:
        daemon.launch()
        assert daemon.wait() == 1
        (line,) = daemon.lines("cannot start")
        assert "/no/such/folder" in line["reason"]
        assert "Traceback" not in daemon.log()
    finally:
        daemon._end()
