"""The bytes of a stream, compared one by one, and what two parsers that are not ours make of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import httpx
import httpx_sse
import pytest

from tests.integration.client import Publisher, Response, admin, query
from tests.integration.daemon import RunningDaemon
from tests.wire.whatwg import Message, parse

DOORS = True
CONFIG = """
[[stream]]
path = "/json"
format = "json"

[[stream]]
path = "/quiet"
first = "off"
"""
HEARTBEATS = """
[streams]
heartbeat = 0.1
"""
ALICE = ("X-Public-Key", "alice")
HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-store\r\n"
    b"X-Accel-Buffering: no\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
    b"Sse-Daemon-Auth: claim\r\n"
    b"%b"
    b"Connection: close\r\n"
    b"\r\n"
)
CONNECTED = rb'retry: ([1-3]\d{3})\n%bevent: connected\ndata: {"client_id":"[0-9a-f]{12}","participant":"alice"}\n\n'

Get = Callable[..., Response]


def connected(id: str | None) -> bytes:
    return CONNECTED % (b"" if id is None else b"id: %b\n" % id.encode())


# Opening ----------------------------------------------------------------------------------------------------------------------


def test_head_of_a_stream(get: Get) -> None:
    assert get("/events", ALICE).raw_head == HEAD % b"Transfer-Encoding: chunked\r\n"


def test_head_of_a_stream_without_chunks(get: Get) -> None:
    assert get("/events", ALICE, version="1.0").raw_head == HEAD % b""
    assert get("/events", ALICE, ("Connection", "keep-alive"), version="1.0").raw_head == HEAD % b""


def test_first_block_without_a_cursor(get: Get, publisher: Publisher) -> None:
    at = publisher.event("for somebody else", to=["bob"])
    assert re.fullmatch(connected(at), get("/events", ALICE).blocks(1))


def test_first_block_with_a_cursor(get: Get, publisher: Publisher) -> None:
    cursor = publisher.event("seen", to=["alice"])
    publisher.event("for somebody else", to=["bob"])
    assert re.fullmatch(connected(cursor), get("/events", ALICE, ("Last-Event-ID", cursor)).blocks(1))


def test_retry_is_spread_between_one_second_and_three(get: Get) -> None:
    found = {int(re.match(rb"retry: (\d+)\n", get("/events", ALICE).blocks(1))[1]) for _ in range(12)}  # type: ignore[index]
    assert len(found) > 1
    assert all(1000 <= retry <= 3000 for retry in found)


def test_retry_is_a_block_of_its_own_where_the_first_event_is_off(get: Get, publisher: Publisher) -> None:
    at = publisher.event("x", to=["bob"])
    opening = get("/quiet", ALICE).blocks(1)
    assert re.fullmatch(rb"retry: [1-3]\d{3}\nid: %b\n\n" % at.encode(), opening)
    assert parse(opening) == []


def test_snapshots_stand_behind_the_first_block_and_only_the_last_has_an_id(get: Get, publisher: Publisher) -> None:
    publisher.event("one", to=["alice"], topic="t1", retain=True)
    publisher.event("two", to=["alice"], topic="t2", type="state", retain=True)
    at = publisher.event("x", to=["bob"])
    try:
        expected = connected(None) + b"data: one\n\n" + b"id: %b\nevent: state\ndata: two\n\n" % at.encode()
        assert re.fullmatch(expected, get("/events", ALICE).blocks(3))
        quiet = rb"retry: \d+\n\ndata: one\n\nid: %b\nevent: state\ndata: two\n\n" % at.encode()
        assert re.fullmatch(quiet, get("/quiet", ALICE).blocks(3))
    finally:
        publisher.event("", to=["alice"], topic="t1", retain=True)
        publisher.event("", to=["alice"], topic="t2", type="state", retain=True)


def test_resync_and_its_snapshots(get: Get, publisher: Publisher) -> None:
    publisher.event("one", to=["alice"], topic="t", retain=True)
    at = publisher.event("x", to=["bob"])
    try:
        expected = connected(None) + b'event: resync\ndata: {"reason":"unknown_cursor","missed":null}\n\n'
        expected += b"id: %b\ndata: one\n\n" % at.encode()
        assert re.fullmatch(expected, get("/events", ALICE, ("Last-Event-ID", "nonsense")).blocks(3))
    finally:
        at = publisher.event("", to=["alice"], topic="t", retain=True)
    expected = connected(None) + b'id: %b\nevent: resync\ndata: {"reason":"unknown_cursor","missed":null}\n\n' % at.encode()
    assert re.fullmatch(expected, get("/events", ALICE, ("Last-Event-ID", "nonsense")).blocks(2))


# Events -----------------------------------------------------------------------------------------------------------------------

BIG = "x" * 1_000_000
DATA = {
    "a line": ("hi", b"data: hi\n"),
    "nothing": ("", b"data: \n"),
    "leading spaces": ("  hi", b"data:   hi\n"),
    "a leading colon": (": hi", b"data: : hi\n"),
    "LF": ("a\nb", b"data: a\ndata: b\n"),
    "CR": ("a\rb", b"data: a\ndata: b\n"),
    "CRLF": ("a\r\nb", b"data: a\ndata: b\n"),
    "all line ends": ("\r\n\ra\n\rb\r", b"data: \ndata: \ndata: a\ndata: \ndata: b\ndata: \n"),
    "a line end at the end": ("a\n", b"data: a\ndata: \n"),
    "fields": ("x\nid: 1\n\nevent: bye\r\rretry: 1", b"data: x\ndata: id: 1\ndata: \ndata: event: bye\ndata: \ndata: retry: 1\n"),
    "NUL": ("a\0b", b"data: a\0b\n"),
    "U+2028 and U+0085": (
        "a\u2028b\u2029c\x85d\x0b\x0c\x1c\x1d\x1ee",
        "data: a\u2028b\u2029c\x85d\x0b\x0c\x1c\x1d\x1ee\n".encode(),
    ),
    "a byte order mark": ("\ufeffa", "data: \ufeffa\n".encode()),
    "beyond the BMP": ("grüße \U0001f600", "data: grüße \U0001f600\n".encode()),
    "a megabyte": (BIG, b"data: " + BIG.encode() + b"\n"),
}


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("type", ["message", "chat.new"])
def test_an_event(get: Get, publisher: Publisher, kind: str, type: str) -> None:
    data, lines = DATA[kind]
    before = publisher.event("before", to=["alice"])
    live = get("/events", ALICE)
    live.blocks(1)
    id = publisher.event(data, to=["alice"], **({} if type == "message" else {"type": type}))
    block = b"id: %b\n" % id.encode() + (b"" if type == "message" else b"event: chat.new\n") + lines + b"\n"
    assert live.client.exactly(len(block) + len(b"%x\r\n\r\n" % len(block))) == b"%x\r\n%b\r\n" % (len(block), block)

    replayed = get("/events", ALICE, ("Last-Event-ID", before))
    assert replayed.blocks(1) and replayed.blocks(1) == block
    unframed = get("/events", ALICE, ("Last-Event-ID", before), version="1.0")
    assert unframed.blocks(1) and unframed.client.exactly(len(block)) == block


@pytest.mark.parametrize("kind", DATA)
def test_two_parsers_read_the_same_event(daemon: RunningDaemon, get: Get, publisher: Publisher, kind: str) -> None:
    data, _ = DATA[kind]
    before = publisher.event("before", to=["alice"])
    id = publisher.event(data, to=["alice"], type="t")
    expected = Message("t", data.replace("\r\n", "\n").replace("\r", "\n"), id)
    ours = get("/events", ALICE, ("Last-Event-ID", before))
    ours.next()
    assert ours.next() == [expected]

    headers = {"X-Public-Key": "alice", "Last-Event-ID": before}
    with httpx.Client(timeout=30) as http, httpx_sse.connect_sse(http, "GET", daemon.events, headers=headers) as source:
        events = source.iter_sse()
        assert next(events).event == "connected"
        event = next(events)
    assert Message(event.event, event.data, event.id) == expected


def test_the_whole_event_as_json(get: Get, publisher: Publisher) -> None:
    stream = get("/json", ALICE)
    stream.blocks(1)
    id = publisher.event("a/b\r\nc\u2028", to=["alice"], type="t", topic="x.1", attrs={"k": "v", "l": ["a", "b"]})
    data = '{"id":"%s","type":"t","topic":"x.1","attrs":{"k":"v","l":["a","b"]},"data":"a/b\\nc\u2028"}'
    assert stream.blocks(1).decode() == f"id: {id}\nevent: t\ndata: {data % id}\n\n"
    id = publisher.event("", to=["alice"])
    data = '{"id":"%s","type":"message","topic":null,"attrs":{},"data":""}'
    assert stream.blocks(1).decode() == f"id: {id}\ndata: {data % id}\n\n"


def test_a_snapshot_as_json_has_no_id_of_its_own(get: Get, publisher: Publisher) -> None:
    publisher.event("s", to=["alice"], retain=True)
    at = publisher.event("x", to=["bob"])
    try:
        opening = get("/json", ALICE).blocks(2)
        data = b'data: {"id":null,"type":"message","topic":null,"attrs":{},"data":"s"}\n\n'
        assert opening.endswith(b"id: %b\n" % at.encode() + data)
    finally:
        publisher.event("", to=["alice"], retain=True)


def test_no_block_is_split_over_two_chunks(get: Get, publisher: Publisher) -> None:
    """Response.chunk fails where a chunk does not end as a block does; here with much, replayed and live, small and large."""
    before = publisher.event("before", to=["alice"])
    batch = [b'{"to":["alice"]}\n' + b"%d " % i + b"y" * (i * 97 % 3000) for i in range(900)]
    publisher.send(*batch)
    stream = get("/events", ALICE, ("Last-Event-ID", before))
    last = publisher.send(*batch, b'{"to":["alice"]}\n' + b"z" * 300_000)[-1]
    events = stream.until(last)[1:]
    assert [len(e.data) for e in events] == 2 * [len(frame.partition(b"\n")[2]) for frame in batch] + [300_000]


# Silence and the end ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def beating() -> Iterator[RunningDaemon]:
    with RunningDaemon(HEARTBEATS) as daemon:
        yield daemon


def test_heartbeat_is_a_comment_and_a_position_if_that_moved(beating: RunningDaemon, get: Get) -> None:
    stream = get("/events", ALICE, of=beating)
    stream.blocks(1)
    assert [stream.chunk(), stream.chunk()] == [b": keepalive\n\n"] * 2
    with Publisher(beating.acked) as publisher:
        id = publisher.event("not hers", to=["bob"])
    moved = b": keepalive\n\nid: %b\n\n" % id.encode()
    while (chunk := stream.chunk()) != moved:
        assert chunk == b": keepalive\n\n"
    assert stream.chunk() == b": keepalive\n\n"
    assert [m.type for m in stream.messages] == ["connected"]
    assert stream.parser.last_event_id == id


def test_heartbeat_as_an_event_carries_the_position(beating: RunningDaemon, get: Get) -> None:
    stream = get(query("/events", public_key="alice", heartbeat="event"), of=beating)
    opening = stream.blocks(1)
    at = re.search(rb"id: (\S+)", opening)
    assert at
    assert re.fullmatch(rb'id: %b\nevent: heartbeat\ndata: {"timestamp":\d{10}}\n\n' % at[1], stream.chunk() or b"")
    with Publisher(beating.acked) as publisher:
        id = publisher.event("not hers", to=["bob"])
    stream.until(id)
    assert {m.type for m in stream.messages[1:]} == {"heartbeat"}


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_bye_the_last_chunk_and_the_end_of_the_connection(daemon: RunningDaemon, get: Get, version: str) -> None:
    stream = get("/events", ("X-Public-Key", f"leaver-{version}"), version=version)
    stream.blocks(1)
    admin(daemon.admin, "POST", "/kick", participant=f"leaver-{version}")
    block = rb'retry: (\d+)\nevent: bye\ndata: {"reason":"kicked"}\n\n'
    end = rb"[0-9a-f]+\r\n%b\r\n0\r\n\r\n" % block if version == "1.1" else block
    assert re.fullmatch(end, stream.client.to_end())
