"""Mode "hook": nobody is anybody unless the application says so, just now and clearly, and it is never asked more than it may be."""

from __future__ import annotations

import datetime
import ipaddress
import itertools
import json
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.hardening.application import Application, Asked, Piece, answer, by_token, named
from tests.hardening.signing import ALICE, Visitor, host_of
from tests.integration.client import Client, Header, Publisher, Response
from tests.integration.daemon import ROOT, RunningDaemon

DOORS = True
LISTED = "https://app.example.org"
CONFIG = f"""
[http]
cors_origins = ["{LISTED}"]
[streams]
open_rate = 0
[[stream]]
path = "/open"
anonymous = "public"
[[stream]]
path = "/public"
participant = "none"
"""
SAME: Header = ("Sec-Fetch-Site", "same-origin")
EVENTS: Header = ("Accept", "text/event-stream")
AWAY = (503, "auth_unavailable")

Until = Callable[..., Any]
_numbers = itertools.count(1)


def fresh(name: str) -> str:
    """A token of `name` that nobody had before."""
    return f"{name}.{next(_numbers)}"


def bearer(token: str) -> Header:
    return ("Authorization", f"Bearer {token}")


@pytest.fixture(scope="module")
def app() -> Iterator[Application]:
    with Application() as app:
        yield app


@pytest.fixture(scope="module")
def daemon(app: Application) -> Iterator[RunningDaemon]:
    with RunningDaemon(app.config(hook_timeout=1.0) + CONFIG, dev=False) as daemon:
        yield daemon


@pytest.fixture
def visitor(app: Application, daemon: RunningDaemon, door: str) -> Iterator[Visitor]:
    app.answers = by_token
    app.go.clear()
    with Visitor(daemon, door) as visitor:
        yield visitor
    app.go.set()


def code(response: Response) -> tuple[int, str]:
    return response.status, response.json()["error"] if response.status != 200 else ""


def outcomes(daemon: RunningDaemon) -> dict[str, float]:
    return dict(daemon.ask("stats")["metrics"]["hook_questions_total"])


# Who is told what


def test_who_is_named_gets_its_own_events(visitor: Visitor, daemon: RunningDaemon) -> None:
    assert daemon.ready["auth"] == "hook"
    alice, bob = visitor.ask("/events", bearer(fresh("alice"))), visitor.ask("/events", bearer(fresh("bob")))
    assert alice.status == bob.status == 200
    with Publisher(daemon.acked) as publisher:
        publisher.event("for bob", to=["bob"])
        last = publisher.event("for alice", to=["alice"])
        end = publisher.event("for all", to="*")
    assert [message.data for message in alice.until(last)][1:] == ["for alice"]
    assert [message.data for message in bob.until(end)][1:] == ["for bob", "for all"]


def test_the_application_is_told_a_short_list(visitor: Visitor, app: Application, daemon: RunningDaemon) -> None:
    token = fresh("alice")
    secret: Header = ("X-Secret", "s")
    spoofed = [
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Forwarded-Uri", "/admin"),
        ("X-Real-IP", "10.0.0.1"),
        ("Accept-Encoding", "gzip"),
    ]
    cookie: Header = ("Cookie", "session=\xe9; b")
    visitor.ask("/events?a=%0d%0ab&c", bearer(token), cookie, secret, SAME, *spoofed, ("X-Public-Key", "alice"))
    (asked,) = [each for each in app.asked if each.token == token]
    assert asked.target == "/who?x=1"
    assert dict(asked.headers) == {
        "host": app.url.split("/")[2],
        "user-agent": "sse-daemon",
        "accept": "application/json",
        "connection": "close",
        "x-forwarded-method": "GET",
        "x-forwarded-uri": "/events?a=%0d%0ab&c",
        "x-forwarded-host": host_of(daemon),
        "x-forwarded-for": "127.0.0.1",
        "authorization": f"Bearer {token}",
        "cookie": "session=\xe9; b",
    }
    assert len(dict(asked.headers)) == len(asked.headers)


