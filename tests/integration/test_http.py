"""The built-in route and what stands beside it: who asks, with which cursor, in which words, and what is refused."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.integration.client import Client, Header, Publisher, Response, admin, envelope, query
from tests.integration.daemon import ROOT, RunningDaemon

DOORS = True
CONFIG = """
[[stream]]
path = "/open"
anonymous = "public"

[http]
header_timeout = 5
"""
ALICE = ("X-Public-Key", "alice")
SSE = ("Accept", "text/event-stream")

Get = Callable[..., Response]
Until = Callable[..., Any]


def participant(stream: Response) -> Any:
    """Whom the stream is for, as its first event says."""
    assert stream.status == 200, stream.raw_head
    return json.loads(stream.next()[0].data)["participant"]


def refusal(response: Response) -> tuple[int, str]:
    """Status and code of a refusal, which is JSON of the contract's form and the end of the connection."""
    answer = response.json()
    assert set(answer) == {"error", "detail"} and answer["detail"]
    assert response.header("Connection") == "close"
    assert response.client.to_end() == b""
    return response.status, answer["error"]


# Who asks ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "headers", "expected"),
    [
        ("/events", [ALICE], "alice"),
        ("/events", [("x-public-key", "Alice")], "Alice"),
        ("/events?public_key=bob", [], "bob"),
        ("/events?public_key=bob", [ALICE], "alice"),
        ("/events?public_key=a%2Bb%2F%3D", [], "a+b/="),
        ("/events", [("X-Public-Key", "k" * 256)], "k" * 256),
        ("/open", [ALICE], "alice"),
        ("/open", [], None),
    ],
)
def test_participant(get: Get, target: str, headers: list[Header], expected: str | None) -> None:
    assert participant(get(target, *headers)) == expected


@pytest.mark.parametrize(
    ("target", "headers", "expected"),
    [
        ("/events", [], (401, "participant_required")),
        ("/events", [ALICE, ALICE], (400, "ambiguous_participant")),
        ("/events", [ALICE, ("X-Public-Key", "bob")], (400, "ambiguous_participant")),
        ("/events?public_key=a&public_key=b", [], (400, "ambiguous_participant")),
        ("/events?public_key=a&public_key=b", [ALICE], (400, "ambiguous_participant")),
        ("/open?public_key=a&public_key=b", [], (400, "ambiguous_participant")),
        ("/events", [("X-Public-Key", "")], (400, "bad_participant")),
        ("/events?public_key=", [], (400, "bad_participant")),
        ("/events", [("X-Public-Key", "*")], (400, "bad_participant")),
        ("/events", [("X-Public-Key", "a b")], (400, "bad_participant")),
        ("/events", [("X-Public-Key", "a, b")], (400, "bad_participant")),
        ("/events", [("X-Public-Key", "gr\xfcn")], (400, "bad_participant")),
        ("/events", [("X-Public-Key", "k" * 257)], (400, "bad_participant")),
        ("/events?public_key=%2A", [], (400, "bad_participant")),
        ("/events?public_key=%20a", [], (400, "bad_participant")),
        ("/events?public_key=a%00", [], (400, "bad_participant")),
        ("/events?public_key=a%0Ab", [], (400, "bad_participant")),
        ("/events?public_key=%C3%BC", [], (400, "bad_participant")),
        ("/events?public_key=%FF", [], (400, "bad_request")),
        ("/open", [("X-Public-Key", "*")], (400, "bad_participant")),
    ],
)
def test_participant_that_cannot_be(get: Get, target: str, headers: list[Header], expected: tuple[int, str]) -> None:
    assert refusal(get(target, *headers)) == expected


def test_keys_are_case_sensitive(get: Get, publisher: Publisher) -> None:
    upper = get("/events", ("X-Public-Key", "Case"))
    upper.next()
    publisher.event("no", to=["case"])
    last = publisher.event("yes", to=["Case"])
    assert [m.data for m in upper.until(last)] == ["yes"]


