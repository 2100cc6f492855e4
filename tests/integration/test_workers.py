"""A daemon whose streams are held by several processes: to clients, producers and operators it is one, also while one of them dies."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.daemon import RunningDaemon
from tests.integration.peers import Acked, Client, Pub, ask, connect, event, metrics, operator, positions, resident, wait
from tests.integration.test_lifecycle import inherited

TWO = ("--workers", "2")


@pytest.fixture
def daemon() -> Iterator[RunningDaemon]:
    with RunningDaemon(options=TWO) as daemon:
        yield daemon


def workers(daemon: RunningDaemon) -> dict[str, int]:
    """The daemon's worker processes: their names, and their process ids."""
    found = {}
    for pid in Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "sse_daemon.cli.worker" in command:
            found[command[command.index("sse_daemon.cli.worker") + 1]] = int(pid)
    return found


def worker_of(client: Client) -> str:
    """The name of the worker that holds a client's stream."""
    name: str = client.of("connected")[-1]["client_id"].partition("-")[0]
    return name


def test_a_worker_does_not_interrupt_its_owner(daemon: RunningDaemon) -> None:
    assert {os.sched_getscheduler(pid) for pid in workers(daemon).values()} == {os.SCHED_BATCH}
    assert os.sched_getscheduler(daemon.pid) == os.SCHED_OTHER


def on(daemon: RunningDaemon, name: str, participant: str | None = None, **options: Any) -> Client:
    """A client whose stream is on this worker: the kernel chooses, so it tries until it has."""
    while True:
        client = connect(daemon, participant, **options)
        if worker_of(client) == name:
            return client
        client.sock.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# Events -----------------------------------------------------------------------------------------------------------------------


def test_everybody_gets_everything_once_and_in_order(daemon: RunningDaemon) -> None:
    with ExitStack() as stack, Acked(daemon.acked) as acked, Pub(daemon.pubsub) as pub:
        clients = [stack.enter_context(on(daemon, name, key)) for name in ("w1", "w2") for key in ("a", "b", "c")]
        for number in range(300):
            to = ("*", ["a"], ["b"], ["a", "b"])[number % 4]
            (pub.send if number % 3 else acked.send)(event(to, str(number)))
        acked.store(event("*", "end"))
        # No order holds between the two sockets: some of the others may come behind it.
        wait(lambda: all("end" in client.data for client in clients), "the last acked one", clients)
        wait(lambda: metrics(daemon)["events_accepted_total"] == 301, "all to be stored")
        acked.store(event("*", "really"))
        wait(lambda: all(client.data[-1:] == ["really"] for client in clients), "the very last", clients)
        for key, (first, second) in {key: (clients[i], clients[i + 3]) for i, key in enumerate(("a", "b", "c"))}.items():
            mine = {n for n in range(300) if n % 4 in {"a": (0, 1, 3), "b": (0, 2, 3), "c": (0,)}[key]}
            assert {int(data) for data in first.data if data.isdigit()} == mine
            assert first.data == second.data and len(first.data) == len(mine) + 2
            places = positions([message.id for message in first.events])
            assert places == sorted(set(places)) and places == positions([message.id for message in second.events])


def test_a_topic_that_is_declared_while_they_run_is_known_to_all_of_them() -> None:
    route = '[[stream]]\npath = "/known/{chat}"\ntopic = "chat.{chat}"\nparticipant = "none"\nunknown_topic = "404"\n'
    with RunningDaemon(route, options=TWO) as daemon, Acked(daemon.acked) as acked:

        def statuses() -> set[int]:
            """What both of them say: the kernel gives each some of so many connections."""
            asked = [httpx.get(f"{daemon.http}/known/1", headers={"Accept": "application/json"}) for _ in range(20)]
            return {answer.status_code for answer in asked}

        for known in (True, False, True):
            acked.store(b'{"topic":"chat.1","known":%s}' % (b"true" if known else b"false"))
            wait(lambda known=known: statuses() == {200 if known else 404}, "all to know it")