def test_a_long_poll_and_a_head_are_asked_about_too(visitor: Visitor, app: Application) -> None:
    polled, headed = fresh("alice"), fresh("alice")
    assert visitor.ask("/events", bearer(polled), ("Accept", "application/json")).json()["events"] == []
    assert visitor.ask("/events", bearer(headed), method="HEAD").status == 200
    methods = {asked.token: asked.header("X-Forwarded-Method") for asked in app.asked}
    assert (methods[polled], methods[headed]) == ("GET", "HEAD")


def test_where_nobody_is_looked_at_nobody_is_asked(visitor: Visitor, app: Application) -> None:
    token = fresh("alice")
    assert visitor.ask("/public", bearer(token)).status == 200
    assert visitor.ask("/session", bearer(token), method="POST").status == 404
    assert app.of(token) == 0


# What it may answer


@pytest.mark.parametrize(
    ("status", "refused"), [(401, "participant_required"), (403, "forbidden"), (404, "not_found")], ids=["401", "403", "404"]
)
@pytest.mark.parametrize("target", ["/events", "/open"])
def test_a_refusal_is_passed_on_in_our_words(visitor: Visitor, app: Application, status: int, refused: str, target: str) -> None:
    app.answers = lambda _: [answer(status, "Dear sir", "WWW-Authenticate: Basic realm=sir", "Set-Cookie: sir=1", "X-Sir: 1")]
    response = visitor.ask(target, bearer(fresh("alice")), EVENTS)
    assert code(response) == (status, refused)
    assert b"sir" not in response.raw_head.lower() + json.dumps(response.headers).encode().lower()
    if status == 404:  # as if there were no such route
        other = visitor.ask("/nowhere", EVENTS)
        assert (other.status, other.json()) == (404, {"error": "not_found", "detail": "there is no such route"})


@pytest.mark.parametrize("said", [answer(204), named(None), answer(200, "{}"), answer(200, '{"max_age":9}')])
def test_nobody_gets_what_anybody_may_have(visitor: Visitor, app: Application, daemon: RunningDaemon, said: bytes) -> None:
    app.answers = lambda _: [said]
    assert visitor.refused("/events", bearer(fresh("x"))) == (401, "participant_required")
    assert visitor.refused("/open?public_key=alice", bearer(fresh("x"))) == (401, "participant_required")
    stream = visitor.ask("/open", bearer(fresh("x")))
    assert stream.status == 200
    with Publisher(daemon.acked) as publisher:
        publisher.event("for x", to=["x"])
        last = publisher.event("for all", to="*")
    assert [message.data for message in stream.until(last)][1:] == ["for all"]


def chunked(count: int) -> Iterator[Piece]:
    """A body of so many chunks of 64 KiB."""
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for _ in range(count):
        yield b"10000\r\n" + b" " * 65536 + b"\r\n"
    yield b"0\r\n\r\n"


BAD: dict[str, Callable[[], Iterable[Piece]]] = {
    **{
        str(status): (lambda status=status: [answer(status, '{"participant":"alice"}')])
        for status in (100, 201, 304, 400, 418, 500, 503)
    },  # type: ignore[misc]
    **{
        text[:40]: (lambda text=text: [answer(200, text)])  # type: ignore[misc]
        for text in (
            "",
            "alice",
            '"alice"',
            '["alice"]',
            '{"participant":"alice"',
            '{"participant":"alice"} x',
            '{"participant":"alice","participant":"bob"}',
            '{"participant":"alice","max_age":9,"max_age":1}',
            '{"participant":"alice","role":"admin"}',
            '{"Participant":"alice"}',
            '{"participant":1}',
            '{"participant":["alice"]}',
            '{"participant":""}',
            '{"participant":"*"}',
            '{"participant":"al ice"}',
            '{"participant":"al\\nice"}',
            '{"participant":"al\\r\\nX-Y: 1"}',
            '{"participant":"alice\\u0000"}',
            '{"participant":"al\x00ice"}',
            '{"participant":"\\u00e9"}',
            '{"participant":"\\ud800"}',
            '{"participant":"' + "k" * 257 + '"}',
            '{"participant":"alice","max_age":0}',
            '{"participant":"alice","max_age":-1}',
            '{"participant":"alice","max_age":true}',
            '{"participant":"alice","max_age":"9"}',
            '{"participant":"alice","max_age":null}',
            '{"participant":"alice","max_age":NaN}',
            '{"participant":"alice","max_age":1e999}',
            "[" * 5000,
        )
    },
    "not UTF-8": lambda: [answer(200, b'{"participant":"\xff"}')],
    "compressed": lambda: [answer(200, b"\x1f\x8b\x08\x00", "Content-Encoding: gzip")],
    "too long": lambda: [answer(200, b'{"participant":"alice"}' + b" " * 16384)],
    "10 MB": lambda: [answer(200, b'{"participant":"alice"}' + b" " * 10_000_000)],
    "10 MB in chunks": lambda: chunked(160),
    "10 MB until the end": lambda: [b"HTTP/1.1 200 OK\r\n\r\n", b" " * 10_000_000],
    "10 MB of head": lambda: [b"HTTP/1.1 200 OK\r\n", *(b"X-%d: %s\r\n" % (n, b"y" * 1000) for n in range(10_000))],
    "half of it": lambda: [answer(200, '{"participant":"alice"}', length=1000)],
    "nothing": list,
    "another protocol": lambda: [b"SSH-2.0-x\r\n\r\n"],
    "two lengths": lambda: [answer(200, '{"participant":"alice"}', "Content-Length: 5")],
}