def test_whoever_was_kicked_for_a_time_is_refused(get: Get, daemon: RunningDaemon) -> None:
    stream = get("/events", ("X-Public-Key", "pest"))
    stream.next()
    admin(daemon.admin, "POST", "/kick", **{"participant": "pest", "for": 600})
    assert [m.type for m in stream.rest()] == ["bye"]
    assert refusal(get("/events", ("X-Public-Key", "pest"))) == (403, "kicked")
    assert refusal(get("/events", ("X-Public-Key", "pest"), ("Accept", "application/json"))) == (403, "kicked")
    assert participant(get("/events", ("X-Public-Key", "pester"))) == "pester"


# What they are given ----------------------------------------------------------------------------------------------------------


def test_an_event_reaches_exactly_those_it_names(get: Get, publisher: Publisher) -> None:
    streams = {name: get("/events", ("X-Public-Key", name)) for name in ("p1", "p2", "p3", "P1", "p")}
    streams["anonymous"] = get("/open")
    for stream in streams.values():
        stream.next()
    publisher.send(b'{"group":"pair","members":["p2","p3"]}')
    both = publisher.event("p1 p2", to=["p1", "p2", "p1"])
    publisher.event("group", group="pair", topic="p1")
    publisher.event("group and p1", to=["p1"], group="pair", attrs={"to": "p"})
    everybody = publisher.event("everybody", to="*", topic="participant/p")
    got = {name: [m.data for m in stream.until(everybody)] for name, stream in streams.items()}
    assert got == {
        "p1": ["p1 p2", "group and p1", "everybody"],
        "p2": ["p1 p2", "group", "group and p1", "everybody"],
        "p3": ["group", "group and p1", "everybody"],
        "P1": ["everybody"],
        "p": ["everybody"],
        "anonymous": ["everybody"],
    }
    # The id is the same for all of them, and each finds the rest behind it.
    resumed = {name: get("/events", ("X-Public-Key", name), ("Last-Event-ID", both)).until(everybody) for name in ("p1", "p3")}
    assert [m.data for m in resumed["p1"][1:]] == ["group and p1", "everybody"]
    assert [m.data for m in resumed["p3"][1:]] == ["group", "group and p1", "everybody"]


FILTERED = {
    # name: type, topic, attrs
    "plain": ("message", None, {}),
    "a1": ("a", "chat.1", {"lang": "de", "tags": ["x", "y"]}),
    "a2": ("a", "chat.2", {"lang": "en"}),
    "b1": ("b", "chat.1", {"lang": "fr", "tags": ["y"]}),
    "news": ("b.news", "news", {"lang": "de", "mood": "a,b"}),
}


@pytest.mark.parametrize(
    ("parameters", "passing"),
    [
        ("", "plain a1 a2 b1 news"),
        ("types=", "plain a1 a2 b1 news"),
        ("types=a", "a1 a2"),
        ("types=a,b", "a1 a2 b1"),
        ("types=a&types=b", "a1 a2 b1"),
        ("types=message", "plain"),
        ("types=b*", "b1 news"),
        ("types=*", "plain a1 a2 b1 news"),
        ("types=A", ""),
        ("topics=chat.*", "a1 a2 b1"),
        ("topics=chat.1,news", "a1 b1 news"),
        ("topics=*.1", "a1 b1"),
        ("topics=ch*.2", "a2"),
        ("topics=chat", ""),
        ("topics=chat.%3F", ""),
        ("topics=*", "a1 a2 b1 news"),
        ("attr.lang=de", "a1 news"),
        ("attr.lang=de,en", "a1 a2 news"),
        ("attr.lang=d*", ""),
        ("attr.tags=y", "a1 b1"),
        ("attr.tags=x", "a1"),
        ("attr.tags=x,z", "a1"),
        ("attr.none=x", ""),
        ("attr.lang=de&attr.tags=y", "a1"),
        ("types=a&topics=chat.1", "a1"),
        ("types=a,b&topics=chat.*&attr.lang=en,fr", "a2 b1"),
        ("types=a&topics=news", ""),
    ],
)
def test_filters(get: Get, publisher: Publisher, parameters: str, passing: str) -> None:
    """OR within a list, AND between; the same live, replayed, long-polled and among snapshots."""
    target = f"/events?public_key=f&{parameters}"
    live = get(target)
    start = publisher.event("start", to=["nobody"])
    live.next()
    frames = [envelope(n, to=["f"], type=t, attrs=a, **({"topic": p} if p else {})) for n, (t, p, a) in FILTERED.items()]
    ids = dict(zip(FILTERED, publisher.send(*frames), strict=True))
    expected = passing.split()
    answer = get(
        query("/events", public_key="f", last_event_id=start, wait="0") + f"&{parameters}", ("Accept", "application/json")
    )
    body = answer.json()
    assert [e["data"] for e in body["events"]] == expected
    assert body["cursor"] == ids["news"]
    for stream in (live, get(target, ("Last-Event-ID", start))):
        assert [m.data for m in stream.next(len(expected) + (stream is not live))[stream is not live :]] == expected
        assert stream.parser.last_event_id == (ids[expected[-1]] if expected else stream.parser.last_event_id)