def test_a_client_goes_on_at_its_cursor_on_another_worker(daemon: RunningDaemon) -> None:
    with Acked(daemon.acked) as acked:
        for turn in range(10):
            with on(daemon, "w1", "a") as first:
                acked.store(event(["a"], f"{turn} seen"))
                first.wait_events(1)
                last = first.parser.last_event_id
            acked.store(event(["b"], "another's"))
            acked.store(event(["a"], f"{turn} missed"))
            with on(daemon, "w2", "a", last_id=last) as second:
                acked.store(event(["a"], f"{turn} new"))
                assert second.wait_events(2) == [f"{turn} missed", f"{turn} new"]
                assert not second.of("resync")


def test_a_worker_is_soon_sent_nothing_more_for_a_client_that_is_on_another(daemon: RunningDaemon) -> None:
    with Acked(daemon.acked) as acked:
        with on(daemon, "w1", "a"):
            acked.store(event(["a"], "both know it"))
        with on(daemon, "w2", "a") as client:

            def held_by() -> float:
                """How many workers get an event for it."""
                before = metrics(daemon)["window_events"]
                acked.store(event(["a"], "new"))
                return metrics(daemon)["window_events"] - before

            wait(lambda: held_by() == 1, "the first worker not to follow the channel any more")
            with on(daemon, "w1", "a") as other:
                acked.store(event(["a"], "last"))
                wait(lambda: client.data[-1:] == other.data[-1:] == ["last"], "both again", [client, other])


def test_what_is_told_to_all_holds_for_each(daemon: RunningDaemon) -> None:
    with Acked(daemon.acked) as acked, on(daemon, "w1", "a") as one, on(daemon, "w2", "a") as two:
        acked.store(event("*", "kept", topic="t", type="x", retain=True))
        assert one.wait_events(1) == two.wait_events(1) == ["kept"]
        for name in ("w1", "w2"):
            with on(daemon, name, "new") as late:
                assert late.wait_events(1) == ["kept"]


# A worker dies ----------------------------------------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced_and_its_clients_miss_nothing(daemon: RunningDaemon) -> None:
    with ExitStack() as stack, Acked(daemon.acked) as acked:
        stays = stack.enter_context(on(daemon, "w2", "a"))
        leaves = stack.enter_context(on(daemon, "w1", "a"))
        before = workers(daemon)
        for number in range(200):
            acked.store(event(["a"], str(number)))
            if number == 100:
                os.kill(before["w1"], signal.SIGKILL)
        leaves.wait_closed(stays)
        again = stack.enter_context(Client(daemon.http_port, "a", last_id=leaves.parser.last_event_id))
        wait(lambda: again.data[-1:] == ["199"] and stays.data[-1:] == ["199"], "the last event", [again, stays])
        assert leaves.data + again.data == stays.data == [str(n) for n in range(200)]
        assert not stays.closed and not again.of("resync")
        wait(lambda: metrics(daemon)["workers"] == 2, "another one")
        after = workers(daemon)
        assert after["w2"] == before["w2"] and after["w1"] != before["w1"]
        with on(daemon, "w1", "a") as new:
            acked.store(event(["a"], "new"))
            assert new.wait_events(1) == ["new"]
        (line,) = daemon.lines("a worker is gone, another one takes its place")
        assert (line["worker"], line["signal"]) == ("w1", "SIGKILL") and "status" not in line


def test_whoever_waits_while_a_worker_is_replaced_is_not_refused(daemon: RunningDaemon) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            os.kill(workers(daemon)["w1"], signal.SIGKILL)
            clients = [stack.enter_context(Client(daemon.http_port, "a")) for _ in range(20)]
            for client in clients:
                wait(lambda client=client: client.parser.retry is not None or client.closed, "everybody to be answered", clients)
            # Whom the dying one had accepted is cut; nobody was who waited in a queue.
            assert sum(client.reset or client.status != 200 for client in clients) <= 3
            wait(lambda: set(workers(daemon)) == {"w1", "w2"} and metrics(daemon)["workers"] == 2, "two workers")


