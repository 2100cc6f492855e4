"""What the daemon writes, read back by the tests' own parser of the standard."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_daemon import sse
from sse_daemon.event import Event
from tests.fuzz.frames import LOG, as_object, check_batch, check_event, check_json, chunks, seen
from tests.wire.whatwg import Message, Parser, parse

characters = st.characters(exclude_categories=("Cs",), exclude_characters="\r")
# Line ends, what some take for line ends, and what a field could be mistaken for, far more often than by chance.
texts = st.one_of(st.text(characters), st.text(st.sampled_from("\n\0\u2028\u2029\x85\x0b\x0c\ufeff :adeti"), max_size=30))
names = st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp")), min_size=1, max_size=12)
attrs = st.dictionaries(texts, st.one_of(texts, st.lists(texts, max_size=2).map(tuple)), max_size=2).map(
    lambda d: tuple(d.items())
)
events = st.builds(
    Event,
    st.integers(1, 10**18 - 1),
    st.just(("public",)),
    st.one_of(st.just("message"), names),
    st.one_of(st.none(), names),
    attrs,
    texts.map(str.encode),
    st.none(),
)


@given(events)
def test_a_client_gets_exactly_the_event(event: Event) -> None:
    check_event(event)


@given(st.lists(events, max_size=6))
def test_frames_concatenate_and_no_block_is_split(batch: list[Event]) -> None:
    check_batch(batch)


@given(events)
def test_on_a_json_route_the_whole_event_is_the_data(event: Event) -> None:
    check_json(event)


@given(events, st.booleans())
def test_a_snapshot_has_the_id_it_is_given_or_none(event: Event, json_route: bool) -> None:
    block = sse.snapshot_block(event, json=json_route)
    assert b"id:" not in block.split(b"data:")[0]
    parser = Parser(last_event_id="before")
    (message,) = parser.feed(block + sse.snapshot_block(event, json=json_route, id="after"))[:1]
    assert (message.type, message.id, parser.last_event_id) == (event.type, "before", "after")
    assert json.loads(message.data) == as_object(event, None) if json_route else message.data == event.data.decode()


@pytest.mark.parametrize(
    ("event", "golden"),
    [
        (Event(7, ("public",), "message", None, (), b"hi"), b"id: 0123456789ab-7\ndata: hi\n\n"),
        (Event(7, ("public",), "chat.new", "t", (), b"a\nb"), b"id: 0123456789ab-7\nevent: chat.new\ndata: a\ndata: b\n\n"),
        (Event(1, ("public",), "x", None, (), b""), b"id: 0123456789ab-1\nevent: x\ndata: \n\n"),
        (Event(1, ("public",), "message", None, (), b"\n"), b"id: 0123456789ab-1\ndata: \ndata: \n\n"),
        (Event(1, ("public",), "message", None, (), b" a\n  b"), b"id: 0123456789ab-1\ndata:  a\ndata:   b\n\n"),
        (Event(1, ("public",), "message", None, (), b"id: x\n\nretry: 1"),
         b"id: 0123456789ab-1\ndata: id: x\ndata: \ndata: retry: 1\n\n"),
        (Event(1, ("public",), "e", None, (), "\u2028\x85\0\ufeff".encode()),
         b"id: 0123456789ab-1\nevent: e\ndata: \xe2\x80\xa8\xc2\x85\x00\xef\xbb\xbf\n\n"),
    ],
)  # fmt: skip
def test_golden_bytes(event: Event, golden: bytes) -> None:
    assert sse.unchunk(sse.event_frame(event, LOG)) == golden
    assert sse.event_frame(event, LOG) == b"%x\r\n%b\r\n" % (len(golden), golden)


def test_a_megabyte_of_short_lines() -> None:
    event = Event(1, ("public",), "message", None, (), b"ab\n" * 350_000)
    (body,) = chunks(sse.event_frame(event, LOG))
    assert parse(body) == [seen(event)]


def test_the_daemons_own_blocks() -> None:
    assert sse.KEEPALIVE == b": keepalive\n\n"
    assert list(chunks(sse.chunk(b"x") + sse.LAST_CHUNK)) == [b"x", b""]
    assert sse.position("a-1") == b"id: a-1\n\n"
    assert sse.retry(1500) == b"retry: 1500\n\n"
    assert sse.retry(1500, "a-1") == b"retry: 1500\nid: a-1\n\n"
    assert sse.heartbeat(1700000000) == b'event: heartbeat\ndata: {"timestamp":1700000000}\n\n'
    assert sse.heartbeat(5, "a-1") == b'id: a-1\nevent: heartbeat\ndata: {"timestamp":5}\n\n'
    assert sse.resync("lagged", 3) == b'event: resync\ndata: {"reason":"lagged","missed":3}\n\n'
    assert sse.resync("expired", None, "a-1") == b'id: a-1\nevent: resync\ndata: {"reason":"expired","missed":null}\n\n'
    assert sse.bye("drain", 4000) == b'retry: 4000\nevent: bye\ndata: {"reason":"drain"}\n\n'
    assert sse.block(b"{}", type="connected", id="a-1", retry=1) == b"retry: 1\nid: a-1\nevent: connected\ndata: {}\n\n"


def test_only_what_is_meant_to_be_seen_is_seen() -> None:
    parser = Parser()
    assert parser.feed(sse.KEEPALIVE + sse.position("a-1") + sse.retry(1500)) == []
    assert (parser.last_event_id, parser.retry, parser.comments) == ("a-1", 1500, [" keepalive"])
    assert parser.feed(sse.bye("drain", 4000)) == [Message("bye", '{"reason":"drain"}', "a-1")]
    assert parser.retry == 4000


@given(texts, names)
def test_json_of_ours_is_one_line_of_utf8(text: str, name: str) -> None:
    written = sse.dumps({name: [text, None, 1]})
    assert json.loads(written) == {name: [text, None, 1]}
    assert b"\n" not in written and b"\r" not in written
    with pytest.raises(OverflowError):
        sse.dumps(math.nan)


def test_a_response_head() -> None:
    assert sse.head("200 OK", [("A", "b"), ("C", "d")]) == b"HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\n"
