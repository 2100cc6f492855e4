"""Clients take the files that there are for them, and none of those that operators and producers need meanwhile."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sse_daemon.listener import KEPT_BACK
from tests.hardening.application import Application, Asked, Piece, by_token
from tests.hardening.test_not_taken_down import answered, cpu_of, ended, plug
from tests.integration.daemon import RunningDaemon
from tests.integration.peers import Acked, Client, connect, event, files_of, metrics, operator, wait
from tests.integration.test_workers import workers

PAUSING = "cannot accept connections, pausing"
BEGUN = b"GET /events HTTP/1.1\r\n"
REST = b"Host: localhost\r\nX-Public-Key: crowd\r\n\r\n"


@contextmanager
def limited(pid: int, files: int) -> Iterator[int]:
    """The process may open so many files; the number from which on they are not for clients."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (files, before[1]))
    yield files - min(KEPT_BACK, files // 4)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def crowd_at(daemon: RunningDaemon, count: int, stack: ExitStack) -> list[socket.socket]:
    """Connections that have begun a request."""
    crowd = [stack.enter_context(plug(daemon.http_port)) for _ in range(count)]
    for connection in crowd:
        connection.sendall(BEGUN)
    return crowd


def producers_at(daemon: RunningDaemon, count: int, stack: ExitStack) -> list[socket.socket]:
    """So many TCP connections to each socket of producers."""
    ports = [int(address.rpartition(":")[2]) for address in (daemon.pubsub, daemon.acked)]
    return [stack.enter_context(plug(port)) for port in ports * count]


def highest(pid: int) -> int:
    """The highest number of a file that a process has open."""
    return max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))


def share_of(daemon: RunningDaemon, acked: Acked, stays: Client) -> float:
    """What it uses of a processor while it stores and writes twenty events, one a heartbeat."""
    begun, used = time.monotonic(), cpu_of(daemon.pid)
    events, beats = len(stays.events), len(stays.of("heartbeat"))
    for number in range(20):
        acked.store(event(["stays"], str(number)))
        wait(lambda number=number: len(stays.of("heartbeat")) > beats + number, "time in which it could spin", [stays])  # type: ignore[misc]
    assert stays.wait_events(events + 20)[-1] == "19"
    return (cpu_of(daemon.pid) - used) / (time.monotonic() - begun)


def test_while_clients_have_all_files_operators_and_producers_get_through() -> None:
    """The limit stays, and so does the crowd, until all of that has been seen."""
    with RunningDaemon("[streams]\nheartbeat = 0.1\n") as daemon, ExitStack() as stack:
        acked = stack.enter_context(Acked(daemon.acked))
        stays = stack.enter_context(connect(daemon, "stays", heartbeat="event"))
        with limited(daemon.pid, files_of(daemon.pid) + 40):
            crowd = crowd_at(daemon, 100, stack)
            wait(lambda: daemon.lines(PAUSING), "it to notice")
            producers_at(daemon, 3, stack)
            assert share_of(daemon, acked, stays) < 0.5
            assert operator(daemon, "/stats")["metrics"]["streams"] == 1
            with Acked(daemon.acked) as another:
                another.store(event(["stays"], "20"))
            assert stays.wait_events(21)[-1] == "20"
            assert len(daemon.lines()) < 30
            assert not any(map(ended, crowd)), "the crowd has had its files all the time"
            for connection in crowd:
                connection.close()
            assert answered(daemon)


def test_each_worker_has_files_of_its_own_and_goes_on_too() -> None:
    with RunningDaemon(options=("--workers", "2")) as daemon, ExitStack() as stack, Acked(daemon.acked) as acked:
        stays = stack.enter_context(connect(daemon, "stays"))
        ends = {pid: stack.enter_context(limited(pid, files_of(pid) + 40)) for pid in workers(daemon).values()}
        crowd = crowd_at(daemon, 300, stack)
        wait(lambda: {line["worker"] for line in daemon.lines(PAUSING)} == {"w1", "w2"}, "both to notice")
        acked.store(event(["stays"], "x"))
        assert stays.wait_events(1) == ["x"]
        assert metrics(daemon)["streams"] == 1
        assert all(highest(pid) < end for pid, end in ends.items())
        for connection in crowd:
            connection.close()
        assert answered(daemon)


def test_what_clients_do_brings_them_no_files_that_are_not_theirs() -> None:
    """Connections become streams, end and are followed by others, all at the limit; the files above stay free."""
    config = "[http]\nheader_timeout = 60.0\n[streams]\nmax_per_participant = 0\nopen_rate = 0\n"
    with RunningDaemon(config) as daemon, limited(daemon.pid, 600) as end, ExitStack() as stack:
        crowd = crowd_at(daemon, 500, stack)
        wait(lambda: daemon.lines(PAUSING), "it to notice")
        wait(lambda: highest(daemon.pid) == end - 1, "all that is for clients to be taken")
        for connection in crowd[:100]:
            connection.sendall(REST)
        wait(lambda: metrics(daemon)["streams"] == 100, "them to be streams")
        for connection in crowd[50:150]:
            connection.close()
        wait(lambda: metrics(daemon)["streams"] == 50, "the others to be gone")
        wait(lambda: answered(daemon), "those who waited to be let in")
        wait(lambda: files_of(daemon.pid) > end - 80, "them to be there")
        assert highest(daemon.pid) < end


def test_while_the_application_hangs_one_address_has_so_many_connections_and_no_more() -> None:
    with Application() as app, ExitStack() as stack:

        def late(asked: Asked) -> list[Piece]:
            return [app.held, *by_token(asked)]

        config = app.config(hook_timeout=30.0) + "[http]\nshared_addresses = []\nmax_per_address = 5\n[streams]\nopen_rate = 0\n"
        with RunningDaemon(config, dev=False) as daemon:
            app.answers, before = late, len(app.asked)
            crowd = [stack.enter_context(plug(daemon.http_port)) for _ in range(30)]
            for number, connection in enumerate(crowd):
                line = f"Authorization: Bearer name{number}.1\r\n"
                connection.sendall(BEGUN + line.encode() + b"Host: localhost\r\n\r\n")
            # Five where they were accepted, five that were left to the server.
            wait(lambda: sum(map(ended, crowd)) == 20, "those that are too many to be ended")
            wait(lambda: len(app.asked) - before == 10, "the others to be asked for")
            app.go.set()
            wait(lambda: metrics(daemon)["streams"] == 10, "these to be let in")
            assert len(daemon.lines("too many connections of one address")) == 1