def test_counters_do_not_go_back(daemon: RunningDaemon) -> None:
    with Acked(daemon.acked) as acked, on(daemon, "w1", "a") as one, on(daemon, "w2", "a") as two:
        acked.store(*[event(["a"], str(n)) for n in range(50)])
        assert one.wait_events(50) == two.wait_events(50)
        before = wait(lambda: (m := metrics(daemon)) and m["deliveries_total"] == 100 and m, "both to be counted")
        os.kill(workers(daemon)["w1"], signal.SIGKILL)
        for _ in range(20):
            now = metrics(daemon)
            assert now["deliveries_total"] == 100 and now["streams_opened_total"] == before["streams_opened_total"]
            time.sleep(0.05)
        assert wait(lambda: metrics(daemon)["workers_replaced_total"] == 1, "it to be replaced")
        assert metrics(daemon)["streams"] == 1


def test_a_worker_that_hangs_holds_up_nobody_and_is_replaced(daemon: RunningDaemon) -> None:
    with ExitStack() as stack, Acked(daemon.acked) as acked:
        stays = stack.enter_context(on(daemon, "w2", "a"))
        stack.enter_context(on(daemon, "w1", "a"))
        pid = workers(daemon)["w1"]
        acked.store(event(["a"], "x" * 900_000))
        stays.wait_events(1)
        before = resident(daemon.pid)
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(100):
                acked.store(event(["a"], "x" * 900_000))
            assert len(stays.wait_events(101)) == 101
            # What waits for it has a bound, beyond which it is cut off; the rest is the log's own.
            assert resident(daemon.pid) - before < (100 + 34 + 30) * 1_000_000
            assert operator(daemon, "/clients")["clients"], "the others answer"
            wait(lambda: daemon.lines("a worker is gone, another one takes its place"), "it to be replaced")
        finally:
            if alive(pid):
                os.kill(pid, signal.SIGCONT)
        wait(lambda: metrics(daemon)["workers"] == 2, "another one")
        with on(daemon, "w1", "a") as new:
            acked.store(event(["a"], "new"))
            assert new.wait_events(1) == ["new"]


def test_the_log_says_how_many_streams_went_with_a_worker(daemon: RunningDaemon) -> None:
    with on(daemon, "w1", "a"), on(daemon, "w1", "b"), on(daemon, "w1", "c"):
        # The clients that came to the other worker are gone; the number is as the worker last told it, by itself or when asked.
        wait(lambda: metrics(daemon)["streams"] == 3, "only these to be left")
        os.kill(workers(daemon)["w1"], signal.SIGKILL)
        (line,) = wait(lambda: daemon.lines("a worker is gone, another one takes its place"), "it to be noticed")
        assert line["streams"] == "3"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("inject", "--to", "a", "--wait=1", "x"), 1),
        (("kick", "--participant", "a"), 1),
        (("drain", "--over", "0"), 1),
        (("clients",), 0),
        (("stats",), 0),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
def test_an_answer_without_a_worker_says_so(daemon: RunningDaemon, arguments: tuple[str, ...], status: int) -> None:
    with on(daemon, "w1", "a"), on(daemon, "w2", "a"):
        pid = workers(daemon)["w1"]
        os.kill(pid, signal.SIGSTOP)
        try:
            done = daemon.command(*arguments)
            assert (done.returncode, lacking(done.stderr)) == (status, ["w1"])
            assert operator(daemon, "/clients")["silent"] == ["w1"]
        finally:
            if alive(pid):
                os.kill(pid, signal.SIGCONT)
        wait(lambda: operator(daemon, "/clients")["silent"] == [], "all to answer")


def test_a_program_is_told_too(daemon: RunningDaemon) -> None:
    pid = workers(daemon)["w2"]
    os.kill(pid, signal.SIGSTOP)
    try:
        done = daemon.command("inject", "--to", "a", "--wait=1", "--json", "x")
        assert done.returncode == 1 and json.loads(done.stdout)["silent"] == ["w2"]
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGCONT)


def lacking(errors: str) -> list[str]:
    """The workers of which these lines say that they are missing."""
    return re.findall(r"^sse-daemon: worker (w\d) does not answer: its streams are missing here$", errors, re.MULTILINE)