def test_filters_hold_for_snapshots(get: Get, publisher: Publisher) -> None:
    publisher.event("a", to=["snap"], type="a", topic="t", retain=True)
    at = publisher.event("b", to=["snap"], type="b", topic="t", retain=True)
    (first, snapshot) = get("/events?public_key=snap&types=a").next(2)
    assert (first.type, first.id) == ("connected", "")
    assert (snapshot.data, snapshot.id) == ("a", at)


def test_too_many_filters(get: Get) -> None:
    many = ",".join(map(str, range(101)))
    assert refusal(get(f"/events?public_key=a&types={many}")) == (400, "too_many_filters")
    named = "&".join(f"attr.{i}=x" for i in range(101))
    assert refusal(get(f"/events?public_key=a&{named}")) == (400, "too_many_filters")


# How they are given it --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "type"),
    [
        (None, "text/event-stream"),
        ("*/*", "text/event-stream"),
        ("text/event-stream", "text/event-stream"),
        ("text/event-stream, application/json", "text/event-stream"),
        ("application/json, text/event-stream;q=0.1", "text/event-stream"),
        ("Application/JSON, Text/Event-Stream", "text/event-stream"),
        ("text/html", "text/event-stream"),
        ("application/json", "application/json"),
        ("application/json;q=0.9, */*;q=0.1", "application/json"),
        ("Application/JSON", "application/json"),
    ],
)
def test_accept(get: Get, accept: str | None, type: str) -> None:
    headers = [] if accept is None else [("Accept", accept)]
    response = get("/events", ALICE, *headers)
    assert response.status == 200
    assert (response.header("Content-Type") or "").partition(";")[0] == type


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_headers_of_a_stream(get: Get, method: str, version: str) -> None:
    response = get("/events", ALICE, ("Connection", "keep-alive"), method=method, version=version)
    assert response.status == 200
    assert response.header("Content-Type") == "text/event-stream; charset=utf-8"
    assert response.header("Cache-Control") == "no-store"
    assert response.header("X-Accel-Buffering") == "no"
    assert response.header("Server") is None
    if method == "GET":
        assert response.header("Connection") == "close"
        assert response.chunked == (version == "1.1")
        assert response.header("Content-Length") is None


def test_head_has_no_stream(get: Get, daemon: RunningDaemon) -> None:
    response = get("/events", ("X-Public-Key", "header-reader"), ("Connection", "close"), method="HEAD")
    assert response.client.to_end() == b""
    assert admin(daemon.admin, "GET", "/clients?participant=header-reader")["clients"] == []
    unknown = get("/events", ("Connection", "close"), method="HEAD")
    assert (unknown.status, unknown.client.to_end()) == (401, b"")


def test_no_answer_has_a_tag_that_would_make_it_conditional(get: Get) -> None:
    for target, headers in (("/healthz", []), ("/events", [ALICE, ("Accept", "application/json")])):
        response = get(target, *headers)
        assert response.status == 200
        assert response.header("Etag") is None
    assert get("/events", ALICE, method="HEAD").header("Etag") is None
    assert get("/events", ALICE, ("Accept", "application/json"), ("If-None-Match", "*")).json()["events"] == []


