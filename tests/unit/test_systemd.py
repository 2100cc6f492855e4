"""sse_daemon/systemd.py against sockets that play the manager, and against systemd's own systemd-socket-activate."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sse_daemon import systemd
from sse_daemon.errors import AddressError

Until = Callable[..., Awaitable[Any]]


def manager(address: str | bytes) -> socket.socket:
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    found.settimeout(30)
    found.bind(address)
    return found


@pytest.fixture
def told(tmp_path: Path) -> Iterator[socket.socket]:
    with manager(str(tmp_path / "notify")) as found:
        yield found


# notify


def test_states_arrive_in_one_message(told: socket.socket) -> None:
    assert systemd.notify(systemd.READY, systemd.status("serving"), environ={"NOTIFY_SOCKET": told.getsockname()})
    assert told.recv(4096) == b"READY=1\nSTATUS=serving"


def test_a_name_in_the_abstract_namespace() -> None:
    name = f"sse-daemon-test-{os.getpid()}"
    with manager(b"\0" + name.encode()) as told:
        assert systemd.notify(systemd.STOPPING, environ={"NOTIFY_SOCKET": "@" + name})
        assert told.recv(4096) == b"STOPPING=1"


def test_a_status_is_one_state() -> None:
    assert systemd.status("first\nREADY=1") == "STATUS=first READY=1"


@pytest.mark.parametrize("address", [None, "", "relative", "vsock:2:1", "/nobody/is/here", "@nobody-is-here", "/" + "x" * 200])
def test_without_a_manager_nothing_happens(address: str | None) -> None:
    assert not systemd.notify(systemd.READY, environ={} if address is None else {"NOTIFY_SOCKET": address})


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    manager(address).close()
    assert Path(address).exists()
    assert not systemd.notify(systemd.READY, environ={"NOTIFY_SOCKET": address})


def test_a_manager_that_does_not_read_holds_nobody(told: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": told.getsockname()}
    for _ in range(100_000):
        if not systemd.notify(systemd.ALIVE, environ=environ, patience=0):
            return
    pytest.fail("the queue of a Unix socket has an end, and it never came")


def test_no_states_are_no_message(told: socket.socket) -> None:
    assert not systemd.notify(environ={"NOTIFY_SOCKET": told.getsockname()})


# watchdog_interval


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "20000000"}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "77"}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "78"}, None),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": ""}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
        ({"WATCHDOG_USEC": "9" * 5000}, None),
        ({"WATCHDOG_PID": "77"}, None),
    ],
)
def test_pings_are_due_at_half_the_limit(environ: dict[str, str], interval: float | None) -> None:
    assert systemd.watchdog_interval(environ, pid=77) == interval


def test_the_watchdog_is_this_process_unless_said() -> None:
    assert systemd.watchdog_interval({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}) == 1.0


# ping


def drained(told: socket.socket) -> int:
    """How many messages were waiting."""
    count = 0
    told.setblocking(False)
    while True:
        try:
            told.recv(4096)
        except BlockingIOError:
            return count
        count += 1


async def stopped(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_pings_go_on(told: socket.socket, until: Until) -> None:
    task = asyncio.create_task(systemd.ping(0.01, {"NOTIFY_SOCKET": told.getsockname()}))
    arrived: list[int] = []
    await until(lambda: arrived.append(drained(told)) or sum(arrived) >= 3, "three pings")
    await stopped(task)
    drained(told)
    await asyncio.sleep(0.05)
    assert drained(told) == 0


async def test_the_first_ping_waits_for_nothing(told: socket.socket, until: Until) -> None:
    task = asyncio.create_task(systemd.ping(3600, {"NOTIFY_SOCKET": told.getsockname()}))
    await until(lambda: drained(told) == 1, "the first ping")
    await stopped(task)


async def test_a_stuck_loop_is_silent(told: socket.socket, until: Until) -> None:
    task = asyncio.create_task(systemd.ping(0.01, {"NOTIFY_SOCKET": told.getsockname()}))
    await until(lambda: drained(told) > 0, "a ping")
    time.sleep(0.2)  # noqa: ASYNC251 - the loop is meant to be stuck
    assert drained(told) == 0
    await until(lambda: drained(told) > 0, "a ping of the loop that goes on")
    await stopped(task)


# inherited_sockets: descriptors begin at 3, so it is asked in a process of its own


REPORT = """
import json, os, socket, sys
from sse_daemon import systemd
from sse_daemon.errors import AddressError
try:
    found = systemd.inherited_sockets()