@pytest.mark.parametrize("bad", BAD)
def test_what_names_nobody_clearly_opens_nothing(visitor: Visitor, app: Application, daemon: RunningDaemon, bad: str) -> None:
    before = outcomes(daemon)
    app.answers = lambda _: BAD[bad]()
    response = visitor.ask("/events", bearer(fresh("alice")))
    assert code(response) == AWAY
    assert int(response.header("Retry-After") or 0) > 0
    assert visitor.refused("/open", bearer(fresh("alice")), ("Accept", "application/json")) == AWAY
    grown = {name: number - before.get(name, 0) for name, number in outcomes(daemon).items()}
    assert sum(grown.get(name, 0) for name in ("bad_answer", "failed")) == 2
    app.answers = by_token
    assert visitor.ask("/events", bearer(fresh("alice"))).status == 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(visitor: Visitor, app: Application, status: int) -> None:
    def elsewhere(asked: Asked) -> list[Piece]:
        return [named("alice") if asked.target == "/elsewhere" else answer(status, "", "Location: /elsewhere")]

    app.answers = elsewhere
    assert visitor.refused("/events", bearer(fresh("alice"))) == AWAY
    assert "/elsewhere" not in {asked.target for asked in app.asked}


def test_a_browser_is_sent_away_to_come_back(visitor: Visitor, app: Application) -> None:
    """An EventSource would take a 503 for final: it gets `bye`, and 503 only if it does not wait."""
    app.answers = lambda _: [answer(500)]
    first, second = fresh("alice"), fresh("alice")
    for token in (first, second):
        stream = visitor.ask("/events", bearer(token), EVENTS)
        assert stream.status == 200
        (bye,) = stream.client.to_end().split(b"\n\n")[:1]
        assert b"event: bye" in bye and b'"reason":"unavailable"' in bye
        assert b"connected" not in bye
    assert visitor.refused("/events", bearer(first), EVENTS) == AWAY


# An application in trouble


def test_one_that_hangs_holds_nobody_else_up(visitor: Visitor, app: Application, daemon: RunningDaemon) -> None:
    stuck = fresh("stuck")

    def answers(asked: Asked) -> list[Piece]:
        return [app.held, named("stuck")] if asked.token == stuck else by_token(asked)

    app.answers = answers
    before = outcomes(daemon).get("timeout", 0)
    healthy = visitor.ask("/events", bearer(fresh("alice")))
    with Client(daemon.http_port) as waiting, Publisher(daemon.acked) as publisher:
        waiting.ask("/events", bearer(stuck))
        later = visitor.ask("/events", bearer(fresh("alice")))
        last = publisher.event("meanwhile", to=["alice"])
        for stream in (healthy, later):
            assert [message.data for message in stream.until(last)][1:] == ["meanwhile"]
        assert code(Response(waiting)) == AWAY
    assert outcomes(daemon)["timeout"] == before + 1


