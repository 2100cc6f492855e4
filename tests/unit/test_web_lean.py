"""What the lean door takes, what it leaves untouched, and that its answers are the handlers' answers."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from attrs import evolve

from sse_daemon import web_lean
from sse_daemon.auth import Asking, Grant
from sse_daemon.auth_claim import Claim
from sse_daemon.participant import canonical
from sse_daemon.web_lean import LeanDoor
from tests.unit.web_house import House, answer, get, house

__all__ = ["house"]

Until = Callable[..., Awaitable[Any]]

KEY = "X-Public-Key: a"
PLAIN = {
    "a key": get(KEY),
    "a key in the query": get(target="/events?public_key=a"),
    "who asks for both": get(KEY, "Accept: application/json, text/event-stream"),
    "a browser": get(KEY, "Accept: text/event-stream", "Origin: http://localhost", "Cookie: a=b", "Connection: keep-alive"),
    "a host with a port": get(KEY, host="Host: [::1]:8080"),
    "nobody, to be refused": get(),
}
NOT_PLAIN = {
    "nothing yet": b"",
    "half a head": get(KEY)[:-2],
    "a byte behind the head": get(KEY) + b"x",
    "another request behind it": get(KEY) * 2,
    "what looks like a header behind it": get("Accept: text/event-stream") + b"X-Public-Key: a\r\n",
    "an empty line before it": b"\r\n" + get(KEY),
    "line ends without CR": get(KEY).replace(b"\r\n", b"\n"),
    "one line end without CR": get(KEY).replace(b"\r\nX-", b"\nX-"),
    "no header": b"\0\1\r\n\r\n",
    "a folded header": get(KEY, " more"),
    "a header without a name": get(KEY, ": x"),
    "HTTP/1.0": get(KEY).replace(b"1.1", b"1.0"),
    "HEAD": get(KEY).replace(b"GET", b"HEAD"),
    "POST": get(KEY).replace(b"GET", b"POST"),
    "a body": get(KEY, "Content-Length: 1"),
    "an empty body": get(KEY, "Content-Length: 0"),
    "chunks": get(KEY, "Transfer-Encoding: chunked"),
    "expectations": get(KEY, "Expect: 100-continue"),
    "an upgrade": get(KEY, "Upgrade: h2c"),
    "no host": get(host=KEY),
    "two hosts": get(KEY, "Host: y"),
    "a host that is none": get(KEY, host="Host: x/y"),
    "an empty host": get(KEY, host="Host:"),
    "a long-poll": get(KEY, "Accept: application/json"),
    "no route": get(KEY, target="/other"),
    "a route and more": get(KEY, target="/events/"),
    "a whole URL": get(KEY, target="http://x/events"),
    "more parameters than anybody has": get(KEY, target="/events?" + "a=1&" * 101),
}


def lean(house: House) -> LeanDoor:
    return LeanDoor(house.site, house.loop)


@pytest.mark.parametrize("kind", PLAIN)
async def test_a_plain_request_is_taken_whole(house: House, kind: str, until: Until) -> None:
    house.backend.go.set()
    ours, theirs = house.connection(PLAIN[kind])
    assert lean(house).take(ours, None)
    head = await answer(theirs) if kind.startswith("nobody") else await house.loop.sock_recv(theirs, 65536)
    assert head.startswith(b"HTTP/1.1 401 " if kind.startswith("nobody") else b"HTTP/1.1 200 ")
    assert house.hub.opened == (not kind.startswith("nobody"))


@pytest.mark.parametrize("kind", NOT_PLAIN)
async def test_anything_else_is_left_as_it_came(house: House, kind: str) -> None:
    ours, _ = house.connection(NOT_PLAIN[kind])
    with ours:
        assert not lean(house).take(ours, None)
        if NOT_PLAIN[kind]:
            assert ours.recv(65536) == NOT_PLAIN[kind]


async def test_a_client_that_has_gone_is_left_too(house: House) -> None:
    ours, theirs = house.connection(get(KEY))
    theirs.close()
    ours.recv(65536)
    with ours:
        assert not lean(house).take(ours, None)


async def test_the_accepted_socket_itself_becomes_the_stream(house: House, until: Until) -> None:
    house.backend.go.set()
    ours, _ = house.connection(get(KEY))
    house.http.serve(ours, ("127.0.0.1", 1234))
    await until(lambda: house.hub.streams)
    (stream,) = house.hub.streams.values()
    assert stream.sock is ours
    assert (stream.profile.address, stream.profile.participant) == ("127.0.0.1:1234", "a")


def comparable(answer: bytes) -> tuple[str, set[str], bytes]:
    """Status line, headers in any order, body; without what differs from answer to answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *headers = re.sub(r"(Date|Retry-After|Content-Length): [^\r]*", r"\1", head.decode()).split("\r\n")
    return status, set(headers), re.sub(rb"retry: \d+", b"retry", body)


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*"])
@pytest.mark.parametrize("kind", ["refused", "barred", "overload", "drain", "foreign page"])
async def test_both_doors_say_the_same(house: House, kind: str, accept: str) -> None:
    house.backend.go.set()
    house.config = evolve(house.config, http=evolve(house.config.http, cors_origins=("http://here",)))
    house.door.bars.put("barred", 60)
    house.door.closed_for = kind if kind in ("drain", "overload") else None
    keys = {"refused": "**", "barred": ["barred"] * 2}.get(kind, "ab")  # the same client would be too early the second time
    lines = (f"Origin: http://{'there' if kind == 'foreign page' else 'here'}", "Connection: close")
    plain = await answer(house.ask(keys[0], *lines, accept=accept))
    other = await answer(house.ask(keys[1], *lines, "Content-Length: 0", accept=accept))
    assert comparable(plain) == comparable(other)
    assert ("Access-Control-Allow-Origin: http://here" in comparable(plain)[1]) == (kind != "foreign page")


