"""`[[stream]]` routes: what each key of a route does to the requests on its path."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.client import Header, Publisher, Response, envelope
from tests.wire.whatwg import parse

DOORS = True
CONFIG = """
[[stream]]
path = "/chats/{chat}/events"
topic = "chat.{chat}"
participant = "optional"
header = "X-Chat-Key"
query = "chat_key"
filters = { msg_types = "type", agents = "attrs.processed_by" }
first_event = "hello"
first_data = '{"chat":"{chat}","client_id":"{client_id}","you":"{participant}","topic":"{topic}","n":[1, 2]}'

[[stream]]
path = "/rooms/{house}/{room}"
topic = "{room}@{house}"
participant = "none"

[[stream]]
path = "/private/{chat}"
topic = "chat.{chat}"

[[stream]]
path = "/known/{chat}"
topic = "chat.{chat}"
participant = "optional"
unknown_topic = "404"

[[stream]]
path = "/templates/{value}"
participant = "none"
first_data = '''
{"value": "{value}",
 "again": "{value}{value}"}'''

[[stream]]
path = "/json"
format = "json"
heartbeat = "event"
participant = "none"

[[stream]]
path = "/off"
first = "off"
participant = "none"

[[stream]]
path = "/named"
participant = "none"
filters = { types = "attrs.kind" }

[streams]
heartbeat = 0.5
"""
JSON = ("Accept", "application/json")

Get = Callable[..., Response]


def first(stream: Response) -> Any:
    """The decoded data of a stream's first event."""
    assert stream.status == 200, stream.raw_head
    return json.loads(stream.next()[0].data)


def data(stream: Response, last: str) -> list[str]:
    """The data of the events through `last`, which is one of them."""
    return [m.data for m in stream.until(last)]


# What a route gives -----------------------------------------------------------------------------------------------------------


def publish_all(publisher: Publisher) -> str:
    """One event of each kind that a route with the topic chat.7 may have to tell apart; the id of the last, which all get."""
    frames = [
        envelope("public 7", to="*", topic="chat.7"),
        envelope("public 77", to="*", topic="chat.77"),
        envelope("public star", to="*", topic="chat.*"),
        envelope("public", to="*"),
        envelope("ann 7", to=["ann"], topic="chat.7"),
        envelope("ann 77", to=["ann"], topic="chat.77"),
        envelope("ann", to=["ann"]),
        envelope("bob 7", to=["bob"], topic="chat.7"),
        envelope("last 7", to="*", topic="chat.7"),
    ]
    return publisher.send(*frames)[-1]


@pytest.mark.parametrize(
    ("target", "headers", "expected"),
    [
        ("/chats/7/events", [], ["public 7", "last 7"]),
        ("/chats/7/events", [("X-Chat-Key", "ann")], ["public 7", "ann 7", "last 7"]),
        ("/chats/7/events?chat_key=ann", [], ["public 7", "ann 7", "last 7"]),
        ("/chats/7/events?chat_key=bob", [("X-Chat-Key", "ann")], ["public 7", "ann 7", "last 7"]),
        ("/private/7", [("X-Public-Key", "bob")], ["public 7", "bob 7", "last 7"]),
        ("/rooms/7/chat", [], []),
        ("/json?topics=chat.7", [], ["public 7", "last 7"]),
    ],
)
def test_topic_and_participant(get: Get, publisher: Publisher, target: str, headers: list[Header], expected: list[str]) -> None:
    """The topic's public events and the participant's own with that topic; live, replayed and long-polled."""
    before = publisher.event("before", to=["nobody"])
    live = get(target, *headers)
    live.next()
    last = publish_all(publisher)
    poll = get(target + ("&" if "?" in target else "?") + f"wait=0&last_event_id={before}", JSON, *headers).json()
    assert [e["data"] for e in poll["events"]] == expected
    assert poll["cursor"] == last
    if expected:
        told = json.loads if "json" in target else lambda text: {"data": text}
        replayed = get(target, ("Last-Event-ID", before), *headers)
        replayed.next()
        assert [told(text)["data"] for text in data(live, last)] == expected
        assert [told(text)["data"] for text in data(replayed, last)] == expected


def test_a_topic_of_several_placeholders(get: Get, publisher: Publisher) -> None:
    stream = get("/rooms/the%20house/a%2Fb")
    stream.next()
    publisher.event("no", to="*", topic="a/b@house")
    assert data(stream, publisher.event("yes", to="*", topic="a/b@the house")) == ["yes"]


