"""The operators' socket: who may come in, how much may come in, for how long, and what is written down of it."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from sse_daemon.admin_door import MOST
from tests.integration.daemon import RunningDaemon
from tests.integration.peers import ask, connect, operator, wait

MIB = 1024 * 1024
AS_SOMEBODY = """
import os, socket, sys
path, groups = sys.argv[1], [int(group) for group in sys.argv[2:]]
os.setgroups(groups); os.setgid(65534); os.setuid(65534)
connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect(path)
    connection.sendall(b"GET /stats HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    sys.exit(0 if connection.recv(100).startswith(b"HTTP/1.1 200") else 6)
except PermissionError:
    sys.exit(7)
except ConnectionError:
    sys.exit(6)
"""


@pytest.fixture
def daemon() -> Iterator[RunningDaemon]:
    with RunningDaemon() as daemon:
        yield daemon


def plug(daemon: RunningDaemon, said: bytes = b"") -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(str(daemon.admin))
    connection.sendall(said)
    return connection


def ended(connection: socket.socket) -> bool:
    """Whether the daemon has ended this connection, which it has not answered."""
    return bool(select.select([connection], [], [], 0)[0])


def answer_to(daemon: RunningDaemon, said: bytes) -> bytes:
    """What is answered until the connection ends, or something was."""
    with plug(daemon) as connection:
        with suppress(ConnectionError):  # it is refused before all of it was read
            connection.sendall(said)
        try:
            return connection.recv(65536)
        except ConnectionResetError:
            return b""


def tried(path: Path, *groups: int) -> int:
    """What becomes of a process of user 65534 in these groups that asks there: 0 answered, 6 cut off, 7 kept out by the kernel."""
    return subprocess.run([sys.executable, "-c", AS_SOMEBODY, str(path), *map(str, groups)], check=False).returncode


@pytest.mark.skipif(os.getuid() != 0, reason="to be another user takes root")
@pytest.mark.may_skip("to be another user takes root")
def test_another_user_is_kept_out_also_where_the_files_mode_would_let_it_in(daemon: RunningDaemon) -> None:
    daemon.directory.chmod(0o755)
    assert tried(daemon.admin) == 7
    assert tried(daemon.admin, 4711, daemon.admin.stat().st_gid) == 0
    daemon.admin.chmod(0o666)
    assert tried(daemon.admin) == 6
    (line, *_) = daemon.lines("somebody who is no operator was turned away")
    assert line["uid"] == "65534"
    assert operator(daemon, "/stats")


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"POST /inject HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n", b"HTTP/1.1 400"),
        (b"POST /inject HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n989680\r\n", b"HTTP/1.1 400"),
        (b"GET /stats HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b""),
        (b"GET /stats?" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    ],
    ids=["body", "chunks", "header", "target"],
)
def test_what_is_too_long_is_refused_before_it_is_held(daemon: RunningDaemon, said: bytes, answer: bytes) -> None:
    assert answer_to(daemon, said)[:12] == answer
    assert operator(daemon, "/stats")


def test_the_longest_event_can_be_injected_however_json_spells_it(daemon: RunningDaemon) -> None:
    with connect(daemon, "a") as client:
        data = "\x01" * (MIB - 100)
        answer = ask(daemon.admin, "POST", "/inject", {"header": {"to": ["a"]}, "data": data})
        assert answer.body["ok"] is True
        assert client.wait_events(1) == [data]


def test_who_dawdles_is_ended(daemon: RunningDaemon) -> None:
    with ExitStack() as stack:
        slow = [
            stack.enter_context(plug(daemon, said))
            for said in (b"", b"GET /sta", b"POST /kick HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        ]
        assert not any(map(ended, slow))
        wait(lambda: all(map(ended, slow)), "them to be ended")
        assert operator(daemon, "/stats")


def test_one_more_than_may_come_in_is_turned_away_and_the_others_are_served(daemon: RunningDaemon) -> None:
    with ExitStack() as stack:
        tails = [stack.enter_context(plug(daemon, b"GET /tail HTTP/1.1\r\nHost: x\r\n\r\n")) for _ in range(MOST)]
        for tail in tails:
            assert tail.recv(65536).startswith(b"HTTP/1.1 200")
        for _ in range(20):  # it may have closed before it was asked
            turned_away = daemon.command("stats")
            assert (turned_away.returncode, turned_away.stdout) == (1, "")
            assert f"the daemon refuses: {MOST} operators' connections are open" in turned_away.stderr
        tails.pop().close()
        wait(lambda: daemon.command("inject", "--to", "a", "x").returncode == 0, "room for another")
        assert all(b'"data":"x"' in tail.recv(65536) for tail in tails)
    assert daemon.lines("too many operators' connections: the newest was closed")
    wait(lambda: answer_to(daemon, b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n"), "the end of them")


@pytest.mark.parametrize(
    ("path", "body", "line"),
    [
        ("/inject", {"header": {"to": ["a"]}, "data": "x"}, "event injected"),
        ("/kick", {"participant": "a", "for": 1}, "kicked"),
        ("/drain", {"over": 0.0}, "draining"),
    ],
)
def test_what_is_done_is_written_down_with_who_did_it(daemon: RunningDaemon, path: str, body: Any, line: str) -> None:
    assert ask(daemon.admin, "POST", path, body).status == 200
    (found,) = daemon.lines(line)
    assert (found["uid"], found["pid"]) == (str(os.getuid()), str(os.getpid()))


def test_looking_on_is_written_down_too(daemon: RunningDaemon) -> None:
    with plug(daemon, b"GET /tail?to=alice HTTP/1.1\r\nHost: x\r\n\r\n") as tail:
        assert tail.recv(65536).startswith(b"HTTP/1.1 200")
        ask(daemon.admin, "POST", "/inject", {"header": {"to": ["alice"]}, "data": "x"})
        said = b""
        while b"data" not in said:
            said += tail.recv(65536)
        assert json.loads(said.split(b"\r\n")[1])["to"] == ["alice"]
    (found,) = daemon.lines("events are looked on at")
    assert (found["uid"], found["pid"]) == (str(os.getuid()), str(os.getpid()))