def test_headers_of_a_stream_come_at_once(get: Get, publisher: Publisher) -> None:
    """Nothing was published for it, and the head and the first block are there."""
    stream = get("/events", ("X-Public-Key", "early"))
    assert [m.type for m in stream.next()] == ["connected"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("target", ["/events", "/open", "/healthz"])
def test_other_methods(get: Get, method: str, target: str) -> None:
    response = get(target, ALICE, ("Content-Length", "0"), method=method)
    assert (response.header("Allow") or "").split(", ") == ["GET", "HEAD", "OPTIONS"]
    assert refusal(response) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    "target", ["/", "/event", "/events/", "/events/x", "//events", "/Events", "/metrics", "/clients", "/%00"]
)
def test_other_paths(get: Get, target: str) -> None:
    assert refusal(get(target, ALICE)) == (404, "not_found")
    assert get(target, ALICE, ("Content-Length", "0"), method="POST").status == 404


@pytest.mark.parametrize("target", ["/events", "/open", "/healthz", "/readyz"])
def test_options(get: Get, target: str) -> None:
    response = get(target, method="OPTIONS")
    assert response.status == 204
    assert response.header("Allow") == "GET, HEAD, OPTIONS"
    assert response.header("Access-Control-Allow-Origin") is None


@pytest.mark.parametrize(
    "target",
    [
        "/events?public_key=%0D%0AMARK:%201",
        "/events?public_key=a&last_event_id=MARK%0D%0A",
        "/events?public_key=MARK&public_key=MARK",
        "/events?public_key=MARK&wait=MARK&heartbeat=MARK",
        "/MARK%0D%0AMARK:1",
        "/events?MARK=MARK",
    ],
)
def test_nothing_of_the_input_is_echoed_into_headers(get: Get, target: str) -> None:
    marked = [("Origin", "http://MARK"), ("X-Other", "MARK"), ("Accept", "application/json;MARK"), ("Cookie", "MARK=MARK")]
    for method in ("GET", "HEAD", "OPTIONS", "BREW"):
        for headers in (marked, marked[1:]):  # with the Origin it is refused for that
            response = get(target, *headers, method=method)
            assert b"MARK" not in response.raw_head
    response = get("/events", ALICE, ("Last-Event-ID", "MARK"))
    assert response.status == 200 and b"MARK" not in response.raw_head


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ("heartbeat=often", "bad_heartbeat"),
        ("last_event_id=a&last_event_id=b", "ambiguous_cursor"),
        ("last_event_id=a&lastEventId=b", "ambiguous_cursor"),
    ],
)
def test_parameters_that_cannot_be(get: Get, parameters: str, code: str) -> None:
    assert refusal(get(f"/events?public_key=a&{parameters}")) == (400, code)


