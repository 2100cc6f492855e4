"""A request that waits holds what a stream holds: its place, its rights, and its turn at the log."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.hardening.tokens import bearer, config, pem, token
from tests.integration.client import Client, Header, Publisher, Response
from tests.integration.daemon import RunningDaemon
from tests.integration.peers import Client as Stream
from tests.integration.peers import ask, metrics, wait

JSON = ("Accept", "application/json")
NOWHERE = "[http]\nshared_addresses = []\n[streams]\n"


class Waiting:
    """A long-poll for a minute."""

    def __init__(self, daemon: RunningDaemon, cursor: str, *headers: Header) -> None:
        self.client = Client(daemon.http_port)
        self.client.ask("/events?wait=60", JSON, ("Last-Event-ID", cursor), ("Connection", "close"), *headers)

    @property
    def answered(self) -> bool:
        return bool(select.select([self.client.socket], [], [], 0)[0])

    def answer(self) -> tuple[int, Any]:
        """The status, and what came: it comes before anything here gives up, which is sooner than it was ready to wait."""
        with self.client:
            response = Response(self.client)
            return response.status, response.json()


def key(name: str) -> Header:
    return ("X-Public-Key", name)


def kicked(daemon: RunningDaemon, **more: float) -> int:
    """How many an operator hears that it has kicked."""
    return len(ask(daemon.admin, "POST", "/kick", {"participant": "alice", **more}).body["closed"])


@pytest.fixture(params=[1, 2], ids=["one process", "workers"])
def daemon(request: pytest.FixtureRequest) -> Iterator[RunningDaemon]:
    with RunningDaemon(options=("--workers", f"{request.param}")) as running:
        yield running


def waiting_channels(daemon: RunningDaemon) -> int:
    return int(metrics(daemon)["window_channels"])


def test_who_is_kicked_while_it_waits_gets_nothing_more(daemon: RunningDaemon) -> None:
    with Publisher(daemon.acked) as publisher:
        at = publisher.event("x", to=["nobody"])
        hers = [Waiting(daemon, at, key("alice")) for _ in range(6)]
        his = Waiting(daemon, at, key("bob"))
        count = 0

        def all_hit() -> bool:
            """Until all six have come in. Those that had not yet were not hit, and wait."""
            nonlocal count
            count += kicked(daemon) if count < 6 and not all(each.answered for each in hers) else 0
            return all(each.answered for each in hers)

        wait(all_hit, "all to be kicked")
        assert count == 6
        for each in hers:
            status, said = each.answer()
            assert (status, said["error"]) == (503, "kicked")
        assert not his.answered
        last = publisher.event("for both", to=["alice", "bob"])
        assert [event["id"] for event in his.answer()[1]["events"]] == [last]


def test_who_is_shut_out_while_it_waits_is_refused(daemon: RunningDaemon) -> None:
    with Publisher(daemon.acked) as publisher:
        at = publisher.event("x", to=["nobody"])
        hers = Waiting(daemon, at, key("alice"))
        wait(lambda: waiting_channels(daemon) > 0, "it to wait")
        assert kicked(daemon, **{"for": 3600}) == 1
        status, said = hers.answer()
        assert (status, said["error"]) == (403, "kicked")
        assert Waiting(daemon, at, key("alice")).answer()[0] == 403


def test_a_token_that_ends_ends_the_wait(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(pem())
    with RunningDaemon(config(tmp_path / "key"), dev=False) as daemon, Publisher(daemon.acked) as publisher:
        at = publisher.event("x", to=["nobody"])
        text = token(exp=int(time.time()) + 2)
        waiting = Waiting(daemon, at, bearer(text))
        assert waiting.answer() == (200, {"events": [], "cursor": at}), "long before a minute is over"
        publisher.event("secret", to=["alice"])
        status, said = Waiting(daemon, at, bearer(text)).answer()
        assert (status, said["error"]) == (401, "token_expired")


@pytest.mark.parametrize("limit", ["max_per_participant = 3", "max_per_address = 3"])
def test_waiting_requests_are_counted_with_the_streams_of_their_client(limit: str) -> None:
    with RunningDaemon(NOWHERE + limit) as daemon, Publisher(daemon.acked) as publisher, ExitStack() as stack:
        at = publisher.event("x", to=["nobody"])
        stream = stack.enter_context(Stream(daemon.http_port, "alice").opened())
        kept = [Waiting(daemon, at, key("alice")) for _ in range(2)]

        def full() -> bool:
            with Client(daemon.http_port) as client:
                answer = client.get("/events?wait=0", JSON, ("Last-Event-ID", at), key("alice"))
                return (
                    answer.status == 429 and answer.json()["error"] == "too_many_streams" and bool(answer.header("Retry-After"))
                )

        wait(full, "both to wait")
        with Stream(daemon.http_port, "alice") as another:
            wait(lambda: another.of("bye"), "the stream to be sent away", [another])
        publisher.event("x", to=["alice"])
        assert [each.answer()[0] for each in kept] == [200, 200]
        assert not full(), "there is room again"
        assert not stream.closed


def test_waiting_requests_take_the_places_that_there_are_for_streams() -> None:
    with RunningDaemon("[streams]\nmax_streams = 2\n") as daemon, Publisher(daemon.acked) as publisher:
        at = publisher.event("x", to=["nobody"])
        kept = [Waiting(daemon, at, key(name)) for name in ("a", "b")]

        def full() -> bool:
            if waiting_channels(daemon) < 3:  # theirs, and the public one
                return False
            status, said = Waiting(daemon, at, key("c")).answer()
            return (status, said["error"]) == (503, "overloaded")

        wait(full, "both to wait")
        with Stream(daemon.http_port, "d") as another:
            wait(lambda: another.of("bye"), "the stream to be sent away", [another])
        publisher.event("x", to=["a", "b"])
        assert [each.answer()[0] for each in kept] == [200, 200]


def test_who_asks_too_fast_is_told_when_to_come_back() -> None:
    with RunningDaemon(NOWHERE + "open_rate = 0.2\n") as daemon, Publisher(daemon.acked) as publisher:
        at = publisher.event("x", to=["nobody"])
        found = []
        for _ in range(4):
            with Client(daemon.http_port) as client:
                answer = client.get("/events?wait=0", JSON, ("Last-Event-ID", at), key("alice"))
                found.append((answer.status, answer.json().get("error"), bool(answer.header("Retry-After"))))
        assert found[:2] == [(200, None, False)] * 2
        assert (429, "too_many_requests", True) in found


def test_while_everything_is_late_they_are_sent_away() -> None:
    with RunningDaemon("[streams]\nshed_lag = 1e-9\n") as daemon, Publisher(daemon.acked) as publisher:
        at = publisher.event("x", to=["nobody"])
        wait(lambda: metrics(daemon)["shedding"] == 1, "it to notice")
        with Client(daemon.http_port) as client:
            answer = client.get("/events?wait=0", JSON, ("Last-Event-ID", at), key("alice"))
            assert (answer.status, answer.json()["error"]) == (503, "overloaded")
            assert answer.header("Retry-After")