except AddressError as error:
    print(json.dumps({"error": str(error)}))
    sys.exit()
again = systemd.inherited_sockets()
print(json.dumps({
    "found": [[x.name, x.socket.fileno(), x.socket.getsockname(), os.get_inheritable(x.socket.fileno())] for x in found],
    "again": len(again),
    "left": sorted(name for name in os.environ if name.startswith("LISTEN_")),
}))
for each in found:
    each.socket.close()
"""

# What a manager does between fork and exec: the sockets become 3, 4, ... and the variables name the process itself.
HAND_OVER = """
import os, sys
given = [int(x) for x in sys.argv[1].split(",") if x]
for fd in given:
    os.dup2(fd, fd + 100)
for place, fd in enumerate(given):
    os.dup2(fd + 100, 3 + place)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
"""


def handed_over(sockets: list[socket.socket], **environ: str) -> dict[str, Any]:
    """What REPORT says of `sockets` when they are handed to it in this order."""
    numbers = [each.fileno() for each in sockets]
    done = subprocess.run(
        [sys.executable, "-c", HAND_OVER, ",".join(map(str, numbers)), REPORT],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "LISTEN_FDS": str(len(sockets)), **environ},
        pass_fds=numbers,
        stdout=subprocess.PIPE,
        timeout=60,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[list[socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "http.sock"))
        unix.listen()
        yield [tcp, unix]


def test_inherited_sockets_come_with_their_names(listening: list[socket.socket]) -> None:
    report = handed_over(listening, LISTEN_FDNAMES="http:admin")
    tcp, unix = listening
    assert report["found"] == [
        ["http", 3, list(tcp.getsockname()), False],
        ["admin", 4, unix.getsockname(), False],
    ]


def test_they_are_handed_over_once(listening: list[socket.socket]) -> None:
    report = handed_over(listening, LISTEN_FDNAMES="http:admin")
    assert report["again"] == 0
    assert report["left"] == []


@pytest.mark.parametrize("names", ["", "http", ":admin", "http:admin:more"])
def test_a_name_may_be_missing(listening: list[socket.socket], names: str) -> None:
    expected = [name or "unknown" for name in [*names.split(":"), ""][:2]]
    assert [name for name, *_ in handed_over(listening, LISTEN_FDNAMES=names)["found"]] == expected


def test_a_datagram_socket_is_refused(listening: list[socket.socket]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wrong:
        report = handed_over([listening[0], wrong], LISTEN_FDNAMES="http:odd")
    assert report == {"error": "cannot listen on inherited descriptor 4 (odd): not a listening stream socket"}


def test_a_socket_that_does_not_listen_is_refused() -> None:
    with socket.socket() as wrong:
        assert "not a listening stream socket" in handed_over([wrong])["error"]


def test_a_descriptor_that_is_not_there_is_refused() -> None:
    assert "Bad file descriptor" in handed_over([], LISTEN_FDS="1")["error"]


@pytest.mark.parametrize("environ", [{}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "78"}])
def test_what_is_meant_for_another_process_is_left_alone(environ: dict[str, str]) -> None:
    assert systemd.inherited_sockets(environ, pid=77) == []
    assert environ == {}


@pytest.mark.parametrize("count", ["", "-1", "many", "0"])
def test_a_senseless_count_is_none(count: str) -> None:
    assert systemd.inherited_sockets({"LISTEN_FDS": count, "LISTEN_PID": "77"}, pid=77) == []


def test_a_senseless_number_costs_nothing() -> None:
    with pytest.raises(AddressError):
        systemd.inherited_sockets({"LISTEN_FDS": "9" * 18, "LISTEN_PID": "77"}, pid=77)


def test_systemds_own_tool_is_understood(tmp_path: Path, until_blocking: Callable[..., Any]) -> None:
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("systemd-socket-activate is not installed")
    address = tmp_path / "http.sock"
    command = [activate, "--fdname=http", f"--listen={address}", "--setenv=PYTHONPATH", sys.executable, "-c", REPORT]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                # The tool starts the program when the first client connects.
                until_blocking(lambda: address.exists() and client.connect_ex(str(address)) == 0, "the tool listens")
                out, err = started.communicate(timeout=60)
        finally:
            started.kill()
    assert json.loads(out)["found"] == [["http", 3, str(address), False]], err
