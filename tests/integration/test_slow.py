"""A slow client costs itself: nobody else waits, the daemon's memory stays bounded, and it gets everything or is told of the hole."""

from __future__ import annotations

from contextlib import ExitStack

from tests.integration.daemon import RunningDaemon
from tests.integration.peers import Acked, Client, connect, event, metrics, operator, positions, resident, wait

MIB = 1024 * 1024
DATA = "x" * 20_000
SMALL = """
[streams]
window_bytes = 4194304
stall_timeout = {stall}
[backend]
retention_bytes = {kept}
"""


def config(stall: float = 600.0, kept: int = 8 * MIB) -> str:
    return SMALL.format(stall=stall, kept=kept)


def publish(acked: Acked, first: int, count: int, to: str = "*", clients: tuple[Client, ...] = ()) -> None:
    """Publishes numbered events of 20 kB and sees that these clients get each, while others do not read."""
    for number in range(first, first + count):
        acked.store(event([to] if to != "*" else to, f"{number} {DATA}"))
        for client in clients:
            client.pump()


def numbers(client: Client) -> list[int]:
    return [int(data.partition(" ")[0]) for data in client.data]


def test_a_client_that_does_not_read_costs_nobody_anything_and_learns_of_the_hole() -> None:
    with RunningDaemon(config()) as daemon, Acked(daemon.acked) as acked, ExitStack() as stack:
        slow = stack.enter_context(connect(daemon, "slow", buffer=4096))
        others = tuple(stack.enter_context(connect(daemon, f"p{i}")) for i in range(5))
        publish(acked, 0, 1000, clients=others)  # 20 MB: window, log and all the allocator's habits are full now
        before = resident(daemon.pid)
        publish(acked, 1000, 4000, clients=others)  # 80 MB more
        grown = resident(daemon.pid) - before
        assert grown < 24 * MIB
        wait(lambda: all(len(c.events) == 5000 for c in others), "the others' last event", others)
        assert all(numbers(client) == list(range(5000)) for client in others)
        assert not any(client.of("resync") for client in others)
        (row,) = [row for row in operator(daemon, "/clients")["clients"] if row["participant"] == "slow"]
        assert row["state"] == "behind" and row["lag"] > 4000 and row["unsent"] < 2 * len(DATA)
        wait(lambda: slow.of("resync"), "it to be told", [slow])
        (resync,) = slow.of("resync")
        # Everything up to the hole, in order; the resync in its place, with the number of what is missing; then what is new.
        head = len(slow.events)
        assert numbers(slow) == list(range(head))
        assert slow.messages[-1].type == "resync"
        assert resync == {"reason": "lagged", "missed": 5000 - head}
        acked.store(event(["slow"], "5000 new"))
        slow.wait_events(head + 1)
        assert numbers(slow)[head:] == [5000]


def test_a_client_that_reads_again_in_time_gets_everything() -> None:
    # The window has 4 MiB of the 16, the log all: first it reads from the one, then from the other.
    with (
        RunningDaemon(config(kept=64 * MIB)) as daemon,
        Acked(daemon.acked) as acked,
        connect(daemon, "slow", buffer=4096) as slow,
    ):
        publish(acked, 0, 800)
        assert metrics(daemon)["streams_blocked"] == 1
        wait(lambda: slow.take(30_000) == 0 and len(slow.events) > 700, "most of it, in small sips")
        wait(lambda: len(slow.events) == 800, "everything", [slow])
        assert numbers(slow) == list(range(800))
        assert not slow.of("resync")
        places = positions([m.id for m in slow.events])
        assert places == sorted(set(places))
        acked.store(event("*", "800 live again"))
        slow.wait_events(801)
        wait(lambda: operator(daemon, "/clients")["clients"][0]["state"] == "live", "it to be live again")


def test_a_client_that_makes_no_progress_is_closed_and_can_resume() -> None:
    with RunningDaemon(config(stall=0.5)) as daemon, Acked(daemon.acked) as acked, connect(daemon, "idle") as idle:
        with connect(daemon, "slow", buffer=4096) as slow:
            publish(acked, 0, 100, to="slow")
            wait(lambda: metrics(daemon)["streams_closed_total"].get("stalled") == 1, "it to be closed")
            # One that has nothing to take is not stalled.
            assert [row["participant"] for row in operator(daemon, "/clients")["clients"]] == ["idle"]
            (closed,) = operator(daemon, "/clients?closed=1")["clients"]
            assert (closed["participant"], closed["reason"]) == ("slow", "stalled")
            slow.wait_closed()
            assert not slow.ended, "what it got must not look complete"
        with connect(daemon, "slow", last_id=slow.parser.last_event_id) as again:
            wait(lambda: len(slow.events) + len(again.events) == 100, "the rest", [again])
            assert numbers(slow) + numbers(again) == list(range(100))
        acked.store(event(["idle"], "x"))
        assert idle.wait_events(1) == ["x"]


def test_two_hundred_stalled_clients_cost_their_sockets() -> None:
    with RunningDaemon(config()) as daemon, Acked(daemon.acked) as acked, ExitStack() as stack:
        healthy = tuple(stack.enter_context(connect(daemon, f"p{i}")) for i in range(3))
        slow = [stack.enter_context(connect(daemon, f"slow{i % 20}", buffer=4096)) for i in range(200)]
        publish(acked, 0, 400, clients=healthy)
        wait(lambda: metrics(daemon)["streams_blocked"] == 200, "all to be stalled", healthy)
        before = resident(daemon.pid)
        publish(acked, 400, 1600, clients=healthy)
        assert resident(daemon.pid) - before < 24 * MIB
        assert metrics(daemon)["pinned_bytes"] <= 200 * 2 * len(DATA)
        wait(lambda: all(len(c.events) == 2000 for c in healthy), "the healthy ones' last", healthy)
        assert all(numbers(client) == list(range(2000)) for client in healthy)
        wait(lambda: all(client.of("resync") for client in slow), "all to be told", slow)
        acked.store(event("*", "2000 new"))
        wait(lambda: all(numbers(client)[-1:] == [2000] for client in slow), "all to be served again", slow)
        for client in slow:
            head = len(client.events) - 1
            assert numbers(client) == [*range(head), 2000]
            assert client.of("resync") == [{"reason": "lagged", "missed": 2000 - head}]


def test_beyond_the_limit_of_unsent_bytes_the_longest_stalled_is_closed() -> None:
    limited = "[streams]\npinned_limit = 3000000\nheartbeat = 1.0\nstall_timeout = 600.0\n"
    with RunningDaemon(limited) as daemon, Acked(daemon.acked) as acked, ExitStack() as stack:
        for number in range(6):
            stack.enter_context(connect(daemon, f"slow{number}", buffer=4096))
            acked.store(event([f"slow{number}"], "x" * 1_000_000))
        wait(lambda: metrics(daemon)["pinned_bytes"] <= 3_000_000, "enough of them to be closed")
        closed = [row["participant"] for row in operator(daemon, "/clients?closed=1")["clients"]]
        assert closed and sorted(closed) == [f"slow{i}" for i in range(len(closed))]
        assert metrics(daemon)["streams_closed_total"] == {"pinned": len(closed)}