def test_a_silent_worker_is_killed(daemon: RunningDaemon) -> None:
    pid = workers(daemon)["w1"]
    os.kill(pid, signal.SIGSTOP)
    wait(lambda: daemon.lines("a worker has gone silent and is killed"), "it to be noticed")
    wait(lambda: metrics(daemon)["workers"] == 2 and not alive(pid), "another one")


def test_no_worker_outlives_its_owner() -> None:
    with RunningDaemon(options=TWO) as daemon, on(daemon, "w1", "a") as one, on(daemon, "w2", "a") as two:
        pids = workers(daemon)
        daemon.kill()
        for client in (one, two):
            client.wait_closed()
            assert client.of("bye"), "it gets its bye"
        wait(lambda: not any(alive(pid) for pid in pids.values()), "all of them to end")
        daemon.start()  # on the same addresses
        with Acked(daemon.acked) as acked, on(daemon, "w2", "a") as again:
            acked.store(event(["a"], "again"))
            assert again.wait_events(1) == ["again"]


# Operators --------------------------------------------------------------------------------------------------------------------


def test_operators_see_one_daemon(daemon: RunningDaemon) -> None:
    with on(daemon, "w1", "a") as one, on(daemon, "w2", "b") as two:
        rows = wait(lambda: len(rows := operator(daemon, "/clients")["clients"]) == 2 and rows, "both to be listed")
        assert {row["id"].partition("-")[0]: row["participant"] for row in rows} == {"w1": "a", "w2": "b"}
        done = daemon.command("inject", "--to", "a", "--to", "b", "injected", "--json")
        assert done.returncode == 0, done.stderr
        assert one.wait_events(1) == two.wait_events(1) == ["injected"]
        assert ask(daemon.admin, "POST", "/kick", {"participant": "b", "for": 60}).body["closed"] == [rows[-1]["id"]]
        two.wait_closed()
        closed = operator(daemon, "/clients?closed=1&participant=b")["clients"]
        assert closed[0]["reason"] == "kicked"
        assert "sse_daemon_streams 1.0" in ask(daemon.admin, "GET", "/metrics").body
        # Who was shut out stays out, also of workers that came later.
        os.kill(workers(daemon)["w1"], signal.SIGKILL)
        wait(lambda: metrics(daemon)["workers_replaced_total"] == 1 and metrics(daemon)["workers"] == 2, "another one")
        for _ in range(20):
            with Client(daemon.http_port, "b") as barred:
                barred.wait_closed()
                assert barred.status == 403
        # Who is let in again is let in by all of them.
        assert [row["participant"] for row in operator(daemon, "/kicked")["kicked"]] == ["b"]
        assert ask(daemon.admin, "POST", "/kick", {"participant": "b", "for": 0}).body["lifted"]
        for name in ("w1", "w2"):
            with on(daemon, name, "b"):
                pass


def test_an_operators_drain_reaches_all_and_stays(daemon: RunningDaemon) -> None:
    with on(daemon, "w1", "a") as one, on(daemon, "w2", "a") as two:
        answer = ask(daemon.admin, "POST", "/drain", {"over": 0.2}).body
        assert answer["closed"] >= 2
        for client in (one, two):
            client.wait_closed()
            assert client.of("bye")[0]["reason"] == "drain"
        os.kill(workers(daemon)["w2"], signal.SIGKILL)
        wait(lambda: metrics(daemon)["workers_replaced_total"] == 1 and metrics(daemon)["workers"] == 2, "another one")
        for number in range(20):
            with Client(daemon.http_port, f"p{number}") as late:
                late.wait_closed()
                assert late.of("bye")
                answer = ask(daemon, "GET", "/readyz")
                assert answer.status == 503 and answer.body["detail"].startswith("draining")
        assert operator(daemon, "/stats")["metrics"]["ready"] == 0.0


