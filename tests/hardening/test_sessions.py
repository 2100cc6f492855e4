"""Sessions: what a cookie opens, for whom, from where and for how long."""

from __future__ import annotations

import re

import pytest

from tests.hardening.pages import LISTED, LISTING, NOT_OURS, SAME
from tests.hardening.signing import ALICE, BOB, Key, Visitor, code, host_of, signed
from tests.integration.client import Header, Response
from tests.integration.daemon import RunningDaemon

DOORS = True
CONFIG = LISTING


def opened(visitor: Visitor, key: Key = ALICE, *more: Header) -> Response:
    return visitor.sign(key, "/session", *more, method="POST")


def cookie(response: Response) -> Header:
    """The header by which a browser sends back what was set."""
    assert response.status == 200, response.json()
    return ("Cookie", (response.header("Set-Cookie") or "").partition(";")[0])


def test_a_signed_post_sets_a_cookie_that_only_a_browser_can_use(visitor: Visitor) -> None:
    response = opened(visitor)
    assert response.json() == {"participant": ALICE.public, "seconds": 900.0}
    value = response.header("Set-Cookie") or ""
    assert re.fullmatch(
        r"__Host-sse-daemon=[\w-]{43}; Path=/; Max-Age=900; Secure; HttpOnly; SameSite=Strict", value, re.ASCII
    ), value
    assert response.header("Cache-Control") == "no-store"


@pytest.mark.parametrize("origin", [SAME, ("Origin", LISTED), ("Origin", "own")])
def test_the_cookie_opens_its_keys_stream(visitor: Visitor, daemon: RunningDaemon, origin: Header) -> None:
    if origin[1] == "own":
        origin = ("Origin", f"https://{host_of(daemon)}")
    stream = visitor.ask("/events", cookie(opened(visitor)), origin)
    assert stream.status == 200
    assert ALICE.public in stream.next()[0].data
    if origin[0] == "Origin" and origin[1] == LISTED:
        assert stream.header("Access-Control-Allow-Origin") == LISTED
        assert stream.header("Access-Control-Allow-Credentials") == "true"


@pytest.mark.parametrize("headers", NOT_OURS)
def test_no_other_page_can_use_it(visitor: Visitor, headers: list[Header]) -> None:
    assert visitor.refused("/events", cookie(opened(visitor)), *headers) == (403, "origin_refused")


@pytest.mark.parametrize("target", ["/session", "/events"])
def test_listed_pages_may_sign_and_others_may_not(visitor: Visitor, target: str) -> None:
    asked = ("Access-Control-Request-Method", "POST")
    allowed = visitor.ask(target, ("Origin", LISTED), asked, method="OPTIONS")
    assert allowed.status == 204 and allowed.header("Access-Control-Allow-Origin") == LISTED
    assert {"X-Public-Key", "Signature", "Signature-Input"} <= {
        *(allowed.header("Access-Control-Allow-Headers") or "").split(", ")
    }
    assert ("POST" in (allowed.header("Access-Control-Allow-Methods") or "")) == (target == "/session")
    refused = visitor.ask(target, ("Origin", "https://evil.example"), asked, method="OPTIONS")
    assert refused.header("Access-Control-Allow-Headers") is None


def test_a_session_is_not_opened_without_a_signature_for_it(visitor: Visitor, daemon: RunningDaemon) -> None:
    assert code(visitor.ask("/session", method="POST")) == (401, "signature_required")
    own = cookie(opened(visitor))
    assert code(visitor.ask("/session", own, SAME, method="POST")) == (401, "signature_required")
    for headers in (signed(ALICE, "/session", host=host_of(daemon)), signed(ALICE, host=host_of(daemon), method="POST")):
        assert code(visitor.ask("/session", *headers, method="POST")) == (401, "bad_signature")
    assert code(opened(visitor, ALICE, ("Origin", "https://evil.example"))) == (403, "origin_refused")
    wrong = visitor.ask("/session")
    assert (wrong.status, wrong.json()["detail"]) == (405, f"this route answers {wrong.header('Allow')}")
    headers = signed(ALICE, "/session", host=host_of(daemon), method="POST")
    assert visitor.ask("/session", *headers, method="POST").status == 200
    assert code(visitor.ask("/session", *headers, method="POST")) == (401, "replayed")


