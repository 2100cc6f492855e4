"""The same URL asked for JSON: one answer a request, with a cursor that misses nothing and repeats nothing."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain
from typing import Any

import pytest

from tests.integration.client import Client, Header, Publisher, Response, admin, envelope, query
from tests.integration.daemon import RunningDaemon

CONFIG = """
[streams]
limit = 7
max_wait = 60.0

[[stream]]
path = "/chats/{chat}"
topic = "chat.{chat}"
anonymous = "public"
"""
LITTLE = """
[backend]
retention_bytes = 4000

[streams]
window_bytes = 0
"""
JSON = ("Accept", "application/json")

Get = Callable[..., Response]
Until = Callable[..., Any]


@pytest.fixture(scope="module")
def little() -> Iterator[tuple[RunningDaemon, Publisher]]:
    """A daemon that keeps next to nothing, and a publisher of it."""
    with RunningDaemon(LITTLE) as daemon, Publisher(daemon.acked) as publisher:
        yield daemon, publisher


@pytest.fixture
def connect(daemon: RunningDaemon) -> Iterator[Callable[..., Client]]:
    """connect(to=daemon) -> a connection."""
    with ExitStack() as opened:
        yield lambda to=daemon: opened.enter_context(Client(to.http_port))


@pytest.fixture
def poll(connect: Callable[..., Client], daemon: RunningDaemon) -> Callable[..., Any]:
    """poll(key, cursor, **parameters) -> the decoded answer."""

    def run(key: str, cursor: str | None = None, to: RunningDaemon = daemon, **parameters: str) -> Any:
        headers: list[Header] = [JSON, ("X-Public-Key", key)] + ([] if cursor is None else [("Last-Event-ID", cursor)])
        response = connect(to).get(query("/events", **parameters), *headers)
        assert response.status == 200, response.raw_head
        assert response.header("Cache-Control") == "no-store"
        return response.json()

    return run


def data(answer: Any) -> list[str]:
    return [event["data"] for event in answer["events"]]


def test_without_a_cursor_the_snapshots_and_the_present_position_at_once(poll: Callable[..., Any], publisher: Publisher) -> None:
    assert poll("new")["events"] == []
    publisher.event("passed", to=["new"])
    publisher.event("kept", to=["new"], type="state", topic="t", attrs={"k": ["v"]}, retain=True)
    at = publisher.event("x", to=["nobody"])
    snapshot = {"id": None, "type": "state", "topic": "t", "attrs": {"k": ["v"]}, "data": "kept"}
    assert poll("new", wait="60") == {"events": [snapshot], "cursor": at}
    assert poll("new", "", wait="60") == {"events": [snapshot], "cursor": at}
    assert poll("new", types="other") == {"events": [], "cursor": at}


def test_what_is_there_comes_at_once(poll: Callable[..., Any], publisher: Publisher) -> None:
    before = publisher.event("before", to=["alice"])
    one = publisher.event("one\ntwo", to=["alice"], type="t", topic="p", attrs={"k": "v"})
    two = publisher.event("", to=["alice", "bob"])
    at = publisher.event("not hers", to=["bob"])
    expected = [
        {"id": one, "type": "t", "topic": "p", "attrs": {"k": "v"}, "data": "one\ntwo"},
        {"id": two, "type": "message", "topic": None, "attrs": {}, "data": ""},
    ]
    assert poll("alice", before, wait="60") == {"events": expected, "cursor": at}
    for name in ("last_event_id", "lastEventId"):
        assert poll("alice", wait="60", **{name: before}) == {"events": expected, "cursor": at}


def test_an_answer_has_at_most_limit_events_and_the_next_one_goes_on(poll: Callable[..., Any], publisher: Publisher) -> None:
    before = publisher.event("before", to=["pager"])
    frames = [envelope(str(i), to=["pager"] if i % 2 else ["other"]) for i in range(40)]
    last = publisher.send(*frames, envelope("other", to=["other"]))[-1]
    got: list[list[str]] = []
    cursor = before
    while cursor != last:
        answer = poll("pager", cursor, limit="3", wait="0")
        got.append(data(answer))
        cursor = answer["cursor"]
    assert [len(page) for page in got] == [3] * 6 + [2]
    assert list(chain(*got)) == [str(i) for i in range(1, 40, 2)]
    assert [len(data(poll("pager", before, wait="0", **asked))) for asked in ({}, {"limit": "99"}, {"limit": "0"})] == [7, 7, 1]


def test_an_answer_waits_for_an_event(connect: Callable[..., Client], poll: Callable[..., Any], publisher: Publisher) -> None:
    before = publisher.event("before", to=["waiter"])
    clients = [connect() for _ in range(3)]
    for client in clients:
        client.ask("/events?wait=60", JSON, ("X-Public-Key", "waiter"), ("Last-Event-ID", before))
    publisher.event("not hers", to=["other"])
    id = publisher.event("hers", to=["waiter"])
    for client in clients:
        answer = Response(client).json()
        assert [event["id"] for event in answer["events"]] == [id]
        assert answer["cursor"] == id


def test_what_was_filtered_out_wakes_nobody_and_is_passed(connect: Callable[..., Client], publisher: Publisher) -> None:
    before = publisher.event("before", to=["picky"])
    client = connect()
    client.ask("/events?wait=60&types=yes", JSON, ("X-Public-Key", "picky"), ("Last-Event-ID", before))
    for _ in range(20):
        publisher.event("x", to=["picky"], type="no")
    last = publisher.event("x", to=["picky"], type="yes")
    answer = Response(client).json()
    assert [event["id"] for event in answer["events"]] == [last]
    assert answer["cursor"] == last


def test_after_wait_the_answer_is_empty_and_its_cursor_passes_what_was_filtered_out(
    poll: Callable[..., Any], publisher: Publisher
) -> None:
    before = publisher.event("before", to=["picky"])
    for _ in range(20):
        publisher.event("x", to=["picky"], type="no")
    last = publisher.event("x", to=["other"])
    for wait in ("0", "0.05"):
        assert poll("picky", before, types="yes", wait=wait) == {"events": [], "cursor": last}


def test_wait_is_kept(poll: Callable[..., Any], publisher: Publisher) -> None:
    cursor = publisher.event("x", to=["other"])
    begun = time.monotonic()
    assert poll("alice", cursor, wait="0.4") == {"events": [], "cursor": cursor}
    # Only that it is not shorter: how much longer it takes says something about the machine.
    assert time.monotonic() - begun >= 0.4


@pytest.mark.parametrize("parameter", ["wait=-1", "wait=x", "wait=nan", "limit=-1", "limit=x", "limit=nan", "wait="])
def test_numbers_that_are_none(connect: Callable[..., Client], parameter: str) -> None:
    response = connect().get(f"/events?{parameter}", JSON, ("X-Public-Key", "alice"))
    assert (response.status, response.json()["error"]) == (400, "bad_number")


def test_anonymous_on_a_route_with_a_topic(connect: Callable[..., Client], publisher: Publisher) -> None:
    before = publisher.event("before", to=["other"])
    publisher.event("private", to=["ann"], topic="chat.1")
    publisher.event("public", to="*", topic="chat.1")
    publisher.event("elsewhere", to="*", topic="chat.2")
    assert data(connect().get("/chats/1?wait=0", JSON, ("Last-Event-ID", before)).json()) == ["public"]


@pytest.mark.parametrize(
    "cursor", ["nonsense", "0", "000000000000-1", "{inc}-999999", "{inc}-01", "{inc}-1 ", "{INC}-1", "x" * 5000]
)
def test_a_cursor_that_is_none_is_answered_by_a_resync(poll: Callable[..., Any], publisher: Publisher, cursor: str) -> None:
    publisher.event("kept", to=["lost"], retain=True)
    at = publisher.event("x", to=["nobody"])
    inc = at.partition("-")[0]
    answer = poll("lost", last_event_id=cursor.format(inc=inc, INC=inc.upper() + "A"), wait="60")
    resync, snapshot = answer["events"]
    reason = "backend_reset" if cursor.startswith("0000") else "unknown_cursor"
    assert (resync["type"], resync["id"], json.loads(resync["data"])) == ("resync", None, {"reason": reason, "missed": None})
    assert (snapshot["id"], snapshot["data"], answer["cursor"]) == (None, "kept", at)


def test_a_cursor_older_than_what_is_kept(poll: Callable[..., Any], little: tuple[RunningDaemon, Publisher]) -> None:
    daemon, publisher = little
    first = publisher.event("first", to=["alice"])
    publisher.event("kept", to=["alice"], retain=True)
    for i in range(50):
        recent = publisher.event(f"{i}", to=["alice"])
    answer = poll("alice", first, to=daemon, wait="60")
    resync, snapshot = answer["events"]
    assert (resync["type"], json.loads(resync["data"])["reason"]) == ("resync", "expired")
    assert (snapshot["data"], answer["cursor"]) == ("kept", recent)
    assert poll("alice", answer["cursor"], to=daemon, wait="0") == {"events": [], "cursor": recent}


def test_what_only_the_log_holds_is_found_there(poll: Callable[..., Any], little: tuple[RunningDaemon, Publisher]) -> None:
    daemon, publisher = little
    before = publisher.event("before", to=["alice"])
    ids = [publisher.event(str(i), to=["alice"]) for i in range(3)]
    assert [event["id"] for event in poll("alice", before, to=daemon, wait="60")["events"]] == ids


def test_a_client_that_leaves_while_it_waits(
    connect: Callable[..., Client], daemon: RunningDaemon, publisher: Publisher, until_blocking: Until
) -> None:
    """Nothing is left of it: its channel goes with it."""

    def channels() -> Any:
        return admin(daemon.admin, "GET", "/stats")["metrics"]["window_channels"]

    cursor = publisher.event("x", to=["other"])
    before = channels()
    client = connect()
    client.ask("/events?wait=60", JSON, ("X-Public-Key", "never-heard-of"), ("Last-Event-ID", cursor))
    until_blocking(lambda: channels() > before)
    client.socket.shutdown(socket.SHUT_RDWR)
    until_blocking(lambda: channels() <= before)


def test_an_expired_event_is_passed(poll: Callable[..., Any], publisher: Publisher, until_blocking: Until) -> None:
    before = publisher.event("before", to=["ttl"])
    publisher.event("short", to=["ttl"], ttl=0.05)
    last = publisher.event("long", to=["ttl"], ttl=1000)
    until_blocking(lambda: data(poll("ttl", before, wait="0")) == ["long"])
    assert poll("ttl", before, wait="0")["cursor"] == last