KEY = b"Host: localhost\r\nX-Public-Key: a\r\n"
MALFORMED = {
    "no line": b"\0\1\2\r\n\r\n",
    "no version": b"GET /events\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET /events HTTP/1.1\r\nX-Public-Key: a\r\n\r\n",
    "too many parameters": b"GET /events?" + b"a=1&" * 1500 + b" HTTP/1.1\r\n" + KEY + b"\r\n",
    "two lengths": b"GET /events HTTP/1.1\r\n" + KEY + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
    "a large body": b"GET /events HTTP/1.1\r\n" + KEY + b"Content-Length: 300000\r\n\r\n",
    "a form that is none": b"POST /events HTTP/1.1\r\n"
    + KEY
    + b"Content-Type: multipart/form-data\r\nContent-Length: 3\r\n\r\nabc",
    "a filter that is not UTF-8": b"GET /events?types=%FF HTTP/1.1\r\n" + KEY + b"\r\n",
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_requests(daemon: RunningDaemon, kind: str) -> None:
    """400 and the end, and no traceback: the daemon's log is looked at when it stops."""
    with Client(daemon.http_port) as client:
        client.socket.sendall(MALFORMED[kind])
        assert re.match(rb"HTTP/1.1 400 ", client.to_end())


def test_a_request_whose_header_is_too_large_is_cut(daemon: RunningDaemon) -> None:
    with Client(daemon.http_port) as client:
        client.socket.sendall(b"GET /events HTTP/1.1\r\n" + KEY + b"A: " + b"x" * 16384)
        assert client.to_end() == b""


@pytest.mark.parametrize("body", [b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"])
def test_a_question_with_a_body_is_refused(daemon: RunningDaemon, body: bytes) -> None:
    with Client(daemon.http_port) as client:
        client.socket.sendall(b"GET /events HTTP/1.1\r\n" + KEY + body)
        response = Response(client)
        assert (response.status, response.json()["error"]) == (400, "body_refused")
        assert client.to_end() == b""


# Beyond the request -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stray", [b"x", b"GET /events HTTP/1.1\r\n\r\n"])
def test_a_stray_byte_on_an_open_stream_ends_it(get: Get, daemon: RunningDaemon, until_blocking: Until, stray: bytes) -> None:
    stream = get("/events", ("X-Public-Key", "chatty"))
    stream.next()
    (client,) = admin(daemon.admin, "GET", "/clients?participant=chatty")["clients"]
    stream.client.socket.sendall(stray)
    assert stream.client.to_end() == b""  # no reset either: that would have raised

    def reason() -> Any:
        closed = admin(daemon.admin, "GET", "/clients?closed=1&participant=chatty")["clients"]
        return next((row["reason"] for row in closed if row["id"] == client["id"]), None)

    assert until_blocking(reason) == "protocol"


def test_a_stray_byte_right_behind_the_request_gets_no_stream(daemon: RunningDaemon) -> None:
    with Client(daemon.http_port) as client:
        client.socket.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\nX-Public-Key: hasty\r\n\r\nx")
        client.to_end()
    assert admin(daemon.admin, "GET", "/clients?participant=hasty")["clients"] == []


def test_a_client_that_leaves_is_forgotten(get: Get, daemon: RunningDaemon, until_blocking: Until) -> None:
    stream = get("/events", ("X-Public-Key", "leaver"))
    stream.next()
    stream.client.socket.close()
    until_blocking(lambda: admin(daemon.admin, "GET", "/clients?participant=leaver")["clients"] == [])


def test_health_and_readiness(get: Get) -> None:
    for target, body in (("/healthz", {"alive": True}), ("/readyz", {"ready": True})):
        response = get(target)
        assert (response.status, response.json()) == (200, body)
        assert get(target, method="HEAD").status == 200


def test_the_browsers_client_is_there_for_everybody_and_is_asked_for_once(daemon: RunningDaemon) -> None:
    with Client(daemon.http_port) as client:
        first = client.get("/client.js")
        assert (first.status, first.body()) == (200, (ROOT / "sse_daemon" / "web" / "client.js").read_bytes())
        assert first.header("Content-Type") == "text/javascript; charset=utf-8"
        assert (first.header("Cache-Control"), first.header("X-Content-Type-Options")) == ("no-cache", "nosniff")
        again = client.get("/client.js", ("If-None-Match", first.header("Etag") or ""))
        assert again.status == 304  # and nothing behind its head, or the next answer would not be understood
        assert client.get("/client.js", ("If-None-Match", '"another"')).status == 200
    for target in ("/clientXjs", "/client.js/", "/web/client.js", "/client.js%00"):
        with Client(daemon.http_port) as client:
            assert client.get(target).status == 404


def test_json_answers_keep_the_connection(daemon: RunningDaemon) -> None:
    with Client(daemon.http_port) as client:
        for _ in range(3):
            assert client.get("/events", ALICE, ("Accept", "application/json")).json()["events"] == []
            assert client.get("/healthz").json() == {"alive": True}


# Too many, and going away -----------------------------------------------------------------------------------------------------

ONE = """
[streams]
max_streams = 1
"""


@pytest.fixture(scope="module")
def full(door: str) -> Iterator[RunningDaemon]:
    """A daemon that has as many streams as it takes."""
    with RunningDaemon(ONE) as daemon, Client(daemon.http_port) as client:
        client.get("/events", ("X-Public-Key", "first")).next()
        yield daemon


def sent_away(response: Response, reason: str) -> int:
    """The retry of a stream that consists of `bye`, in milliseconds."""
    assert response.status == 200
    assert response.header("Content-Type") == "text/event-stream; charset=utf-8"
    assert response.header("Cache-Control") == "no-store"
    found = re.fullmatch(rb'retry: (\d+)\nevent: bye\ndata: {"reason":"%b"}\n\n' % reason.encode(), response.client.to_end())
    assert found
    return int(found[1])


def test_too_many_streams(get: Get, full: RunningDaemon) -> None:
    """A browser's EventSource would never come back after another status than 200; who comes back too early gets it anyway."""
    turned = [sent_away(get("/events", ("X-Public-Key", f"late-{i}"), SSE, of=full), "overload") for i in range(12)]
    assert len(set(turned)) > 1, "their retry is not spread"
    assert max(turned) > 3000, "it is no wider than the usual one"
    for _ in range(2):
        early = get("/events", ("X-Public-Key", "late-1"), SSE, of=full)
        assert 1 <= int(early.header("Retry-After") or "") <= 60
        assert refusal(early) == (503, "overloaded")


@pytest.mark.parametrize("accept", [None, "*/*", "text/html"])
def test_too_many_streams_for_others_than_browsers(get: Get, full: RunningDaemon, accept: str | None) -> None:
    headers = [] if accept is None else [("Accept", accept)]
    response = get("/events", ("X-Public-Key", "other"), *headers, of=full)
    assert int(response.header("Retry-After") or "") >= 1
    assert refusal(response) == (503, "overloaded")


def test_too_many_streams_is_said_in_any_case_of_letters(get: Get, full: RunningDaemon) -> None:
    sent_away(get("/events", ("X-Public-Key", "upper"), ("Accept", "Text/Event-Stream"), of=full), "overload")


def test_too_many_streams_leave_room_for_everything_else(get: Get, full: RunningDaemon) -> None:
    assert refusal(get("/events", ("X-Public-Key", "x"), ("Accept", "application/json"), of=full)) == (503, "overloaded")
    assert get("/readyz", of=full).status == 200
    assert refusal(get("/events", SSE, of=full)) == (401, "participant_required")


def test_drain(get: Get) -> None:
    with RunningDaemon() as daemon:
        streams = [get("/events", ("X-Public-Key", f"p{i}"), of=daemon) for i in range(12)]
        for stream in streams:
            stream.next()
        admin(daemon.admin, "POST", "/drain", over=0)
        farewells = [stream.rest() for stream in streams]
        assert {(m.type, m.data) for (m,) in farewells} == {("bye", '{"reason":"drain"}')}
        retries = {stream.parser.retry for stream in streams}
        assert len(retries) > 1 and max(r or 0 for r in retries) > 3000
        # Whoever comes now is sent away, once; the next time it is told with a status.
        sent_away(get("/events", ("X-Public-Key", "p1"), SSE, of=daemon), "drain")
        early = get("/events", ("X-Public-Key", "p1"), SSE, of=daemon)
        assert int(early.header("Retry-After") or "") >= 1
        assert early.status == 503
        poll = get("/events", ("X-Public-Key", "p1"), ("Accept", "application/json"), of=daemon)
        assert poll.status == 503
        assert get("/healthz", of=daemon).status == 200


def test_sigterm_says_bye_to_everybody(get: Get) -> None:
    with RunningDaemon() as daemon:
        streams = [get("/events", ("X-Public-Key", f"p{i}"), of=daemon, version=v) for i, v in enumerate(["1.1", "1.1", "1.0"])]
        for stream in streams:
            stream.blocks(1)
        daemon.signal(signal.SIGTERM)
        for stream in streams[:2]:
            assert [(m.type, m.data) for m in stream.rest()[1:]] == [("bye", '{"reason":"drain"}')]
        assert re.fullmatch(rb'retry: \d+\nevent: bye\ndata: {"reason":"drain"}\n\n', streams[2].client.to_end())
        assert daemon.wait() == 0


def test_not_ready_while_it_drains(get: Get) -> None:
    with RunningDaemon("[streams]\nsend_buffer = 4096\n[daemon]\ndrain_time = 20\n") as daemon, ExitStack() as stack:
        prober = stack.enter_context(Client(daemon.http_port))
        assert prober.get("/readyz").json() == {"ready": True}
        # A client that does not read keeps the daemon from ending.
        stuck = Client(daemon.http_port, buffer=4096)
        with stuck, Publisher(daemon.acked) as publisher:
            stuck.get("/events", ("X-Public-Key", "stuck")).next()
            publisher.event("x" * 1_000_000, to=["stuck"])
            daemon.signal(signal.SIGTERM)
            response = prober.get("/readyz")
            while response.status == 200:
                response = prober.get("/readyz")
            assert (response.status, response.json()["error"]) == (503, "not_ready")
        assert daemon.wait() == 0
