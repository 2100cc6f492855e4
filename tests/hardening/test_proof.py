"""Proof of possession: who has not signed this very request, just now and once, reads nothing.

The daemon is the real one, without any setting but the ports it listens on; every request comes by both of its doors.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from tests.hardening.signing import ALICE, BOB, Visitor, code, host_of, signed
from tests.integration.client import Header, Publisher
from tests.integration.daemon import RunningDaemon

DOORS = True

HEX = bytes(ALICE.secret.verify_key).hex()
ROUTES = '[[stream]]\npath = "/other"\n'


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    with RunningDaemon(dev=False) as daemon:
        daemon.restart()  # the first of all starts takes nothing that was signed before it
        yield daemon


# Unsigned


def test_without_any_setting_the_mode_is_proof(daemon: RunningDaemon) -> None:
    assert daemon.ready["auth"] == "proof"
    assert daemon.ask("stats")["metrics"]["clients_unproven"] == 0.0


@pytest.mark.parametrize(
    "headers", [[], [("X-Public-Key", ALICE.public)], [("X-Public-Key", HEX)], [("Cookie", "__Host-sse-daemon=" + "A" * 43)]]
)
def test_who_has_not_signed_is_refused(visitor: Visitor, headers: list[Header]) -> None:
    status, error = visitor.refused("/events", *headers, ("Sec-Fetch-Site", "same-origin"))
    assert (status, error) in [(401, "signature_required"), (401, "session_over")]
    assert visitor.refused(f"/events?public_key={ALICE.public}") == (401, "signature_required")
    assert visitor.refused("/events", *headers, ("Accept", "application/json"), ("Sec-Fetch-Site", "same-origin"))[0] == 401
    assert visitor.ask("/events", *headers, ("Sec-Fetch-Site", "same-origin"), method="HEAD").status == 401


def test_who_has_signed_is_served_and_gets_its_own_events(visitor: Visitor, daemon: RunningDaemon) -> None:
    stream = visitor.sign(ALICE)
    assert stream.status == 200
    assert stream.header("Sse-Daemon-Auth") is None
    (connected,) = stream.next()
    assert ALICE.public in connected.data
    with Publisher(daemon.acked) as publisher:
        publisher.event("not yours", to=[BOB.public])
        last = publisher.event("yours", to=[HEX])
    assert [message.data for message in stream.until(last)] == ["yours"]
    resumed = visitor.sign(ALICE, cursor=last)
    assert resumed.status == 200 and resumed.header("Content-Type") == "text/event-stream; charset=utf-8"


def test_every_spelling_of_the_key_can_sign(visitor: Visitor) -> None:
    (connected,) = visitor.sign(ALICE, named=HEX).next()
    assert ALICE.public in connected.data


def test_a_long_poll_and_a_head_are_signed_too(visitor: Visitor) -> None:
    assert visitor.sign(ALICE, "/events", ("Accept", "application/json")).json()["events"] == []
    assert visitor.sign(ALICE, method="HEAD").status == 200


# Another request than the one that was signed


def changed(headers: list[Header], name: str, value: str | None) -> list[Header]:
    """The headers with another value for one of them; None: without it."""
    return [(key, old if key != name else value) for key, old in headers if key != name or value is not None]  # type: ignore[misc]


def test_a_signature_is_for_one_target(visitor: Visitor, daemon: RunningDaemon) -> None:
    host = host_of(daemon)
    local = f"localhost:{daemon.http_port}"
    bad = (401, "bad_signature")
    assert visitor.refused("/events", *signed(ALICE, host=host), host=local) == bad
    assert visitor.refused("/events", *signed(ALICE, host="127.0.0.1:1"), host="127.0.0.1:1") == (421, "wrong_authority")
    assert visitor.refused("/events", *signed(ALICE, "/other", host=host)) == bad
    assert visitor.refused("/events", *signed(ALICE, host=host, method="POST")) == bad
    assert visitor.sign(ALICE, host=local).status == 200


@pytest.mark.parametrize(
    ("meant", "sent"),
    [
        ("/events", "/events?types=a"),
        ("/events?types=a", "/events"),
        ("/events?types=a", "/events?types=b"),
        ("/events?types=a&topics=b", "/events?topics=b&types=a"),
        ("/events?types=a", "/events?types=%61"),
        ("/events?types=a", "/events?types=a&"),
        ("/events", "/events?last_event_id=000000000000-0"),
        ("/events", f"/events?public_key={BOB.public}"),
    ],
)
def test_a_signature_is_for_one_query(visitor: Visitor, daemon: RunningDaemon, meant: str, sent: str) -> None:
    headers = signed(ALICE, meant, host=host_of(daemon))
    assert visitor.refused(sent, *headers) == (401, "bad_signature")
    assert visitor.ask(meant, *headers).status == 200, "what was refused must not have used the signature up"


def test_a_signature_is_for_one_cursor(visitor: Visitor, daemon: RunningDaemon) -> None:
    host = host_of(daemon)
    cursor = "0123456789ab-1"
    headers = signed(ALICE, host=host, cursor=cursor)
    assert visitor.refused("/events", *changed(headers, "Last-Event-ID", "0123456789ab-2")) == (401, "bad_signature")
    assert visitor.refused("/events", *changed(headers, "Last-Event-ID", None)) == (401, "bad_signature")
    assert visitor.refused("/events", *headers, ("Last-Event-ID", cursor)) == (400, "ambiguous_cursor")
    uncovered = [*signed(ALICE, host=host), ("Last-Event-ID", cursor)]
    assert visitor.refused("/events", *uncovered) == (401, "bad_signature")
    assert visitor.ask("/events", *headers).status == 200


@pytest.mark.parametrize(
    "how",
    [
        {"alg": '"rsa-pss-sha512"'},
        {"alg": None},
        {"tag": '"other"'},
        {"tag": None},
        {"nonce": "short"},
        {"lasts": 61},
        {"lasts": 0},
        {"more": '"x"'},
    ],
)
def test_a_signature_has_one_shape(visitor: Visitor, how: dict[str, Any]) -> None:
    assert code(visitor.sign(ALICE, **how)) == (401, "bad_signature")


def test_one_byte_of_a_signature_is_enough(visitor: Visitor, daemon: RunningDaemon) -> None:
    headers = signed(ALICE, host=host_of(daemon))
    text = dict(headers)["Signature"]
    other = text[:10] + ("A" if text[10] != "A" else "B") + text[11:]
    assert visitor.refused("/events", *changed(headers, "Signature", other)) == (401, "bad_signature")


# Whose key


def test_a_signature_is_by_the_key_that_it_names(visitor: Visitor, daemon: RunningDaemon) -> None:
    host = host_of(daemon)
    assert code(visitor.sign(ALICE, named=BOB.public)) == (401, "bad_signature")
    assert code(visitor.sign(ALICE, keyid=BOB.public)) == (401, "bad_signature")
    assert code(visitor.sign(ALICE, keyid=HEX)) == (401, "bad_signature")
    headers = signed(ALICE, host=host)
    assert visitor.refused("/events", *changed(headers, "X-Public-Key", BOB.public)) == (401, "bad_signature")
    assert visitor.refused("/events", *changed(headers, "X-Public-Key", HEX)) == (401, "bad_signature")
    assert visitor.refused("/events", *changed(headers, "X-Public-Key", None)) == (401, "signature_required")


CLAIMS = {
    "header": [("X-Public-Key", ALICE.public)],
    "header of another": [("X-Public-Key", BOB.public)],
    "input": [("Signature-Input", "sig=()")],
    "signature": [("Signature", f"sig=:{'A' * 86}==:")],
    "cursor": [("Last-Event-ID", "0123456789ab-1"), ("Last-Event-ID", "0123456789ab-2")],
    "session": [("Cookie", "__Host-sse-daemon=a; __Host-sse-daemon=b")],
}


@pytest.mark.parametrize("second", CLAIMS)
def test_what_a_signed_request_says_twice_is_refused(visitor: Visitor, second: str) -> None:
    response = visitor.sign(ALICE, "/events", *CLAIMS[second])
    if second == "session":  # not looked at beside a signature
        assert response.status == 200
    else:
        assert response.status in (400, 401)


@pytest.mark.parametrize("first", CLAIMS)
@pytest.mark.parametrize("second", CLAIMS)
def test_no_pair_of_claims_opens_anything(visitor: Visitor, first: str, second: str) -> None:
    assert visitor.refused("/events", *CLAIMS[first], *CLAIMS[second])[0] in (400, 401, 403)


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ([ALICE.public], 200),
        ([HEX], 200),
        ([BOB.public], 200),
        ([ALICE.public, ALICE.public], 400),
        ([ALICE.public, BOB.public], 400),
        ([""], 200),
    ],
)
def test_the_signed_header_wins_over_the_query(visitor: Visitor, claims: list[str], status: int) -> None:
    response = visitor.sign(ALICE, "/events?" + "&".join(f"public_key={claim}" for claim in claims))
    assert response.status == status
    if status == 200:
        assert ALICE.public in response.next()[0].data


SMALL_ORDER = (
    "01" + "00" * 31,
    "00" * 32,
    "ec" + "ff" * 30 + "7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
)


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_key_for_which_anybody_can_sign_is_none(visitor: Visitor, point: str) -> None:
    """For the neutral element, R = [S]B verifies under verifiers that do not look; here it does not even come to that."""
    assert code(visitor.sign(ALICE, named=point)) == (400, "bad_participant")


# Another time


@pytest.mark.parametrize("ago", [70, 3600, -10, -3600])
def test_early_and_late_ones_are_told_what_time_it_is(visitor: Visitor, ago: int) -> None:
    response = visitor.sign(ALICE, created=int(time.time()) - ago)
    assert code(response) == (401, "sign_again")
    date = response.header("Date")
    assert date is not None
    assert visitor.sign(ALICE, created=int(parsedate_to_datetime(date).timestamp())).status == 200


@pytest.mark.parametrize("ago", [28, 3, -3])
def test_a_clock_may_be_off_by_a_little(visitor: Visitor, ago: int) -> None:
    assert visitor.sign(ALICE, created=int(time.time()) - ago).status == 200


def test_a_signature_is_good_once(visitor: Visitor, daemon: RunningDaemon) -> None:
    for ahead in (0, 4):
        headers = signed(ALICE, host=host_of(daemon), created=int(time.time()) + ahead)
        assert visitor.ask("/events", *headers).status == 200
        assert visitor.refused("/events", *headers) == (401, "replayed")
        with Visitor(daemon, "handlers") as other:
            assert other.refused("/events", *headers) == (401, "replayed")


def test_a_nonce_is_its_keys_own(visitor: Visitor) -> None:
    nonce = "one nonce for two keys".replace(" ", "-") + str(time.time_ns())
    assert visitor.sign(ALICE, nonce=nonce).status == 200
    assert visitor.sign(BOB, nonce=nonce).status == 200
    assert code(visitor.sign(ALICE, nonce=nonce)) == (401, "replayed")


def test_of_many_at_once_one_is_served(daemon: RunningDaemon) -> None:
    headers = signed(ALICE, host=host_of(daemon))
    assert outcomes(daemon, headers) == {200: 1, 401: 15}


def outcomes(daemon: RunningDaemon, headers: list[Header]) -> Counter[int]:
    """The answers to one request that is sent sixteen times at once, by both doors."""
    found: list[int] = []
    begin = threading.Barrier(16)

    def ask(door: str) -> None:
        with Visitor(daemon, door) as visitor:
            begin.wait()
            found.append(visitor.ask("/events", *headers).status)

    threads = [threading.Thread(target=ask, args=(("lean", "handlers")[number % 2],)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(found)
