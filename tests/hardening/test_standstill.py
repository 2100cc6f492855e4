"""The daemon stands still for longer than it is patient with others (SIGSTOP, as a paused machine): afterwards nobody pays for it."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack

import pytest

from tests.integration.daemon import RunningDaemon
from tests.integration.peers import Acked, connect, event, metrics, operator, wait

LONG = 3_000
"""Milliseconds without an answer: three times what a stream may stall, ten heartbeats."""
LONGER = 12_000
"""More than a worker may be silent (crew.SILENCE)."""


def stop(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def go_on(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("backend", ["memory://", "sqlite://{directory}/log.db"])
def test_streams_stay_and_nothing_is_lost(backend: str) -> None:
    config = "[streams]\nheartbeat = 0.3\nstall_timeout = 1.0\n"
    with RunningDaemon(config, backend=backend) as daemon, Acked(daemon.acked) as acked, ExitStack() as stack:
        idle = [stack.enter_context(connect(daemon, f"c{i}")) for i in range(30)]
        full = [stack.enter_context(connect(daemon, "full", buffer=4096)) for _ in range(5)]
        count = 0
        while metrics(daemon)["streams_blocked"] < len(full):
            acked.store(event(["full"], "x" * 10_000))
            count += 1
        stop(daemon.pid)
        try:
            acked.send(event("*", "meanwhile"), id=b"m")
            # Whoever was behind reads what is there: when it goes on it has no reason to be ended.
            for client in full:
                wait(lambda client=client: not client.pump(), "nothing more to come")  # type: ignore[misc]
            assert not acked.socket.poll(LONG), "it does not stand still"
        finally:
            go_on(daemon.pid)
        assert acked.answers(1)[b"m"]["ok"]
        for client in full:
            assert client.wait_events(count + 1, *full, *idle)[-1] == "meanwhile"
        for client in idle:
            assert client.wait_events(1, *idle) == ["meanwhile"]
        beats = metrics(daemon)["heartbeats_total"]
        wait(lambda: metrics(daemon)["heartbeats_total"] >= beats + 2 * len(idle), "heartbeats to go on", [*idle, *full])
        found = metrics(daemon)
        assert found["streams"] == len(idle) + len(full)
        assert not sum(found["streams_closed_total"].values()), found["streams_closed_total"]
        assert found["resyncs_total"] == {}


def test_a_machine_that_paused_replaces_no_worker() -> None:
    with RunningDaemon("[daemon]\nworkers = 2\n") as daemon, Acked(daemon.acked) as acked, ExitStack() as stack:
        clients = [stack.enter_context(connect(daemon, f"c{i}")) for i in range(20)]
        workers = children(daemon.pid)
        assert len(workers) == 2
        stop(daemon.pid, *workers)
        try:
            acked.send(event("*", "meanwhile"), id=b"m")
            assert not acked.socket.poll(LONGER), "it does not stand still"
        finally:
            go_on(daemon.pid, *workers)
        assert acked.answers(1)[b"m"]["ok"]
        for client in clients:
            assert client.wait_events(1, *clients) == ["meanwhile"]
        assert metrics(daemon)["workers_replaced_total"] == 0
        assert children(daemon.pid) == workers
        assert len(operator(daemon, "/clients")["clients"]) == len(clients)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return sorted(map(int, file.read().split()))