def test_a_cookie_speaks_for_its_key_only(visitor: Visitor) -> None:
    own = cookie(opened(visitor))
    assert visitor.ask(f"/events?public_key={ALICE.public}", own, SAME).status == 200
    conflict = (400, "conflicting_participant")
    assert visitor.refused(f"/events?public_key={BOB.public}", own, SAME) == conflict
    assert visitor.refused("/events", own, SAME, ("X-Public-Key", BOB.public)) == conflict
    stream = visitor.sign(BOB, "/events", own, SAME)
    assert BOB.public in stream.next()[0].data


@pytest.mark.parametrize("form", ["{0}; {0}", "{0}; {1}", "{0};{1}"])
def test_two_sessions_are_none(visitor: Visitor, form: str) -> None:
    first, second = cookie(opened(visitor))[1], cookie(opened(visitor, BOB))[1]
    assert visitor.refused("/events", ("Cookie", form.format(first, second)), SAME) == (400, "ambiguous_session")
    assert visitor.refused("/events", ("Cookie", first), ("Cookie", second), SAME) == (400, "ambiguous_session")


@pytest.mark.parametrize("value", ["", "A" * 43, "A" * 42, "A" * 5000, "é" * 43, '"quoted"'])
def test_what_is_no_token_opens_nothing(visitor: Visitor, value: str) -> None:
    assert visitor.refused("/events", ("Cookie", f"__Host-sse-daemon={value}"), SAME) == (401, "session_over")


def test_a_cookie_is_for_the_daemons_own_names(visitor: Visitor) -> None:
    assert visitor.refused("/events", cookie(opened(visitor)), SAME, host="192.0.2.1:1") == (421, "wrong_authority")


def test_a_kick_ends_sessions_and_their_streams(visitor: Visitor, daemon: RunningDaemon) -> None:
    kicked, other = cookie(opened(visitor)), cookie(opened(visitor, BOB))
    stream = visitor.ask("/events", kicked, SAME)
    assert daemon.command("kick", "--participant", bytes(ALICE.secret.verify_key).hex()).returncode == 0
    assert stream.rest()[-1].type == "bye"
    assert visitor.refused("/events", kicked, SAME) == (401, "session_over")
    assert visitor.ask("/events", other, SAME).status == 200
    assert visitor.ask("/events", cookie(opened(visitor)), SAME).status == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_a_session_and_its_streams_have_an_end(workers: int) -> None:
    config = f"[auth]\nsession_lifetime = 2\n[daemon]\nworkers = {workers}\n"
    with RunningDaemon(config, dev=False) as daemon, Visitor(daemon) as visitor:
        first = cookie(opened(visitor))
        streams = [visitor.ask("/events", first, SAME) for _ in range(4)]
        assert {stream.rest()[-1].type for stream in streams} == {"bye"}
        assert visitor.refused("/events", first, SAME) == (401, "session_over")
        assert visitor.ask("/events", cookie(opened(visitor)), SAME).status == 200
        assert daemon.ask("stats")["metrics"]["sessions"] == 1


def test_the_table_is_bounded() -> None:
    with RunningDaemon("[auth]\nmax_sessions = 1\n", dev=False) as daemon, Visitor(daemon) as visitor:
        assert opened(visitor).status == 200
        assert code(opened(visitor, BOB)) == (503, "sessions_full")


def test_no_secret_is_written_anywhere() -> None:
    with RunningDaemon('[log]\nlevel = "debug"\n', dev=False) as daemon, Visitor(daemon) as visitor:
        own = cookie(opened(visitor))
        assert visitor.ask("/events", own, SAME).status == 200
        headers = signed(ALICE, host=host_of(daemon))
        assert visitor.ask("/events", *headers).status == 200
        visitor.ask("/events", *headers)
        everything = daemon.log() + daemon.command("stats").stdout + daemon.command("clients").stdout
        for secret in (own[1].partition("=")[2], dict(headers)["Signature"], dict(headers)["Signature-Input"][-80:]):
            assert secret not in everything


def test_where_clients_are_believed_there_are_no_sessions() -> None:
    with RunningDaemon() as daemon, Visitor(daemon) as visitor:
        assert code(opened(visitor)) == (404, "not_found")
