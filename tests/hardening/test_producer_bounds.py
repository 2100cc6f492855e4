"""What a peer can make the daemon hold, also one that misbehaves below ZeroMQ's surface. A real daemon, peers on bare TCP."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from sse_daemon.curve_key import generate
from sse_daemon.producer import AckedProducer, Curve
from tests.hardening.curve import GREETING, Dealer, Guarded, cut_after, ends, memory, peer, raw, ready
from tests.integration.daemon import RunningDaemon
from tests.integration.peers import connect, event, group, metrics, wait

MIB = 1024 * 1024
FEW = "[ingest]\nmax_connections = 20\nmax_message = 1000000\nmax_message_recipients = 50\n"
LONG = b"\x03" + struct.pack(">Q", 1_000_000) + bytes(1_000_000)
TINY = b"\x01\x00" * 50_000
"""Frames with MORE set, of a million bytes and of none: the second take 32 times their bytes in memory."""


@pytest.fixture
def daemon() -> Iterator[RunningDaemon]:
    with RunningDaemon(FEW) as daemon:
        yield daemon


@pytest.mark.parametrize("part", [LONG, TINY], ids=["long frames", "empty frames"])
@pytest.mark.parametrize("kind", [b"PUB", b"DEALER"])
def test_a_message_that_never_ends_is_cut_off_and_its_memory_freed(daemon: RunningDaemon, kind: bytes, part: bytes) -> None:
    before = memory(daemon.pid)
    address = daemon.pubsub if kind == b"PUB" else daemon.acked
    with connect(daemon, "healthy") as client, Dealer(daemon.acked) as healthy:
        for number in range(3):
            with peer(address, kind) as connection:
                assert cut_after(connection, part, 512 * MIB) is not None, "it could go on for ever"
            assert healthy.ask(event(["healthy"], str(number))) == "ok"
        assert client.wait_events(3) == ["0", "1", "2"]
    # What three of them left, together with what the kernel let through between two looks, is not three times one.
    assert memory(daemon.pid) - before < 500 * MIB
    wait(lambda: metrics(daemon)["producer_connections_cut_total"].get("endless_message") == 3, "three to be counted")
    assert [line for line in daemon.lines() if "does not end" in line["msg"]]


def test_a_producer_that_sends_much_in_whole_messages_is_not_cut_off(daemon: RunningDaemon) -> None:
    with Dealer(daemon.acked) as producer:
        for _ in range(30):
            for _ in range(8):
                producer.send(*[event(["a"], "x" * 90_000)] * 10)
            assert [producer.answer()["ok"] for _ in range(8)] == [True] * 8  # type: ignore[index]
    assert metrics(daemon)["producer_connections_cut_total"] == {}


def test_a_message_is_bounded_in_bytes_and_recipients_whole(daemon: RunningDaemon) -> None:
    with Dealer(daemon.acked) as producer:
        assert producer.ask(*[event(["a"], "x" * 100_000)] * 9) == "ok"
        assert producer.ask(*[event(["a"], "x" * 100_000)] * 10) == "message_too_large"
        assert producer.ask(event(["a"], "x" * 1_000_001)) == "ok"  # alone, a frame's own bound counts
        ten = [f"p{number}" for number in range(10)]
        assert producer.ask(*[event(ten)] * 5) == "ok"
        assert producer.ask(*[event(ten)] * 5, event(["a"])) == "too_many_recipients"
        assert producer.ask(*[group("g", *ten)] * 6) == "too_many_recipients"
        assert producer.ask(group("g", *ten)) == "ok"
        assert producer.ask(*[event(None, group="g")] * 5) == "ok"
        assert producer.ask(*[event(None, group="g")] * 6) == "too_many_recipients"


def test_garbage_on_the_sockets_harms_nobody_else(daemon: RunningDaemon) -> None:
    chance = random.Random(1)
    beginnings = (b"", GREETING, GREETING + ready(b"DEALER"), GREETING + ready(b"PUB"), GREETING + ready(b"NOTHING"))
    with Dealer(daemon.acked) as healthy:
        for number in range(200):
            start = chance.choice(beginnings)
            with raw(chance.choice((daemon.acked, daemon.pubsub)), start[: chance.randint(0, len(start))]) as connection:
                try:
                    connection.sendall(chance.randbytes(chance.randint(1, 300)))
                    # A frame of 2^62 bytes, and commands that claim to be longer than they are.
                    connection.sendall(chance.choice((b"\x02\x3f" + b"\xff" * 7, b"\x04\x05\xffREADY", b"\x06" + b"\xff" * 8)))
                except OSError:
                    continue  # it was cut off already
            if number % 20 == 0:
                assert healthy.ask(event(["a"])) == "ok"
        assert healthy.ask(event(["a"])) == "ok"
    assert daemon.process is not None
    assert daemon.process.poll() is None


def idle(address: str, count: int, stack: ExitStack) -> list[socket.socket]:
    """So many connections that never begin their handshake, less those that were cut off before they knew they were connected."""
    opened = []
    for _ in range(count):
        with suppress(OSError):
            opened.append(stack.enter_context(raw(address)))
    return opened


@pytest.mark.parametrize("guarded", [False, True], ids=["NULL", "CURVE"])
def test_500_idle_handshakes_keep_nobody_out_for_longer_than_a_handshake_may_take(guarded: bool) -> None:
    key = generate()
    daemon = Guarded("max_connections = 20") if guarded else RunningDaemon(FEW)
    if isinstance(daemon, Guarded):
        daemon.authorize("known", key.public)
    with daemon, ExitStack() as stack:
        server = daemon.own.public if isinstance(daemon, Guarded) else None
        before = stack.enter_context(Dealer(daemon.acked, server, key if guarded else None))
        assert before.ask(event(["a"])) == "ok"
        waiting = idle(daemon.acked, 500, stack)
        wait(lambda: metrics(daemon)["producer_connections_cut_total"].get("too_many", 0) >= 480, "those beyond 20 to be cut off")
        assert before.ask(event(["a"])) == "ok"
        assert metrics(daemon)["producer_connections"] <= 20
        # The library sends again what was not answered: the connection may have been the newest when there were too many.
        curve = None if server is None else Curve(key, server)
        late = stack.enter_context(AckedProducer(daemon.acked, name="late", timeout=30, curve=curve))
        assert late.publish("x", to=["a"])
        assert all(ends(connection) for connection in waiting)


def test_who_comes_before_the_daemon_is_ready_is_counted_like_anybody() -> None:
    # Without a memory of signatures the daemon waits for the next second before it is ready: the sockets are bound long before.
    with RunningDaemon(dev=False, env={"SSE_DAEMON_AUTH_STATE": "memory"}) as daemon, ExitStack() as stack:
        host, _, port = daemon.pubsub.removeprefix("tcp://").rpartition(":")
        daemon.stop()

        def knock() -> None:
            for _ in range(5):
                while True:
                    with suppress(ConnectionRefusedError):
                        stack.enter_context(socket.create_connection((host, int(port))))
                        break

        with ThreadPoolExecutor(1) as knocking:
            early = knocking.submit(knock)
            daemon.start()
            early.result()
        wait(lambda: metrics(daemon)["producer_connections"] == 5, "all of them to be known")