def test_one_that_dribbles_is_not_waited_for(visitor: Visitor, app: Application, daemon: RunningDaemon) -> None:
    def slowly(asked: Asked) -> Iterator[Piece]:
        for byte in named("alice"):
            yield bytes([byte])
            yield lambda: app.go.wait(0.1) and None

    app.answers = slowly
    before = outcomes(daemon).get("timeout", 0)
    assert visitor.refused("/events", bearer(fresh("alice"))) == AWAY
    assert outcomes(daemon)["timeout"] == before + 1


def test_one_that_dies_keeps_new_ones_out_until_it_is_back(visitor: Visitor, app: Application, daemon: RunningDaemon) -> None:
    stream = visitor.ask("/events", bearer(fresh("alice")))
    app.stop()
    try:
        before = outcomes(daemon).get("failed", 0)
        assert visitor.refused("/events", bearer(fresh("alice"))) == AWAY
        assert outcomes(daemon)["failed"] == before + 1
        assert httpx.get(daemon.http + "/readyz").status_code == 200, "who is there is served"
        with Publisher(daemon.acked) as publisher:
            last = publisher.event("still here", to=["alice"])
        assert [message.data for message in stream.until(last)][1:] == ["still here"]
    finally:
        app.start()
    assert visitor.ask("/events", bearer(fresh("alice"))).status == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_one_that_is_not_there_yet_keeps_the_daemon_unready(until_blocking: Until, workers: int) -> None:
    app = Application()
    app.reserve()
    app.answers = lambda _: [answer(500)]  # anything is a sign of life
    with RunningDaemon(app.config() + f"[daemon]\nworkers = {workers}\n", dev=False) as daemon, Visitor(daemon) as visitor:
        ready = daemon.http + "/readyz"
        assert not daemon.lines("ready")
        (line,) = daemon.lines("started")
        assert line["ready"] == "no" and "hook_url" in line["reason"]
        assert httpx.get(ready).status_code == 503
        assert "hook_url" in httpx.get(ready).json()["detail"]
        stats = daemon.ask("stats")
        assert "hook_url" in stats["not_ready"]
        assert (stats["metrics"]["ready"], stats["metrics"]["hook_waiting"]) == (0.0, workers)
        assert httpx.get(daemon.http + "/healthz").status_code == 200
        assert visitor.refused("/events", bearer("alice.1")) == AWAY
        with app:
            until_blocking(lambda: httpx.get(ready).status_code == 200, "ready")
            until_blocking(lambda: daemon.ask("stats")["metrics"]["hook_waiting"] == 0, "everybody has seen it")
            assert daemon.ask("stats")["not_ready"] is None
            (line,) = until_blocking(lambda: daemon.lines("ready"), "it to be said")
            assert line["http"] == daemon.ready["http"]
            app.answers = by_token
            assert visitor.ask("/events", bearer("alice.1")).status == 200


# How much it is asked


@pytest.mark.parametrize("workers", [1, 2])
def test_a_crowd_asks_no_more_than_it_may(until_blocking: Until, workers: int) -> None:
    with Application() as app, ExitStack() as opened:
        config = app.config(hook_concurrency=2, hook_queue=4, hook_timeout=10) + f"[daemon]\nworkers = {workers}\n"
        daemon = opened.enter_context(RunningDaemon(config, dev=False))
        app.answers = lambda asked: [app.held, *by_token(asked)]
        app.at_once = 0
        crowd = [opened.enter_context(Client(daemon.http_port)) for _ in range(40)]
        for number, client in enumerate(crowd):
            client.ask("/events", bearer(f"p{number}.x"))
        until_blocking(lambda: outcomes(daemon).get("crowded", 0) >= 34, "the others are turned away at once")
        app.go.set()
        ends = [Response(client) for client in crowd]
        served = [end for end in ends if end.status == 200]
        assert len(served) == 6
        assert {code(end) for end in ends if end.status != 200} == {AWAY}
        assert app.at_once <= 2
        app.answers = by_token
        with Visitor(daemon) as visitor:
            assert visitor.ask("/events", bearer("after.1")).status == 200


