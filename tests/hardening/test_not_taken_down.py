"""What strangers can do to the daemon by connecting: each time the others are served as if nothing were, and it is over by itself.

More of this where it belongs: files that run out in test_no_files_left.py, stalled readers in tests/integration/test_slow.py, stray bytes
and malformed heads in test_http.py, connections that come and go in test_lifecycle.py.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import select
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.integration.daemon import RunningDaemon
from tests.integration.peers import Acked, Client, ask, connect, event, files_of, metrics, resident, wait

MIB = 1024 * 1024
QUICK = "[http]\nheader_timeout = 2.0\nbody_timeout = 2.0\n"
HEAD = b"GET /events HTTP/1.1\r\nHost: localhost\r\nX-Public-Key: slow\r\n"
BODY = b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"


def plug(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))


def ended(connection: socket.socket) -> bool:
    """Whether the daemon has ended this connection; what it said before is read."""
    try:
        while select.select([connection], [], [], 0)[0]:
            if not connection.recv(65536):
                return True
    except ConnectionResetError:
        return True
    return False


def drip(connection: socket.socket, byte: bytes) -> None:
    with suppress(OSError):  # ended: that is looked at elsewhere
        connection.send(byte)


@pytest.mark.parametrize(
    "kind", ["silent", "heads that drip", "bodies that do not come", "bodies that drip", "idle after an answer"]
)
def test_two_hundred_that_do_not_finish_are_ended_and_disturb_nobody(kind: str) -> None:
    with RunningDaemon(QUICK) as daemon, Acked(daemon.acked) as acked, ExitStack() as stack:
        healthy = stack.enter_context(connect(daemon, "healthy"))
        crowd = [stack.enter_context(plug(daemon.http_port)) for _ in range(200)]
        first = {
            "silent": b"",
            "heads that drip": HEAD,
            "idle after an answer": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        }
        for connection in crowd:
            connection.sendall(first.get(kind, BODY))
        count = 0

        def served() -> bool:
            """Everything goes on, with as many of them as are left."""
            nonlocal count
            count += 1
            acked.store(event(["healthy"], str(count)))
            assert healthy.wait_events(count)[-1] == str(count)
            with connect(daemon, "new"):
                pass
            if "drip" in kind:
                for connection in crowd:
                    drip(connection, b"x")
            return all(map(ended, crowd))

        assert not served(), "nobody was there to disturb"
        wait(served, "all of them to be ended")
        wait(lambda: metrics(daemon)["streams"] == 1, "the others to be gone")


def test_five_hundred_that_never_read_cost_bounded_memory_and_slow_nobody() -> None:
    """Rounds with and without them alternate in one run: what the machine does meanwhile falls on both."""
    config = "[streams]\nwindow_bytes = 4194304\nstall_timeout = 600.0\n[backend]\nretention_bytes = 8388608\n"
    data = "x" * 10_000
    with RunningDaemon(config) as daemon, Acked(daemon.acked) as acked, ExitStack() as stack:
        healthy = stack.enter_context(connect(daemon, "healthy"))
        sent = 0

        def publish(to: list[str] | str) -> None:
            nonlocal sent
            sent += 1
            acked.store(event(to, data))
            healthy.wait_events(sent)

        def round_of() -> float:
            """Seconds for a healthy client to get 50 events that are for everybody."""
            begun = time.monotonic()
            for _ in range(50):
                publish("*")
            return time.monotonic() - begun

        round_of()
        alone, beside = [], []
        for _ in range(3):
            alone.append(round_of())
            with ExitStack() as there:
                stalled = [there.enter_context(connect(daemon, f"slow{i}", buffer=4096)) for i in range(500)]
                while metrics(daemon)["streams_blocked"] < len(stalled):
                    publish("*")
                before = resident(daemon.pid)
                beside.append(round_of())
                assert resident(daemon.pid) - before < 16 * MIB
                assert metrics(daemon)["pinned_bytes"] <= len(stalled) * 2 * len(data)
            wait(lambda: metrics(daemon)["streams"] == 1, "them to be gone")
        assert statistics.median(beside) < 3 * statistics.median(alone) + 0.05


@pytest.mark.parametrize(
    "stray", [b"x", b"\r\n", b"GET /events HTTP/1.1\r\nHost: localhost\r\nX-Public-Key: b\r\n\r\n", b"\0" * 65536]
)
def test_stray_bytes_end_only_the_stream_that_they_are_on(stray: bytes) -> None:
    with RunningDaemon() as daemon, Acked(daemon.acked) as acked, ExitStack() as stack:
        healthy = stack.enter_context(connect(daemon, "healthy"))
        acked.store(event(["nobody"]))  # its connection, which is made behind our back, is there too
        files = files_of(daemon.pid)
        strays = [stack.enter_context(connect(daemon, f"stray{i}")) for i in range(100)]
        for client in strays:
            drip(client.sock, stray)
            client.sock.setblocking(False)
        wait(lambda: metrics(daemon)["streams"] == 1, "them to be gone", strays)
        wait(lambda: files_of(daemon.pid) <= files, "their files to be closed")
        acked.store(event("*", "x"))
        assert healthy.wait_events(1) == ["x"]


def cpu_of(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_one_address_has_a_limit_of_connections_and_of_streams_and_a_pace() -> None:
    config = """
