"""Limits by address behind a reverse proxy, in every mode: whom it names is limited, and only listed peers are believed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.hardening.application import Application
from tests.hardening.signing import ALICE, Key, Visitor, code
from tests.hardening.test_fresh_keys import FRESH, place
from tests.hardening.tokens import OTHER, bearer, config, pem, token
from tests.integration.client import Header
from tests.integration.daemon import RunningDaemon

DOORS = True
PROXY, OUTSIDE = "127.0.0.1", "127.0.0.2"
HTTP = f'[http]\nforwarded_from = ["{PROXY}"]\nshared_addresses = []\n'


def behind(*addresses: str) -> Header:
    return ("X-Forwarded-For", ", ".join(addresses))


def test_with_proofs_signatures_are_limited_for_the_client_that_the_proxy_names(door: str) -> None:
    settings = HTTP + "[auth]\nverify_rate_address = 1.0\n"
    with RunningDaemon(settings, dev=False) as daemon, Visitor(daemon, door) as visitor:

        def ask(address: str, key: Key = ALICE, source: str = PROXY) -> int:
            return visitor.sign(key, "/events", behind(address), source=source).status

        flood = Counter(ask("192.0.2.1", key) for key in FRESH[:12])
        assert flood.keys() == {200, 429} and flood[429] > 5
        # What stands further to the left is the client's own invention.
        assert 429 in [ask("198.51.100.9, 192.0.2.1") for _ in range(4)]
        assert ask("192.0.2.2") == 200
        # From others the header is not looked at.
        assert 429 in [ask(f"198.51.100.{number}", source=OUTSIDE) for number in range(12)]


def test_with_proofs_streams_and_sessions_are_limited_for_it_too(door: str) -> None:
    settings = HTTP + "[auth]\nmax_sessions_address = 2\n[streams]\nmax_per_address = 2\n"
    with RunningDaemon(settings, dev=False) as daemon, Visitor(daemon, door) as visitor:
        got = [place(visitor.sign(key, "/events", behind("2001:db8::1"))) for key in FRESH[:5]]
        assert got == ["connected"] * 2 + ["overload"] * 3
        assert place(visitor.sign(ALICE, "/events", behind("2001:db8::ffff:2"))) == "overload"
        assert place(visitor.sign(ALICE, "/events", behind("2001:db8:0:1::1"))) == "connected"
        assert {row["address"] for row in daemon.ask("clients")["clients"]} == {"[2001:db8::1]:0", "[2001:db8:0:1::1]:0"}

        def opened(key: Key, address: str, source: str = PROXY) -> tuple[int, str]:
            return code(visitor.sign(key, "/session", behind(address), method="POST", source=source))

        full = [(200, "")] * 2 + [(429, "too_many_sessions")] * 2
        assert [opened(key, "192.0.2.1") for key in FRESH[:4]] == full
        assert opened(ALICE, "192.0.2.2") == (200, "")
        assert [opened(key, f"198.51.100.{n}", OUTSIDE) for n, key in enumerate(FRESH[:4])] == full
        assert {line["address"] for line in daemon.lines("session refused")} >= {"192.0.2.1:0"}


def test_with_tokens_checks_are_limited_for_it_too(door: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(pem())
    settings = config(tmp_path / "key", "verify_rate_address = 1.0\n" + HTTP)
    with RunningDaemon(settings, dev=False) as daemon, Visitor(daemon, door) as visitor:

        def ask(address: str, source: str = PROXY) -> tuple[int, str]:
            return code(visitor.ask("/events", bearer(token(key=OTHER)), behind(address), source=source))

        assert {ask("192.0.2.1") for _ in range(12)} == {(401, "bad_token"), (429, "too_many_signatures")}
        assert ask("192.0.2.2") == (401, "bad_token")
        assert (429, "too_many_signatures") in [ask(f"198.51.100.{number}", OUTSIDE) for number in range(12)]


def test_the_application_is_told_the_client(door: str) -> None:
    with Application() as app, RunningDaemon(app.config() + HTTP, dev=False) as daemon, Visitor(daemon, door) as visitor:
        for source, told in ((PROXY, "192.0.2.7"), (OUTSIDE, OUTSIDE)):
            asked = len(app.asked)
            visitor.ask("/events", bearer("alice.1"), behind("192.0.2.7"), source=source)
            assert dict(app.asked[asked].headers)["x-forwarded-for"] == told


@pytest.mark.parametrize("forwarded", [(), (behind("unknown"),), (behind(PROXY),)])
def test_who_is_not_named_counts_as_the_proxy_which_is_many(door: str, forwarded: tuple[Header, ...]) -> None:
    settings = HTTP + "[auth]\nverify_rate_address = 1.0\n[streams]\nmax_per_address = 1\n"
    with RunningDaemon(settings, dev=False) as daemon, Visitor(daemon, door) as visitor:
        assert {place(visitor.sign(key, "/events", *forwarded)) for key in FRESH[:8]} == {"connected"}


def test_who_may_name_addresses_may_not_name_participants(door: str) -> None:
    listed = f'[http]\nforwarded_from = ["{OUTSIDE}"]\nshared_addresses = []\n'
    settings = listed + f'[auth]\nmode = "trusted-proxy"\ntrusted_proxies = ["{PROXY}"]\n'
    key: Header = ("X-Public-Key", "alice")
    with RunningDaemon(settings, dev=False) as daemon, Visitor(daemon, door) as visitor:
        assert code(visitor.ask("/events", key, behind(PROXY), source=OUTSIDE)) == (403, "untrusted_peer")
        # Both count: one behind the other.
        assert visitor.ask("/events", key, behind("192.0.2.7", OUTSIDE), source=PROXY).status == 200
        assert [row["address"] for row in daemon.ask("clients")["clients"]] == ["192.0.2.7:0"]