def test_the_same_question_is_asked_once_at_a_time(
    visitor: Visitor, app: Application, daemon: RunningDaemon, until_blocking: Until
) -> None:
    one, other = fresh("alice"), fresh("bob")
    app.answers = lambda asked: [app.held, *by_token(asked)]
    with ExitStack() as opened:
        clients = [opened.enter_context(Client(daemon.http_port)) for _ in range(11)]
        for client in clients[:-1]:
            client.ask("/events", bearer(one), host=host_of(daemon))
        clients[-1].ask("/events", bearer(other), host=host_of(daemon))
        until_blocking(lambda: app.of(one) and app.of(other), "both questions")
        app.go.set()
        streams = [Response(client) for client in clients]
        assert {stream.next()[0].data.partition('"participant":')[2] for stream in streams[:-1]} == {'"alice"}'}
        assert '"participant":"bob"' in streams[-1].next()[0].data
    assert (app.of(one), app.of(other)) == (1, 1)


def test_who_asks_too_fast_asks_later() -> None:
    with Application() as app:
        config = app.config(verify_rate_address=1) + "[http]\nshared_addresses = []\n"
        with RunningDaemon(config, dev=False) as daemon, Visitor(daemon) as visitor:
            got = [visitor.ask("/events", bearer(f"alice.{n}"), source="127.0.0.2") for n in range(6)]
            assert (429, "too_many_questions") in [code(each) for each in got]
            assert visitor.ask("/events", bearer("alice.0"), source="127.0.0.2").status == 200, "nobody has to be asked"
            assert visitor.ask("/events", bearer("alice.9"), source="127.0.0.3").status == 200


# What is remembered


def test_an_answer_is_good_for_the_same_question_for_a_moment(visitor: Visitor, app: Application) -> None:
    token = fresh("alice")
    for _ in range(3):
        assert visitor.ask("/events", bearer(token)).status == 200
    assert app.of(token) == 1
    assert visitor.ask("/events?types=a", bearer(token)).status == 200
    assert visitor.ask("/events", bearer(token), method="HEAD").status == 200
    assert visitor.ask("/events", bearer(token), host="localhost").status == 200
    assert visitor.ask("/events", bearer(token), ("Cookie", "other=1"), SAME).status == 200
    assert visitor.ask("/events", bearer(token), source="127.0.0.4").status == 200
    assert app.of(token) == 6, "each of these is another question"


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ([("Cookie", "session=alice.A")], [("Cookie", "session=bob.A")]),
        ([("Cookie", "session=alice.B")], [bearer("bob.B")]),
        ([bearer("alice.C")], [bearer("alice.C1")]),
        ([bearer("alice.D"), ("Cookie", "c")], [bearer("alice.D"), ("Cookie", "d")]),
        ([bearer("alice.E")], [bearer("alice.E"), ("Cookie", "")]),
        ([], [bearer("alice.F")]),
    ],
)
def test_an_answer_is_for_nobody_elses_cookie(
    visitor: Visitor, app: Application, door: str, mine: list[Header], theirs: list[Header]
) -> None:
    """Each question gets a name of its own: who is given the name of another question was given its answer."""

    def answers(asked: Asked) -> list[Piece]:
        return [named(f"q{len(app.asked)}")]

    app.answers = answers
    target = f"/open?x={door}"
    first = visitor.ask(target, *mine, SAME).next()[0].data
    second = visitor.ask(target, *theirs, SAME).next()[0].data
    assert json.loads(first)["participant"] != json.loads(second)["participant"]
    again = visitor.ask(target, *mine, SAME).next()[0].data
    assert json.loads(again)["participant"] == json.loads(first)["participant"]


def test_who_has_just_logged_in_is_not_kept_out_by_an_older_answer(visitor: Visitor, app: Application) -> None:
    token = fresh("alice")
    for said, expected in ((answer(401), 401), (answer(403), 403), (answer(404), 404), (named(None), 401), (answer(500), 503)):
        app.answers = lambda _, said=said: [said]  # type: ignore[misc]
        assert visitor.ask("/events", bearer(token)).status == expected
    app.answers = by_token
    assert visitor.ask("/events", bearer(token)).status == 200