@pytest.mark.parametrize("topic", ["chat.*", "chat.\u00fc \u00a0\u3000", "chat.\ue000", "chat./events", "chat.{chat}"])
def test_every_topic_that_producers_may_use_has_its_path(get: Get, publisher: Publisher, topic: str) -> None:
    stream = get(f"/chats/{quote(topic.removeprefix('chat.'), safe='')}/events", ("X-Chat-Key", "ann"))
    stream.next()
    publisher.event("no", to="*", topic="chat.x")
    publisher.event("no", to=["ann"], topic="chat.x")
    last = publisher.send(envelope("yes", to="*", topic=topic), envelope("yes", to=["ann"], topic=topic))[-1]
    assert data(stream, last) == ["yes", "yes"]


@pytest.mark.parametrize("chat", ["%00", "%0D%0Aid:%201", "%E2%80%A8", "%E2%80%AE", "%C2%85", "x" * 196])
def test_a_path_that_can_be_no_topic(get: Get, chat: str) -> None:
    for target in (f"/chats/{chat}/events", f"/known/{chat}"):
        response = get(target)
        assert (response.status, response.json()["error"]) == (404, "unknown_topic")


@pytest.mark.parametrize(
    "path", ["/chats//events", "/chats/1/2/events", "/chats/1", "/chats/1/events/", "/rooms/1", "/json/", "/JSON"]
)
def test_a_placeholder_is_one_segment(get: Get, path: str) -> None:
    response = get(path, ("X-Public-Key", "ann"))
    assert (response.status, response.json()["error"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/private/7", [], 401),
        ("/private/7", [("X-Chat-Key", "ann")], 401),
        ("/private/7?chat_key=ann", [], 401),
        ("/private/7?public_key=ann", [], 200),
        ("/chats/7/events", [("X-Chat-Key", "*")], 400),
        ("/chats/7/events?chat_key=a&chat_key=b", [], 400),
        ("/chats/7/events", [("X-Public-Key", "*")], 200),
        ("/rooms/1/2", [("X-Public-Key", "*")], 200),
    ],
)
def test_the_key_has_the_names_that_the_route_gives_it(get: Get, target: str, headers: list[Header], status: int) -> None:
    assert get(target, *headers).status == status


def test_a_key_means_nothing_on_a_route_without_participants(get: Get, publisher: Publisher) -> None:
    stream = get("/rooms/7/chat", ("X-Public-Key", "ann"))
    assert first(stream)["participant"] is None
    publisher.event("private", to=["ann"], topic="chat@7")
    assert data(stream, publisher.event("public", to="*", topic="chat@7")) == ["public"]


# Filters ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("msg_types=a", "a1"),
        ("msg_types=a,b", "a1 b2"),
        ("msg_types=*", "a1 b2"),
        ("agents=x", "a1"),
        ("agents=x,y&msg_types=b", "b2"),
        ("agents=x&msg_types=b", ""),
        ("attr.processed_by=y", "b2"),
        ("agents=x&attr.processed_by=y", ""),
        ("agents=y&attr.processed_by=z", "b2"),
        ("attr.other=z", ""),
        ("topics=chat.9", "a1 b2"),
        ("topics=chat.8", ""),
        # Its field has another name here, and this one means nothing.
        ("types=a", "a1 b2"),
        ("processed_by=x", "a1 b2"),
    ],
)
def test_filters_of_a_route(get: Get, publisher: Publisher, parameters: str, expected: str) -> None:
    before = publisher.event("before", to=["nobody"])
    publisher.send(
        envelope("a1", to="*", topic="chat.9", type="a", attrs={"processed_by": "x"}),
        envelope("b2", to="*", topic="chat.9", type="b", attrs={"processed_by": ["y", "z"]}),
    )
    answer = get(f"/chats/9/events?wait=0&last_event_id={before}&{parameters}", JSON).json()
    assert [e["data"] for e in answer["events"]] == expected.split()


def test_a_route_has_the_usual_filters_where_it_names_no_other(get: Get, publisher: Publisher) -> None:
    before = publisher.event("before", to=["nobody"])
    publisher.send(
        envelope("a1", to="*", topic="t.1", type="a"),
        envelope("b2", to="*", topic="t.2", type="b", attrs={"kind": "k"}),
    )
    expected = {"/json?types=a": "a1", "/json?topics=t.2": "b2", "/json?types=b&topics=t.1": "", "/named?types=k": "b2"}
    for target, passing in expected.items():
        answer = get(f"{target}&wait=0&last_event_id={before}", JSON).json()
        assert [e["data"] for e in answer["events"]] == passing.split(), target


# The first event --------------------------------------------------------------------------------------------------------------


def test_a_first_event_of_the_route_s_own(get: Get) -> None:
    stream = get("/chats/7/events", ("X-Chat-Key", "ann"))
    (message,) = stream.next()
    assert message.type == "hello" and stream.parser.retry
    assert re.fullmatch(r'{"chat":"7","client_id":"[0-9a-f]{12}","you":"ann","topic":"chat.7","n":\[1, 2\]}', message.data)
    assert first(get("/chats/7/events"))["you"] == ""


