"""Loads on a small server that does what it should, and on ones that do not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sse_daemon.bench import load as module
from sse_daemon.bench.crowd import Crowd
from sse_daemon.bench.errors import Broken
from sse_daemon.bench.load import Aim, Load, Outcome, generator_faults
from sse_daemon.bench.sender import Sender, connected
from tests.unit.bench.fanout import OPENING, Deliver, FanOut, faithful

N = 5


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    # How long it waits for what never comes; everything that comes here does so within a millisecond.
    monkeypatch.setattr(module, "GRACE", 0.5)


@contextmanager
def loaded(deliver: Deliver = faithful) -> Iterator[tuple[Load, Crowd]]:
    with FanOut(deliver).running() as server, Crowd(server.target) as crowd:
        crowd.open(["k"] * N)
        load = Load(crowd, connected(server.target.publish, 100), Aim(keys=["k"], each=N, size=100))
        try:
            yield load, crowd
        finally:
            load.close()


@pytest.mark.parametrize("outstanding", [1, 7])
def test_a_closed_loop_counts_every_delivery(outstanding: int) -> None:
    with loaded() as (load, crowd):
        outcome = load.closed_loop(outstanding, events=50)
        assert (outcome.events, outcome.expected, outcome.received) == (50, 250, 250)
        assert [subscriber.got for subscriber in crowd.subscribers] == [50] * N
        assert outcome.latency is not None
        assert outcome.latency.samples == 250
        assert sound(outcome)


def test_a_closed_loop_lasts_for_its_time_and_a_second_one_starts_from_nothing() -> None:
    with loaded() as (load, _):
        first, second = load.closed_loop(2, seconds=0.2), load.closed_loop(2, seconds=0.2)
        for outcome in (first, second):
            assert outcome.events > 1
            assert outcome.received == outcome.expected == outcome.events * N
            assert outcome.seconds >= 0.1


def test_an_open_loop_keeps_to_its_clock() -> None:
    with loaded() as (load, _):
        outcome = load.open_loop(100, 0.3)
        assert outcome.events == 30
        assert outcome.received == 150
        assert outcome.seconds >= 0.28
        assert sound(outcome)


class Hanging:
    """A publisher that hangs once, after its third row of events, for a quarter of a second."""

    def __init__(self, sender: Sender) -> None:
        self._sender, self._rows = sender, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sender, name)

    def flush(self) -> None:
        self._sender.flush()
        self._rows += 1
        if self._rows == 3:
            time.sleep(0.25)


def test_an_open_loop_counts_the_wait_of_what_could_not_be_sent_in_time() -> None:
    with FanOut().running() as server, Crowd(server.target) as crowd:
        crowd.open(["k"])
        sender: Any = Hanging(connected(server.target.publish, 100))
        load = Load(crowd, sender, Aim(keys=["k"], each=1, size=100))
        outcome = load.open_loop(200, 0.4)
        load.close()
        assert outcome.received == 80
        assert outcome.late >= 0.2
        assert outcome.latency is not None
        # Fifty events were due meanwhile; the first of them was late by all of it, the half of them by half of it.
        assert outcome.latency.worst >= 200_000
        assert sum(delay >= 100_000_000 for delay in crowd.delays) >= 25


def test_one_at_a_time_waits_between_events() -> None:
    with loaded() as (load, _):
        outcome = load.spaced(20, 0.005)
        assert (outcome.events, outcome.received) == (20, 100)
        assert outcome.seconds >= 0.08
        assert sound(outcome)


def sound(outcome: Outcome) -> bool:
    """Nothing is wrong but, on a busy machine, how busy the generator was."""
    return not [fault for fault in outcome.faults() if "generator" not in fault]


def test_an_event_that_never_comes_is_noticed() -> None:
    with loaded(lambda number, block: [] if number == 3 else [block]) as (load, _):
        outcome = load.closed_loop(4, events=10)
        assert (outcome.expected, outcome.received) == (50, 45)
        assert "5 of 50 deliveries never came" in list(outcome.faults())


def test_an_event_that_never_comes_is_noticed_in_an_open_loop() -> None:
    with loaded(lambda number, block: [] if number == 3 else [block]) as (load, _):
        assert "5 of 100 deliveries never came" in list(load.open_loop(200, 0.1).faults())


def test_an_event_that_never_comes_ends_the_row_of_single_events() -> None:
    with loaded(lambda number, block: [] if number == 3 else [block]) as (load, _):
        outcome = load.spaced(10, 0.001)
        assert (outcome.events, outcome.received) == (4, 15)


def test_an_event_that_comes_twice_is_noticed() -> None:
    with loaded(lambda number, block: [block, block] if number == 3 else [block]) as (load, _):
        faults = list(load.closed_loop(1, events=10).faults())
        assert "5 deliveries too many" in faults
        assert "5 sampled deliveries came twice or out of order" in faults


def test_events_in_the_wrong_order_are_noticed() -> None:
    kept: list[bytes] = []

    def swapped(number: int, block: bytes) -> list[bytes]:
        kept.append(block)
        return [] if number % 2 == 0 else [kept[-1], kept[-2]]

    with loaded(swapped) as (load, _):
        assert "25 sampled deliveries came twice or out of order" in list(load.closed_loop(10, events=10).faults())


def test_streams_that_the_server_closes_are_noticed() -> None:
    with loaded(lambda number, block: [block, b""] if number == 3 else [block]) as (load, crowd):
        faults = list(load.closed_loop(1, events=10).faults())
        assert f"the server closed {N} streams" in faults
        assert len(crowd) == 0


def test_deliveries_in_pieces_are_counted_once() -> None:
    with loaded(lambda number, block: [block[place : place + 3] for place in range(0, len(block), 3)]) as (load, _):
        outcome = load.closed_loop(3, events=20)
        assert outcome.received == outcome.expected == 100
        assert outcome.latency is not None
        # A load ends with the last mark; the time behind it may then not have come yet, of each subscriber's last event.
        assert 100 - N <= outcome.latency.samples <= 100
        assert sound(outcome)


@pytest.mark.parametrize(
    ("generator", "server", "said"),
    [
        (0.5, 0.2, []),
        (0.95, 0.99, []),
        (0.95, 0.4, ["the generator used 95% of a core, the server 40%: it may be what limits these figures"]),
        (0.95, None, ["the generator used 95% of a core: it may be what limits these figures"]),
    ],
)
def test_a_busy_generator_is_named_unless_the_server_is_as_busy(generator: float, server: float | None, said: list[str]) -> None:
    assert list(generator_faults(generator, server)) == said


def test_a_refused_publication_ends_the_load() -> None:
    with FanOut(answer=b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").running() as server, Crowd(server.target) as crowd:
        crowd.open(["k"])
        load = Load(crowd, connected(server.target.publish, 100), Aim(keys=["k"], each=1, size=100))
        with pytest.raises(Broken, match="status 503"):
            load.closed_loop(1, events=10)
        load.close()


def test_the_requests_are_what_the_target_says() -> None:
    with FanOut().running() as server, Crowd(server.target) as crowd:
        crowd.open(["one", "two"], cursor="c-9")
        load = Load(crowd, connected(server.target.publish, 100), Aim(keys=["one", "two"], each=2, size=100))
        load.closed_loop(1, events=2)
        load.close()
        lines = [request.split(b"\r\n") for request in server.requests]
        assert {line[0] for line in lines} == {
            b"GET /?one HTTP/1.1",
            b"GET /?two HTTP/1.1",
            b"POST /publish/one HTTP/1.1",
            b"POST /publish/two HTTP/1.1",
        }
        assert all((b"Last-Event-ID: c-9" in line) == line[0].startswith(b"GET") for line in lines)


def test_a_stream_that_is_refused_is_named() -> None:
    with (
        FanOut(opening=b"HTTP/1.1 403 Forbidden\r\n\r\n").running() as server,
        Crowd(server.target) as crowd,
        pytest.raises(Broken, match="fan-out opened no stream: HTTP/1.1 403 Forbidden"),
    ):
        crowd.open(["k"])


def test_no_server_is_named() -> None:
    with FanOut().running() as server:
        target = server.target
    with Crowd(target) as crowd, pytest.raises(Broken, match="no connection to fan-out"):
        crowd.open(["k"])


def test_only_samples_are_read_one_by_one_but_all_are_counted() -> None:
    with FanOut().running() as server, Crowd(server.target) as crowd:
        crowd.open(["k"] * N, sample=N)
        load = Load(crowd, connected(server.target.publish, 100), Aim(keys=["k"], each=N, size=100))
        outcome = load.closed_loop(1, events=10)
        load.close()
        assert outcome.received == 50
        assert outcome.latency is not None
        assert outcome.latency.samples == 10


def test_the_stalled_read_nothing() -> None:
    with FanOut().running() as server, Crowd(server.target) as crowd:
        crowd.open(["k"] * N)
        stalled = crowd.subscribers[:2]
        crowd.stall(stalled)
        load = Load(crowd, connected(server.target.publish, 100), Aim(keys=["k"], each=N - 2, size=100))
        outcome = load.closed_loop(1, events=10)
        load.close()
        assert outcome.received == outcome.expected == 30
        assert [subscriber.got for subscriber in stalled] == [0, 0]


def test_the_cursor_is_the_latest_id() -> None:
    with FanOut().running() as server, Crowd(server.target) as crowd:
        crowd.cursors = True
        crowd.open(["k"])
        load = Load(crowd, connected(server.target.publish, 100), Aim(keys=["k"], each=1, size=100))
        load.closed_loop(1, events=3)
        load.close()
        assert crowd.cursor == "2"


def test_what_the_opening_is_made_of_is_no_event() -> None:
    with FanOut(opening=OPENING + b"b\r\nretry: 2\n\n\n\r\n").running() as server, Crowd(server.target) as crowd:
        crowd.open(["k"])
        assert (len(crowd), crowd.total) == (1, 0)