def test_what_is_remembered_is_forgotten(until_blocking: Until) -> None:
    with Application() as app:
        with RunningDaemon(app.config(hook_cache=0.2), dev=False) as daemon, Visitor(daemon) as visitor:
            assert visitor.ask("/events", bearer("alice.1")).status == 200
            until_blocking(
                lambda: visitor.ask("/events", bearer("alice.1")).status == 200 and app.of("alice.1") > 1, "asked anew"
            )
        with RunningDaemon(app.config(hook_cache=0), dev=False) as daemon, Visitor(daemon) as visitor:
            for _ in range(3):
                assert visitor.ask("/events", bearer("alice.2")).status == 200
            assert app.of("alice.2") == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_who_is_kicked_is_asked_about_anew(workers: int) -> None:
    with Application() as app:
        config = app.config(hook_cache=60) + f"[daemon]\nworkers = {workers}\n"
        with RunningDaemon(config, dev=False) as daemon, Visitor(daemon) as visitor:
            streams = [visitor.ask("/events", bearer("alice.1")) for _ in range(8)]
            other = visitor.ask("/events", bearer("bob.1"))
            assert {stream.status for stream in (*streams, other)} == {200}
            app.answers = lambda _: [answer(403)]
            assert len(daemon.ask("kick", "--participant", "alice")["closed"]) == 8
            assert {stream.rest()[-1].type for stream in streams} == {"bye"}
            assert {visitor.refused("/events", bearer("alice.1")) for _ in range(8)} == {(403, "forbidden")}


def test_what_was_asked_before_a_kick_is_asked_again(
    visitor: Visitor, app: Application, daemon: RunningDaemon, until_blocking: Until
) -> None:
    token = fresh("carol")
    said = [named("carol"), answer(403)]

    def answers(asked: Asked) -> list[Piece]:
        return [app.held, said.pop(0)]

    app.answers = answers
    with Client(daemon.http_port) as waiting:
        waiting.ask("/events", bearer(token))
        until_blocking(lambda: app.of(token) == 1, "the question")
        daemon.command("kick", "--participant", "carol")  # who has no stream yet
        app.go.set()
        assert code(Response(waiting)) == (403, "forbidden")


def test_a_stream_ends_and_its_client_is_asked_about_again(visitor: Visitor, app: Application) -> None:
    token = fresh("alice")
    app.answers = lambda _: [named("alice", max_age=0.5)]
    stream = visitor.ask("/events", bearer(token))
    assert stream.rest()[-1].type == "bye"
    app.answers = lambda _: [answer(401)]
    assert visitor.refused("/events", bearer(token)) == (401, "participant_required")


def test_no_answer_holds_for_longer_than_the_daemon_says() -> None:
    with Application() as app:
        app.answers = lambda _: [named("alice", max_age=1e9)]
        with RunningDaemon(app.config(hook_lifetime=1), dev=False) as daemon, Visitor(daemon) as visitor:
            assert visitor.ask("/events", bearer("alice.1")).rest()[-1].type == "bye"
        app.answers = lambda _: [named(None)]
        with RunningDaemon(app.config(hook_lifetime=1) + CONFIG, dev=False) as daemon, Visitor(daemon) as visitor:
            assert visitor.ask("/open").rest()[-1].type == "bye", "anonymous ones too: they may have logged in"


# Two claims


@pytest.mark.parametrize("target", ["/events", "/open"])
def test_a_claim_beside_the_answer_is_the_same_or_refused(visitor: Visitor, app: Application, target: str) -> None:
    token = fresh("alice")
    conflict = (400, "conflicting_participant")
    assert visitor.ask(f"{target}?public_key=alice", bearer(token)).status == 200
    assert visitor.ask(target, bearer(token), ("X-Public-Key", "alice")).status == 200
    assert visitor.refused(target, bearer(token), ("X-Public-Key", "bob")) == conflict
    assert visitor.refused(f"{target}?public_key=bob", bearer(token)) == conflict
    asked = len(app.asked)
    for headers in ([("X-Public-Key", "alice"), ("X-Public-Key", "alice")], [("X-Public-Key", "al ice")]):
        assert visitor.ask(target, bearer(fresh("alice")), *headers).status == 400
    assert visitor.refused(f"{target}?public_key=alice&public_key=bob", bearer(token)) == (400, "ambiguous_participant")
    assert len(app.asked) == asked


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "authorization"])
def test_credentials_that_stand_twice_are_none(visitor: Visitor, app: Application, name: str) -> None:
    asked = len(app.asked)
    twice = [(name, "Bearer alice.1"), (name.title(), "Bearer alice.1")]
    assert visitor.refused("/events", *twice, SAME) == (400, "ambiguous_credentials")
    assert len(app.asked) == asked


