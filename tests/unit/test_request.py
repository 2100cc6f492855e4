"""What a request says, without HTTP: nothing a client writes does more than it may, and nothing of it is repeated."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_daemon.auth import Message
from sse_daemon.config import EVENTS, Route
from sse_daemon.errors import RequestRefused
from sse_daemon.event import Cursor
from sse_daemon.request import Request, fill
from sse_daemon.subscription import Filter
from tests.fuzz.cursors import check_coming_back

LOG = "0123456789ab"


def request(
    query: Mapping[str, Sequence[str]] | None = None,
    headers: Mapping[str, Sequence[str]] | None = None,
    route: Route = EVENTS,
    places: Mapping[str, str] | None = None,
) -> Request:
    asked, named = query or {}, headers or {}
    message = Message("GET", route.path, "", lambda name: named.get(name, ()))
    return Request(route, message.header, lambda name: asked.get(name, ()), asked, places or {}, "peer", "peer", message)


@given(text=st.text(max_size=80))
def test_whatever_comes_as_a_cursor_is_a_cursor_none_or_a_reason(text: str) -> None:
    check_coming_back([], [text], [])


cursors = st.lists(st.sampled_from(["", f"{LOG}-1", f"{LOG}-11", "f" * 12 + "-1", "x"]), max_size=2)


@given(headers=cursors, first=cursors, second=cursors)
def test_cursors_in_several_places_are_one_or_refused(headers: list[str], first: list[str], second: list[str]) -> None:
    check_coming_back(headers, first, second)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{LOG}-10", (Cursor(LOG, 10), None)),
        (f"{LOG}-0", (Cursor(LOG, 0), None)),
        (f"{LOG}-11", (None, "unknown_cursor")),
        (f"{LOG}-01", (None, "unknown_cursor")),
        ("f" * 12 + "-1", (None, "backend_reset")),
        ("", (None, None)),
    ],
)
def test_a_cursor_is_good_beyond_the_end_of_another_log_or_none(text: str, expected: object) -> None:
    assert request(headers={"Last-Event-ID": [text]}).cursor(LOG, 10) == expected


def test_the_header_wins_unless_it_is_empty_and_two_of_either_are_refused() -> None:
    both = {"last_event_id": [f"{LOG}-2"]}
    assert request(both, {"Last-Event-ID": [f"{LOG}-1"]}).cursor(LOG, 9)[0] == Cursor(LOG, 1)
    assert request(both, {"Last-Event-ID": [""]}).cursor(LOG, 9)[0] == Cursor(LOG, 2)
    for twice in (
        request(headers={"Last-Event-ID": [f"{LOG}-1"] * 2}),
        request({"last_event_id": [f"{LOG}-1"], "lastEventId": [f"{LOG}-2"]}),
    ):
        with pytest.raises(RequestRefused) as refused:
            twice.cursor(LOG, 9)
        assert (refused.value.status, refused.value.code) == (400, "ambiguous_cursor")


def test_filters_come_from_the_routes_names_the_usual_ones_and_attributes() -> None:
    route = Route(path="/chats/{chat}", topic="chat.{chat}", filters={"msg_types": "type", "agents": "attrs.by"})
    asked = request({"msg_types": ["b,a,,a"], "types": ["no"], "agents": ["x"], "attr.by": ["y"], "attr.z": [""]}, route=route)
    assert asked.filter("chat.1", 10) == Filter(("a", "b"), (), (("by", ("x",)), ("by", ("y",))), "chat.1")
    assert request({"types": ["a"], "topics": ["t.*"]}).filter(None, 10) == Filter(("a",), ("t.*",))


@pytest.mark.parametrize("query", [{"types": ["a,b,c"]}, {"attr.a": ["1"], "attr.b": ["1"], "attr.c": ["1"]}])
def test_filters_are_bounded(query: Mapping[str, Sequence[str]]) -> None:
    with pytest.raises(RequestRefused, match="too_many_filters"):
        request(query).filter(None, 2)


@pytest.mark.parametrize("text", ["-1", "nan", "", "x", "1e400x"])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RequestRefused, match="bad_number"):
        request({"wait": [text]}).number("wait", 25, 60)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("2.5", 2.5), ("inf", 60), ("1e400", 60), ("61", 60)])
def test_a_number_has_an_end(text: str, number: float) -> None:
    assert request({"wait": [text]}).number("wait", 25, 60) == number
    assert request().number("wait", 25, 60) == 25


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        ([], False),
        (["*/*"], False),
        (["application/json"], True),
        (["Application/JSON;q=0.9"], True),
        (["application/json, text/event-stream"], False),
        (["application/json", "TEXT/event-stream"], False),
        (["text/html"], False),
    ],
)
def test_who_names_both_types_gets_a_stream(accept: list[str], json: bool) -> None:
    assert request(headers={"Accept": accept}).wants_json() is json


@given(chat=st.text(min_size=1, max_size=250))
def test_a_topic_from_a_path_is_one_that_an_event_could_carry_or_there_is_none(chat: str) -> None:
    asked = request(route=Route(path="/chats/{chat}", topic="chat.{chat}"), places={"chat": chat})
    try:
        assert asked.topic() == f"chat.{chat}"
    except RequestRefused as refused:
        assert refused.status == 404
        assert len(chat) > 195 or not chat.isprintable()


@given(text=st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=50))
def test_a_template_is_filled_with_json_text(text: str) -> None:
    assert json.loads(fill('{"a":"{topic}","b":"{other}"}', {"topic": text})) == {"a": text, "b": "{other}"}