def test_a_reload_reaches_all() -> None:
    with RunningDaemon("[streams]\nheartbeat = 1000\n", options=TWO) as daemon:
        with on(daemon, "w1", "a", heartbeat="event") as one, on(daemon, "w2", "a", heartbeat="event") as two:
            daemon.configure("[streams]\nheartbeat = 0.2\n[log]\nlevel = 'debug'\n")
            daemon.signal(signal.SIGHUP)
            wait(lambda: daemon.lines("configuration reloaded"), "it to be read")
            wait(lambda: one.of("heartbeat") and two.of("heartbeat"), "heartbeats", [one, two])
        os.kill(workers(daemon)["w1"], signal.SIGKILL)
        wait(lambda: metrics(daemon)["workers_replaced_total"] == 1 and metrics(daemon)["workers"] == 2, "another one")
        with on(daemon, "w1", "a", heartbeat="event") as new:
            wait(lambda: new.of("heartbeat"), "the new one to have the new configuration", [new])


# Start and end ----------------------------------------------------------------------------------------------------------------


def terminate(daemon: RunningDaemon) -> None:
    daemon.signal(signal.SIGTERM)


def interrupt(daemon: RunningDaemon) -> None:
    """What Ctrl-C does, if all processes were in the terminal's group."""
    for pid in (*workers(daemon).values(), daemon.pid):
        os.kill(pid, signal.SIGINT)


def terminate_all(daemon: RunningDaemon) -> None:
    """What a service manager does that signals the whole group."""
    for pid in (*workers(daemon).values(), daemon.pid):
        os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("end", [terminate, interrupt, terminate_all])
def test_all_streams_get_their_bye_and_all_processes_end(end: Callable[[RunningDaemon], None]) -> None:
    with RunningDaemon(options=TWO) as daemon, Acked(daemon.acked) as acked, ExitStack() as stack:
        clients = [stack.enter_context(on(daemon, name, "a")) for name in ("w1", "w2")]
        pids = workers(daemon)
        acked.store(event(["a"], "last"))
        end(daemon)
        for client in clients:
            client.wait_closed(*clients)
            assert client.data == ["last"] and client.of("bye") and client.ended
        assert daemon.wait() == 0
        assert not any(alive(pid) for pid in pids.values())
        daemon.stop()


def test_readiness_is_the_daemons(daemon: RunningDaemon) -> None:
    for _ in range(10):
        assert ask(daemon, "GET", "/readyz").status == ask(daemon, "GET", "/healthz").status == 200


def test_one_daemon_an_address_also_with_workers(daemon: RunningDaemon) -> None:
    second = RunningDaemon(options=TWO, http=daemon.http_addresses)
    try:
        second.launch()
        assert second.wait() == 1
        assert daemon.http_addresses[0] in second.log()
    finally:
        second._end()


def test_a_unix_socket_is_shared() -> None:
    daemon = RunningDaemon(options=TWO)
    daemon.http_addresses.append(f"unix:{daemon.directory}/http")
    with daemon, Acked(daemon.acked) as acked, ExitStack() as stack:
        clients = [stack.enter_context(Client(daemon.directory / "http", "a").opened()) for _ in range(20)]
        acked.store(event(["a"], "x"))
        wait(lambda: all(client.data == ["x"] for client in clients), "the event", clients)
        daemon.stop()
        assert not (daemon.directory / "http").exists()


def test_an_inherited_socket_is_shared_and_refuses_nobody() -> None:
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1000))
        daemon = RunningDaemon(options=TWO)
        stack.push(daemon.__exit__)
        inherited(daemon, listening)
        daemon.wait_ready()
        port = listening.getsockname()[1]
        clients = [stack.enter_context(Client(port, "a").opened()) for _ in range(10)]
        daemon.signal(signal.SIGTERM)
        late = [stack.enter_context(Client(port, "a")) for _ in range(10)]
        assert daemon.wait() == 0
        inherited(daemon, listening)
        daemon.wait_ready()
        late.append(stack.enter_context(Client(port, "a")))
        wait(lambda: all(client.parser.retry is not None for client in late), "everybody to be answered", late)
        assert not any(client.reset for client in (*clients, *late))