[http]
shared_addresses = []
max_per_address = 5
[streams]
max_per_address = 4
max_per_participant = 2
open_rate = 0.6
"""
    with RunningDaemon(config) as daemon, ExitStack() as stack:
        idle = [stack.enter_context(plug(daemon.http_port)) for _ in range(8)]
        for connection in idle:
            connection.sendall(b"GET /ev")
        wait(lambda: sum(map(ended, idle)) == 3, "those that are too many to be ended")
        assert len(daemon.lines("too many connections of one address")) == 1
        for connection in idle:
            connection.close()
        wait(lambda: answered(daemon), "room for others")
        # What is plain does not wait at that door.
        kept = [stack.enter_context(connect(daemon, key)) for key in ("a", "a", "b", "c")]
        assert not away(daemon, "a").startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nX")
        assert b'"reason":"overload"' in away(daemon, "d")
        kept.pop().sock.close()
        wait(lambda: metrics(daemon)["streams"] == 3, "it to be gone")
        assert b'"reason":"overload"' not in away(daemon, "e", b"connected")
        assert metrics(daemon)["streams_turned_away_total"] >= 2


def answered(daemon: RunningDaemon) -> bool:
    with suppress(OSError, HTTPException):
        return ask(daemon, "GET", "/healthz").status == 200
    return False


def away(daemon: RunningDaemon, key: str, mark: bytes = b"bye") -> bytes:
    """What this one is told, through `mark` or the end."""
    with Client(daemon.http_port, key) as client:
        client.sock.settimeout(30)
        said = b""
        while mark not in said and (part := client.sock.recv(65536)):
            said += part
        return said + client.sock.recv(65536) if mark == b"bye" else said


def in_a_network_of_its_own(test: Callable[[], Any]) -> Any:
    """Runs it in a thread whose sockets, and those of the processes that it starts, are in a new network namespace."""

    def run() -> Any:
        if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):  # CLONE_NEWNET
            pytest.skip(f"a network namespace takes root: {os.strerror(ctypes.get_errno())}")
        loopback("up")
        return test()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def loopback(state: str) -> None:
    subprocess.run(
        ["ip", "link", "set", "lo", state], check=True, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    )


@pytest.mark.may_skip("a network namespace takes root")
@pytest.mark.parametrize(
    ("stall_timeout", "reason"),
    # With the first the kernel's own time-out ends them, 10 s beyond it; with the second that would take five minutes.
    [(2.0, "client"), (300.0, "vanished")],
)
def test_peers_that_vanish_are_gone_after_a_heartbeat_and_twenty_seconds(stall_timeout: float, reason: str) -> None:
    """The way to them is cut: there is no FIN, no RST, and nothing that is sent is acknowledged."""
    config = f"[streams]\nheartbeat = 1.0\nstall_timeout = {stall_timeout}\n"

    def vanish() -> None:
        with RunningDaemon(config, pubsub=(), acked=()) as daemon, ExitStack() as stack:
            before = files_of(daemon.pid)
            clients = [stack.enter_context(connect(daemon, f"c{i}")) for i in range(20)]
            assert metrics(daemon)["streams"] == 20
            loopback("down")
            begun = time.monotonic()
            wait(lambda: metrics(daemon)["streams"] == 0, "them to be gone", seconds=60)
            # A heartbeat and 20 s; what timers are late by, and the machine, are as much again.
            assert time.monotonic() - begun < 2 * (1.0 + 20.0)
            assert metrics(daemon)["streams_closed_total"] == {reason: 20}
            assert not any(client.closed for client in clients)
            wait(lambda: files_of(daemon.pid) <= before, "their files to be closed")
            loopback("up")
            with connect(daemon, "new"):
                pass

    in_a_network_of_its_own(vanish)


@pytest.fixture
def lagging() -> Iterator[RunningDaemon]:
    """A daemon that takes any delay at all for too much."""
    with RunningDaemon("[streams]\nshed_lag = 1e-9\n") as daemon:
        yield daemon


def test_while_everything_is_late_new_streams_are_sent_away(lagging: RunningDaemon) -> None:
    with connect(lagging, "early") as early, Acked(lagging.acked) as acked:
        wait(lambda: metrics(lagging)["shedding"] == 1, "it to notice")
        assert b'"reason":"overload"' in away(lagging, "late")
        acked.store(event("*", "x"))
        assert early.wait_events(1) == ["x"], "who was there is served"
        lagging.configure("[streams]\nshed_lag = 60.0\n")
        lagging.signal(1)
        wait(lambda: metrics(lagging)["shedding"] == 0, "it to be over")
        with connect(lagging, "again"):
            pass


BAD = {
    "nobody": b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no key": b"GET /events?public_key=%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no text": b"GET /events?types=%FF HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no route": b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another host": b"GET /events HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "no session": b"POST /session HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no head": b"GET /events HTTP/1.1\r\nHost: localhost\r\nno header\r\n\r\n",
    "no number": b"POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    "no body": b"POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_flood_of_bad_requests_does_not_flood_the_log(kind: str) -> None:
    """Of each kind alone some hundred lines are written, and at the end what it says is said still. 20 s at most: 10 lines a second."""
    # Without --dev: claims have no sessions, so that none is refused.
    with RunningDaemon("[http]\nbody_timeout = 0.1\n", dev=False) as daemon:
        before = len(daemon.lines())
        for _ in range(20):
            with ExitStack() as stack:
                crowd = [stack.enter_context(plug(daemon.http_port)) for _ in range(50)]
                for connection in crowd:
                    connection.sendall(BAD[kind])
                wait(lambda: all(map(ended, crowd)), "all to be answered")  # noqa: B023
        assert ask(daemon, "GET", "/healthz").status == 200
        assert len(daemon.lines()) - before < 300


HOSTILE = ["a\nlevel=error msg=forged", "\x1b[31mred", "\u202egnirts", "a\r\nX: y", '"}{"', "\u2028\u0085\x7f", "x" * 5000]


@pytest.mark.parametrize("format", ["json", "logfmt"])
def test_nothing_that_is_sent_makes_a_line_of_its_own_in_the_log(format: str) -> None:
    with RunningDaemon(f'[log]\nformat = "{format}"\nlevel = "debug"\n') as daemon, Acked(daemon.acked) as acked:
        for text in HOSTILE:
            for name in ("public_key", "last_event_id", "types", "wait", "heartbeat"):
                with plug(daemon.http_port) as connection:
                    target = f"/events?{urlencode({'public_key': 'a', name: text})}"
                    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nX: {text[:9]}\r\n\r\n".encode())
                    connection.recv(100)
            acked.ask(event([text], text, type=text, topic=text, sender=text, key=text))
            acked.ask(text.encode())
        text = daemon.log()
        lines = text.splitlines()
        assert len(lines) == text.count("\n"), "a line that only some programs see"
        assert not [line for line in lines if "forged" in line and not in_quotes(line, format)]
        assert all(character.isprintable() or character == "\n" for character in text)
        assert text.isascii()


def in_quotes(line: str, format: str) -> bool:
    """Whether the line is one of ours, with what is hostile inside of a value."""
    if format == "json":
        return {"time", "level", "logger", "msg"} <= json.loads(line).keys()
    return line.startswith("time=") and re.sub(r'"(?:[^"\\]|\\.)*"', "", line).count("forged") == 0


PATTERNS = {
    "many headers": b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 2500 + b"\r\n",
    "one header many times": b"GET /events HTTP/1.1\r\nHost: localhost\r\n" + b"X-Public-Key: a\r\n" * 900 + b"\r\n",
    "many parameters": b"GET /events?" + b"a&" * 8000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "much to decode": b"GET /events?public_key=" + b"%41" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "many values": b"GET /events?public_key=a&types=" + b"*a*," * 3900 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a form": b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 65536\r\n\r\n"
    + b"a&" * 32768,
    "many parts": b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 65536\r\n\r\n"
    + b"--x\r\n" * 13107
    + b"-",
    "cookies": b"GET /events HTTP/1.1\r\nHost: localhost\r\nCookie: " + b"a=b;" * 4000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("kind", PATTERNS)
def test_no_request_is_dear_to_understand(kind: str) -> None:
    """64 KiB of what has been quadratic in one parser or another; by processor time, which others on the machine do not use."""
    with RunningDaemon() as daemon:
        used, rounds = cpu_of(daemon.pid), 20
        for _ in range(rounds):
            with plug(daemon.http_port) as connection:
                connection.settimeout(30)
                drip(connection, PATTERNS[kind])
                with suppress(ConnectionResetError):
                    connection.recv(100)
        wait(lambda: ask(daemon, "GET", "/healthz").status == 200, "it to have read all")
        assert (cpu_of(daemon.pid) - used) / rounds < 0.05


def test_many_that_want_all_of_a_long_history_leave_room_for_the_others() -> None:
    config = "[streams]\nwindow_bytes = 1048576\n"
    with RunningDaemon(config) as daemon, Acked(daemon.acked) as acked, ExitStack() as stack:
        first = acked.store(event(["crowd"], "x" * 1000))[0]
        for _ in range(40):
            acked.store(*[event(["crowd"], "x" * 1000) for _ in range(100)])
        healthy = stack.enter_context(connect(daemon, "healthy"))
        crowd = [stack.enter_context(Client(daemon.http_port, "crowd", last_id=first)) for _ in range(100)]
        for number in range(50):
            acked.store(event(["healthy"], str(number)))
            assert healthy.wait_events(number + 1)[-1] == str(number), "before the crowd has read anything"
        wait(lambda: all(len(client.events) == 4000 for client in crowd), "the crowd to have all", crowd)


def test_connections_that_come_and_go_in_every_way_leave_nothing() -> None:
    """What there is after twenty thousand is what there was after the first two."""
    with RunningDaemon() as daemon:

        def come_and_go(times: int) -> tuple[int, int]:
            for number in range(times):
                with plug(daemon.http_port) as connection:
                    connection.sendall((HEAD + b"\r\n", HEAD, b"", HEAD + b"\r\nx", BODY)[number % 5])
                    if number % 3 == 0:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                    elif number % 3 == 1:
                        connection.shutdown(socket.SHUT_WR)
            wait(lambda: metrics(daemon)["streams"] == 0, "the streams to be gone")
            wait(lambda: files_of(daemon.pid) <= files, "the files to be closed")
            return resident(daemon.pid), int(metrics(daemon)["window_channels"])

        files = files_of(daemon.pid)
        before, channels = come_and_go(2000)
        after, left = come_and_go(18_000)
        assert left <= channels
        assert after - before < max(before // 10, 4 * MIB)