@pytest.mark.parametrize(
    "value",
    [
        '"',
        '","x":"',
        "\\",
        '\\"',
        "\r\n\r\nid: 9",
        "\n\ndata: x",
        "\0\x1f\x7f",
        "\u2028\u2029\x85",
        "{value}",
        "{client_id}",
        "</script>",
        "\U0001f600",
    ],
)
def test_what_a_path_puts_into_the_first_event_is_a_json_string_and_nothing_else(get: Get, value: str) -> None:
    stream = get(f"/templates/{quote(value, safe='')}")
    block = stream.blocks(1)
    (message,) = parse(block)
    # Tornado hands control characters of a path over as they are.
    assert json.loads(message.data) == {"value": value, "again": value + value}
    assert stream.parser.last_event_id == message.id != "9"


def test_no_first_event(get: Get, publisher: Publisher) -> None:
    stream = get("/off")
    opening = stream.blocks(1)
    assert opening.startswith(b"retry: ") and parse(opening) == []
    assert stream.parser.last_event_id
    assert data(stream, publisher.event("x", to="*")) == ["x"]
    cursor = stream.parser.last_event_id
    again = get("/off", ("Last-Event-ID", cursor))
    again.blocks(1)
    assert again.parser.last_event_id == cursor


# Form -------------------------------------------------------------------------------------------------------------------------


def test_format_json(get: Get, publisher: Publisher) -> None:
    """The data is the long-poll object of the event."""
    stream = get("/json")
    assert set(first(stream)) == {"client_id", "participant"}
    at = stream.parser.last_event_id
    id = publisher.event("a\nb", to="*", type="t", topic="p", attrs={"k": ["v"]})
    message = stream.until(id)[-1]
    assert message.type == "t"
    assert json.loads(message.data) == {"id": id, "type": "t", "topic": "p", "attrs": {"k": ["v"]}, "data": "a\nb"}
    (polled,) = get(f"/json?last_event_id={at}", JSON).json()["events"]
    assert polled == json.loads(message.data)


def test_the_heartbeat_has_the_route_s_form_unless_the_client_asks_for_another(get: Get) -> None:
    assert [m.type for m in get("/json").next(2)] == ["connected", "heartbeat"]
    comments = get("/json?heartbeat=comment")
    while not comments.parser.comments:
        comments.chunk()
    assert [m.type for m in comments.messages] == ["connected"]


# Unknown topics ---------------------------------------------------------------------------------------------------------------


def test_unknown_topic(get: Get, publisher: Publisher) -> None:
    def status(chat: str, *headers: Header) -> int:
        statuses = {get(f"/known/{chat}", *headers, **how).status for how in ({}, {"method": "HEAD"})}
        statuses.add(get(f"/known/{chat}", JSON, *headers).status)
        (only,) = statuses
        return only

    refused = get("/known/1")
    assert (refused.status, refused.json()["error"]) == (404, "unknown_topic")
    publisher.event("passing", to="*", topic="chat.1")
    assert status("1") == 404

    publisher.send(b'{"topic":"chat.1","known":true}')
    assert status("1") == 200
    assert status("11") == status("*") == 404
    publisher.send(b'{"topic":"chat.1","known":false}')
    assert status("1") == 404

    publisher.event("kept", to="*", topic="chat.1", retain=True)
    assert status("1") == 200
    publisher.event("", to="*", topic="chat.1", retain=True)
    assert status("1") == 404

    # A snapshot that somebody may not read does not tell them that the topic is there.
    publisher.event("kept", to=["ann"], topic="chat.2", retain=True)
    assert status("2", ("X-Public-Key", "ann")) == 200
    assert status("2", ("X-Public-Key", "bob")) == status("2") == 404


def test_an_unknown_topic_is_accepted_elsewhere(get: Get, publisher: Publisher) -> None:
    stream = get("/chats/never-heard-of/events")
    stream.next()
    assert data(stream, publisher.event("x", to="*", topic="chat.never-heard-of")) == ["x"]


def test_snapshots_of_a_topic(get: Get, publisher: Publisher) -> None:
    publisher.event("public", to="*", topic="chat.snap", retain=True)
    publisher.event("other", to="*", topic="chat.snap2", retain=True)
    publisher.event("no topic", to=["ann"], retain=True)
    at = publisher.event("ann's", to=["ann"], topic="chat.snap", retain=True)
    assert [m.data for m in get("/private/snap", ("X-Public-Key", "ann")).next(3)[1:]] == ["public", "ann's"]
    (_, snapshot) = get("/private/snap", ("X-Public-Key", "bob")).next(2)
    assert (snapshot.data, snapshot.id) == ("public", at)
