"""Mode "hook": nobody is anybody unless the application says so, just now and clearly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

import pytest

from tests.hardening.application import AWAY, SETTINGS, Application, Asked, Piece, answer, by_token, fresh, named, outcomes
from tests.hardening.pages import LISTED, LISTING, NOT_OURS, SAME
from tests.hardening.signing import ALICE, Visitor, code, host_of
from tests.hardening.tokens import bearer
from tests.integration.client import Header, Publisher
from tests.integration.daemon import RunningDaemon

DOORS = True
EVENTS: Header = ("Accept", "text/event-stream")

pytestmark = pytest.mark.usefixtures("app")


@pytest.fixture(scope="module")
def daemon(application: Application) -> Iterator[RunningDaemon]:
    with RunningDaemon(application.config(hook_timeout=1.0) + LISTING + SETTINGS, dev=False) as daemon:
        yield daemon


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


def test_where_participants_are_keys_it_names_keys() -> None:
    with Application() as app:
        config = app.config() + '[participants]\nkeys = "ed25519"\n'
        with RunningDaemon(config, dev=False) as daemon, Visitor(daemon) as visitor:
            app.answers = lambda _: [named(bytes(ALICE.secret.verify_key).hex())]
            stream = visitor.ask("/events", bearer("a"), ("X-Public-Key", ALICE.public))
            assert ALICE.public in stream.next()[0].data
            app.answers = lambda _: [named("00" * 32)]  # of small order
            assert visitor.refused("/events", bearer("b")) == AWAY


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


@pytest.mark.parametrize("headers", NOT_OURS)
@pytest.mark.parametrize("target", ["/events", "/open"])
def test_a_cookie_is_of_no_use_to_another_page(visitor: Visitor, app: Application, headers: list[Header], target: str) -> None:
    token = fresh("alice")
    assert visitor.refused(target, ("Cookie", f"session={token}"), *headers) == (403, "origin_refused")
    assert visitor.refused(target, ("Cookie", "a=b"), bearer(token), *headers) == (403, "origin_refused")
    assert app.of(token) == 0


def test_a_preflight_names_what_the_application_is_told() -> None:
    with Application() as app:
        config = app.config(hook_headers=["X-Api-Key"]) + LISTING
        with RunningDaemon(config, dev=False) as daemon, Visitor(daemon) as visitor:
            asked = ("Access-Control-Request-Method", "GET")
            allowed = visitor.ask("/events", ("Origin", LISTED), asked, method="OPTIONS")
            assert "X-Api-Key" in (allowed.header("Access-Control-Allow-Headers") or "").split(", ")
            app.answers = lambda asked: [named(asked.header("x-api-key"))]
            # What is not passed on plays no part: neither in the question nor where it comes from.
            stream = visitor.ask("/events", ("X-Api-Key", "alice"), ("Cookie", "a=b"), bearer("bob.1"))
            assert '"alice"' in stream.next()[0].data
            assert app.asked[-1].header("Cookie") is app.asked[-1].header("Authorization") is None


# What is written down


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