@pytest.mark.parametrize("value", ["session=a\x00lice.1", "session=a\x7flice.1", "session=alice.1\n X-Forwarded-For: 1.1.1.1"])
def test_control_characters_never_reach_the_application(visitor: Visitor, app: Application, value: str) -> None:
    asked = len(app.asked)
    assert visitor.ask("/events", ("Cookie", value), SAME).status == 400
    assert len(app.asked) == asked


# Whose page


@pytest.mark.parametrize("origin", [SAME, ("Origin", LISTED), ("Origin", "own"), ("Origin", "own, not encrypted")])
def test_a_cookie_counts_from_own_and_listed_pages(visitor: Visitor, daemon: RunningDaemon, origin: Header) -> None:
    if origin[1].startswith("own"):
        origin = ("Origin", f"{'https' if origin[1] == 'own' else 'http'}://{host_of(daemon)}")
    assert visitor.ask("/events", ("Cookie", f"session={fresh('alice')}"), origin).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Sec-Fetch-Site", "same-site")],
        [("Sec-Fetch-Site", "cross-site")],
        [("Sec-Fetch-Site", "none")],
        [SAME, ("Sec-Fetch-Site", "cross-site")],
        [("Origin", "https://evil.example"), SAME],
        [("Origin", "null"), SAME],
        [("Origin", LISTED), ("Origin", LISTED)],
    ],
)
@pytest.mark.parametrize("target", ["/events", "/open"])
def test_a_cookie_is_of_no_use_to_another_page(visitor: Visitor, app: Application, headers: list[Header], target: str) -> None:
    token = fresh("alice")
    assert visitor.refused(target, ("Cookie", f"session={token}"), *headers) == (403, "origin_refused")
    assert visitor.refused(target, ("Cookie", "a=b"), bearer(token), *headers) == (403, "origin_refused")
    assert app.of(token) == 0


def test_a_preflight_names_what_the_application_is_told() -> None:
    with Application() as app:
        config = app.config(hook_headers=["X-Api-Key"]) + f'[http]\ncors_origins = ["{LISTED}"]\n'
        with RunningDaemon(config, dev=False) as daemon, Visitor(daemon) as visitor:
            asked = ("Access-Control-Request-Method", "GET")
            allowed = visitor.ask("/events", ("Origin", LISTED), asked, method="OPTIONS")
            assert "X-Api-Key" in (allowed.header("Access-Control-Allow-Headers") or "").split(", ")
            app.answers = lambda asked: [named(asked.header("x-api-key"))]
            # What is not passed on plays no part: neither in the question nor where it comes from.
            stream = visitor.ask("/events", ("X-Api-Key", "alice"), ("Cookie", "a=b"), bearer("bob.1"))
            assert '"alice"' in stream.next()[0].data
            assert app.asked[-1].header("Cookie") is app.asked[-1].header("Authorization") is None


# Surroundings


def test_no_secret_is_written_anywhere() -> None:
    with Application() as app, RunningDaemon(app.config() + '[log]\nlevel = "debug"\n', dev=False) as daemon:
        with Visitor(daemon) as visitor:
            for said in (named("alice"), named("sneaky name"), answer(500, "sneaky"), answer(401, "sneaky")):
                app.answers = lambda _, said=said: [said]  # type: ignore[misc]
                visitor.ask("/events", ("Authorization", f"Bearer hush{len(app.asked)}"), ("Cookie", "a=hush"), SAME)
        everything = daemon.log() + daemon.command("stats").stdout + daemon.command("clients").stdout
        assert "hush" not in everything and "sneaky" not in everything
        complaints = daemon.lines("the application does not say who asks")
        assert [line["why"] for line in complaints] == ["bad_answer"], "one line of a kind at a time"


def test_no_proxy_comes_between() -> None:
    nowhere = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    with Application() as app, RunningDaemon(app.config(), dev=False, env=nowhere) as daemon, Visitor(daemon) as visitor:
        assert visitor.ask("/events", bearer("alice.1")).status == 200