async def test_a_defect_is_answered_and_logged(house: House, expect_log: Callable[..., Any]) -> None:
    class Broken(Claim):
        async def admit(self, asking: Asking) -> Grant:
            raise KeyError("a defect")

    ours, theirs = house.connection(get(KEY))
    door = LeanDoor(house.site._replace(authenticator=Broken(canonical, False)), house.loop)
    expect_log("sse_daemon.web", "request failed")
    assert door.take(ours, None)
    head, _, body = (await answer(theirs)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ") and json.loads(body)["error"] == "internal"


async def test_whoever_still_waits_when_the_daemon_ends_is_let_go(house: House, until: Until) -> None:
    client = house.ask("a")
    await until(lambda: house.backend.asked)
    await house.http.close_all_connections()
    assert await answer(client) == b""
    assert house.hub.opened == 0


async def test_who_has_not_had_a_turn_by_then_is_let_go_too(house: House) -> None:
    ours, theirs = house.connection(get(KEY))
    house.http.serve(ours, None)
    await house.http.close_all_connections()
    assert await answer(theirs) == b""


async def test_many_that_come_at_once_are_answered_while_one_waits_for_the_log(house: House, until: Until) -> None:
    waiting = house.ask("a")
    await until(lambda: house.backend.asked)
    resumed = [house.ask(f"k{i}", f"Last-Event-ID: {house.hub.incarnation}-0") for i in range(16)]
    await until(lambda: house.hub.opened == 16)
    for client in resumed:
        assert (await house.loop.sock_recv(client, 65536)).startswith(b"HTTP/1.1 200 ")
    with pytest.raises(BlockingIOError):
        waiting.recv(1)


async def test_beyond_so_many_that_wait_the_others_are_sent_away(
    house: House, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_lean, "MAX_ANSWERED", 2)
    waiting = [house.ask(f"w{i}") for i in range(2)]
    await until(lambda: house.backend.asked == 2)
    for key in ("a", "a"):  # nobody knows yet whether these are the same, and a second 503 would be final for a browser
        assert b'"reason":"overload"' in await answer(house.ask(key))
    assert (await answer(house.ask("a", accept="*/*"))).startswith(b"HTTP/1.1 503 ")
    house.backend.go.set()
    await until(lambda: house.hub.opened == 2)
    assert (await house.loop.sock_recv(waiting[0], 65536)).startswith(b"HTTP/1.1 200 ")
    house.ask("b")
    await until(lambda: house.hub.opened == 3)


async def test_who_has_too_many_that_wait_is_left_to_the_server(house: House, until: Until) -> None:
    house.config = evolve(house.config, http=evolve(house.config.http, max_per_address=2))
    door = lean(house)
    taken = [door.take(house.connection(get(KEY))[0], ("192.0.2.1", i)) for i in range(2)]
    (ours, _), (other, _) = house.connection(get(KEY)), house.connection(get(KEY))
    assert taken == [True, True] and not door.take(ours, ("192.0.2.1", 3)) and door.take(other, ("192.0.2.2", 3))
    house.backend.go.set()
    await until(lambda: house.hub.opened == 3)
    assert door.take(ours, ("192.0.2.1", 3))
    await until(lambda: house.hub.opened == 4)