def test_it_may_listen_on_a_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = Path(tmp_path_factory.mktemp("app")) / "http.sock"
    with Application(path) as app:
        config = app.config(hook_url="http://app.internal/who", hook_socket=str(path))
        with RunningDaemon(config, dev=False) as daemon, Visitor(daemon) as visitor:
            assert visitor.ask("/events", bearer("alice.1")).status == 200
            assert app.asked[-1].header("Host") == "app.internal"
            app.stop()
            assert visitor.refused("/events", bearer("alice.2")) == AWAY


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate that nobody but its file vouches for, and what a server does with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "application")])
    day, now = datetime.timedelta(days=1), datetime.datetime.now(datetime.UTC)
    built = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now - day, now + day)
    alternative: x509.GeneralName = x509.DNSName(name) if name.isalpha() else x509.IPAddress(ipaddress.ip_address(name))
    built = built.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    path, secret = folder / f"{name}.pem", folder / f"{name}.key"
    path.write_bytes(built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, secret)
    return path, context


@pytest.mark.parametrize(
    ("name", "known", "served"), [("127.0.0.1", True, True), ("127.0.0.1", False, False), ("other", True, False)]
)
def test_by_https_only_who_can_show_that_it_is_the_application(tmp_path: Path, name: str, known: bool, served: bool) -> None:
    path, context = certificate(tmp_path, name)
    trusted = {"SSL_CERT_FILE": str(path)} if known else {}
    with (
        Application(tls=context) as app,
        RunningDaemon(app.config(), dev=False, env=trusted) as daemon,
        Visitor(daemon) as visitor,
    ):
        response = visitor.ask("/events", bearer("alice.1"))
        assert code(response) == ((200, "") if served else AWAY)
        assert app.of("alice.1") == served
        assert (httpx.get(daemon.http + "/readyz").status_code == 200) == served


def test_where_participants_are_keys_it_names_keys() -> None:
    with Application() as app:
        config = app.config() + '[participants]\nkeys = "ed25519"\n'
        with RunningDaemon(config, dev=False) as daemon, Visitor(daemon) as visitor:
            app.answers = lambda _: [named(bytes(ALICE.secret.verify_key).hex())]
            stream = visitor.ask("/events", bearer("a"), ("X-Public-Key", ALICE.public))
            assert ALICE.public in stream.next()[0].data
            app.answers = lambda _: [named("00" * 32)]  # of small order
            assert visitor.refused("/events", bearer("b")) == AWAY


SITE = """
import asyncio
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler, create_signed_value

{handler}

async def main():
    sockets = bind_sockets(0, "127.0.0.1")
    HTTPServer(Application([("/who", Who)], cookie_secret="s")).add_sockets(sockets)
    cookie = create_signed_value("s", "user", "alice").decode()
    print(sockets[0].getsockname()[1], cookie, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_the_readmes_handler_is_all_that_it_needs() -> None:
    (handler,) = re.findall(r"```python\n(class Who.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    with subprocess.Popen([sys.executable, "-c", SITE.format(handler=handler)], stdout=subprocess.PIPE, text=True) as site:
        try:
            assert site.stdout is not None
            port, cookie = site.stdout.readline().split()
            config = f'[auth]\nmode = "hook"\nhook_url = "http://127.0.0.1:{port}/who"\n'
            with RunningDaemon(config, dev=False) as daemon, Visitor(daemon) as visitor:
                stream = visitor.ask("/events", ("Cookie", f"user={cookie}"), SAME)
                assert '"participant":"alice"' in stream.next()[0].data
                assert visitor.refused("/events", ("Cookie", f"user={cookie}0"), SAME) == (401, "participant_required")
        finally:
            site.terminate()


def test_memory_and_files_are_as_before(app: Application, daemon: RunningDaemon, until_blocking: Until) -> None:
    def files() -> int:
        return len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))

    before = files()
    for said in (named("alice"), answer(500), b"", answer(200, b" " * 100_000)):
        app.answers = lambda _, said=said: [said]  # type: ignore[misc]
        for _ in range(50):
            with Visitor(daemon) as visitor:
                visitor.ask("/events", bearer(fresh("alice")))
    until_blocking(lambda: files() <= before + 2, "the files are closed")
