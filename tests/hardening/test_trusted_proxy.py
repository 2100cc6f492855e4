"""Mode "trusted-proxy": whose request it is, says who is listed, in the header, once, and nobody else in any way."""

from __future__ import annotations

import socket

import httpx
import pytest

from tests.hardening.signing import ROUTES, Visitor, code, host_of
from tests.integration.client import Client, Header, Publisher
from tests.integration.daemon import RunningDaemon
from tests.integration.peers import wait

DOORS = True
CONFIG = f"""
[auth]
mode = "trusted-proxy"
trusted_proxies = ["127.0.0.1", "127.0.1.0/24", "unix"]
{ROUTES}[[stream]]
path = "/other"
header = "X-Chat-Key"
query = "chat_key"
"""
OUTSIDE = "127.0.0.2"
KEY: Header = ("X-Public-Key", "alice")


def test_the_proxy_says_who_asks(visitor: Visitor, daemon: RunningDaemon) -> None:
    for source, forwarded in (("127.0.0.1", []), ("127.0.1.77", [("X-Forwarded-For", "198.51.100.1, 192.0.2.1")])):
        stream = visitor.ask("/events", KEY, *forwarded, source=source)
        assert stream.status == 200 and stream.header("Sse-Daemon-Auth") is None
        (connected,) = stream.next()
        assert '"participant":"alice"' in connected.data
        with Publisher(daemon.acked) as publisher:
            publisher.event("not yours", to=["bob"])
            last = publisher.event("yours", to=["alice"])
        assert [message.data for message in stream.until(last)] == ["yours"]
    assert visitor.ask("/events", KEY, ("Accept", "application/json")).json()["events"] == []
    assert daemon.ready["auth"] == "trusted-proxy"
    assert daemon.ask("stats")["metrics"]["clients_unproven"] == 0.0


@pytest.mark.parametrize("target", ["/events", "/public", "/events?types=a"])
@pytest.mark.parametrize("headers", [[KEY], [KEY, KEY], [("X-Public-Key", "")], [KEY, ("X-Forwarded-For", "127.0.0.1")]])
def test_from_anywhere_else_the_header_is_refused(visitor: Visitor, target: str, headers: list[Header]) -> None:
    assert visitor.refused(target, *headers, source=OUTSIDE) == (403, "untrusted_peer")


@pytest.mark.parametrize(
    "pretended",
    [
        ("X-Forwarded-For", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1"),
        ("X-Real-IP", "127.0.0.1"),
        ("X-Public_Key", "alice"),
        ("Via", "1.1 127.0.0.1"),
    ],
)
def test_no_other_header_makes_a_proxy_or_a_participant(visitor: Visitor, pretended: Header) -> None:
    assert visitor.refused("/events", pretended, source=OUTSIDE) == (401, "participant_required")
    assert visitor.refused("/events", pretended) == (401, "participant_required")
    assert visitor.refused("/events", pretended, KEY, source=OUTSIDE) == (403, "untrusted_peer")


@pytest.mark.parametrize("query", ["public_key=alice", "public_key=", "public_key=a&public_key=b", "%70ublic_key=alice"])
def test_a_key_in_the_url_is_refused_from_everybody(visitor: Visitor, query: str) -> None:
    for target in (f"/events?{query}", f"/public?{query}"):
        assert visitor.refused(target) == (403, "participant_in_url")
        assert visitor.refused(target, KEY) == (403, "participant_in_url")
        assert visitor.refused(target, source=OUTSIDE) == (403, "participant_in_url")
    assert visitor.refused("/other?chat_key=alice", ("X-Chat-Key", "alice")) == (403, "participant_in_url")


def test_each_route_has_its_own_header(visitor: Visitor) -> None:
    assert visitor.ask("/other", ("X-Chat-Key", "alice")).status == 200
    assert visitor.refused("/other", KEY) == (401, "participant_required")
    assert "in the header X-Chat-Key" in visitor.ask("/other", KEY).json()["detail"]
    assert visitor.refused("/other", ("X-Chat-Key", "alice"), source=OUTSIDE) == (403, "untrusted_peer")


@pytest.mark.parametrize("second", ["alice", "bob", ""])
def test_the_header_stands_once(visitor: Visitor, second: str) -> None:
    assert visitor.refused("/events", KEY, ("X-Public-Key", second)) == (400, "ambiguous_participant")
    assert visitor.refused("/events", KEY, ("x-public-key", second)) == (400, "ambiguous_participant")


@pytest.mark.parametrize("value", ["", "*", "a b", "\xe9"])
def test_what_is_no_key_is_refused(visitor: Visitor, value: str) -> None:
    assert visitor.refused("/events", ("X-Public-Key", value)) == (400, "bad_participant")


def test_who_is_nobody_gets_what_is_for_everybody(visitor: Visitor) -> None:
    for source in ("127.0.0.1", OUTSIDE):
        assert visitor.refused("/events", source=source) == (401, "participant_required")
        for target in ("/public", "/keyless"):
            (connected,) = visitor.ask(target, source=source).next()
            assert '"participant":null' in connected.data


def test_there_are_no_sessions(visitor: Visitor) -> None:
    assert code(visitor.ask("/session", KEY, method="POST")) == (404, "not_found")


def test_hosts_and_origins_are_looked_at_as_ever(visitor: Visitor) -> None:
    assert visitor.refused("/events", KEY, host="evil.example") == (421, "wrong_authority")
    assert visitor.refused("/events", KEY, ("Origin", "https://evil.example")) == (403, "origin_refused")


REFUSED: list[tuple[list[Header], str | None, str | None]] = [
    ([], "evil.example", "evil.example"),
    ([("Origin", "https://evil.example")], None, "https://evil.example"),
    ([("Origin", 'a" level=error')], None, 'a" level=error'),
    ([("Origin", "a\x9b2J")], None, "a\x9b2J"),
    ([("Origin", "a" * 150)], None, "a" * 100),
    ([("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")], None, None),
]
"""Headers, the host (None: the right one), and what the log shows of that."""


def test_the_log_says_which_host_or_origin_was_refused(door: str) -> None:
    # Of the shared daemon's refusals there are too many for a line each.
    with RunningDaemon(CONFIG, dev=False) as daemon, Visitor(daemon, door) as visitor:
        for number, (headers, host, shown) in enumerate(REFUSED, 1):
            assert visitor.refused("/events", KEY, *headers, host=host)[0] in (421, 403)
            lines = wait(lambda number=number: len(found := daemon.lines("request refused")) == number and found, "its line")
            assert lines[-1].get("sent") == shown
        assert daemon.log().isascii()


@pytest.mark.parametrize("trusted", [True, False])
def test_a_unix_socket_is_a_peer_of_its_own_kind(trusted: bool) -> None:
    config = CONFIG if trusted else CONFIG.replace(', "unix"', "")
    with RunningDaemon(config, dev=False) as daemon:
        daemon.stop()
        path = daemon.directory / "http"
        daemon.http_addresses.append(f"unix:{path}")
        daemon.start()
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as http:
            answer = http.head("http://localhost/events", headers=dict([KEY]))
        assert answer.status_code == (200 if trusted else 403)


# Limits by address


LIMITED = CONFIG.replace("[auth]", "[http]\nshared_addresses = []\n[streams]\nmax_per_address = 1\n[auth]")


def reason(visitor: Visitor, *forwarded: str, source: str = "127.0.0.1") -> str | None:
    """What becomes of a stream whose request came from there: "overload", or None for a place."""
    response = visitor.ask("/public", *(("X-Forwarded-For", value) for value in forwarded), source=source)
    if response.status == 503:
        return "overload"
    assert response.status == 200
    return None if response.next()[0].type == "connected" else "overload"


@pytest.mark.parametrize("workers", [1, 2])
def test_limits_count_the_client_that_the_proxy_names(door: str, workers: int) -> None:
    config = LIMITED if workers == 1 else LIMITED + "[daemon]\nworkers = 2\n"
    with RunningDaemon(config, dev=False) as daemon, Visitor(daemon, door) as visitor:
        tries = [reason(visitor, "192.0.2.1") for _ in range(6 * workers)]
        assert 1 <= tries.count(None) <= workers
        # From the right: what stands further to the left is the client's own invention.
        for spoofed in ("198.51.100.1, 192.0.2.1", "127.0.0.1, 192.0.2.1", "x,192.0.2.1", "192.0.2.1, 127.0.1.5"):
            assert [reason(visitor, spoofed) for _ in range(6)].count(None) < workers
        assert None in [reason(visitor, "198.51.100.1") for _ in range(6)]
        addresses = {row["address"] for row in daemon.ask("clients")["clients"]}
        assert {"192.0.2.1:0", "198.51.100.1:0"} == addresses


def test_ipv6_is_counted_by_its_network() -> None:
    with RunningDaemon(LIMITED, dev=False) as daemon, Visitor(daemon) as visitor:
        assert reason(visitor, "2001:db8::1") is None
        assert reason(visitor, "2001:db8::ffff:2") == "overload"
        assert reason(visitor, "2001:db8:0:1::1") is None


def test_from_others_that_header_is_not_looked_at(door: str) -> None:
    with RunningDaemon(LIMITED, dev=False) as daemon, Visitor(daemon, door) as visitor:
        assert reason(visitor, "192.0.2.1", source=OUTSIDE) is None
        assert reason(visitor, "192.0.2.2", source=OUTSIDE) == "overload"
        assert reason(visitor, source="127.0.0.3") is None


@pytest.mark.parametrize("forwarded", [(), ("unknown",), ("192.0.2.1:80",), ("192.0.2.1, unknown",), ("127.0.1.9",)])
def test_who_is_not_named_counts_as_the_proxy_which_is_many(door: str, forwarded: tuple[str, ...]) -> None:
    with RunningDaemon(LIMITED, dev=False) as daemon, Visitor(daemon, door) as visitor:
        assert [reason(visitor, *forwarded) for _ in range(4)] == [None] * 4


def test_in_other_modes_nobody_is_behind_a_proxy() -> None:
    config = '[http]\nshared_addresses = []\n[streams]\nmax_per_address = 1\n[auth]\ntrusted_proxies = ["127.0.0.1"]\n'
    with RunningDaemon(config) as daemon, Visitor(daemon) as visitor:
        assert visitor.ask("/events", KEY, ("X-Forwarded-For", "192.0.2.1")).next()[0].type == "connected"
        second = visitor.ask("/events", ("X-Public-Key", "bob"), ("X-Forwarded-For", "192.0.2.2"))
        assert second.status == 503 or second.next()[0].type == "bye"


def test_a_proxys_connections_are_many_clients() -> None:
    config = CONFIG.replace("[auth]", "[http]\nshared_addresses = []\nmax_per_address = 2\n[auth]")
    with RunningDaemon(config, dev=False) as daemon:
        ours = [Client(daemon.http_port) for _ in range(5)]
        for client in ours:
            client.ask("/healthz", host=host_of(daemon))
        assert [client.line() for client in ours] == [b"HTTP/1.1 200 OK"] * 5
        theirs = [Client(daemon.http_port, source=OUTSIDE) for _ in range(5)]
        assert sum(answered(client.socket, daemon) for client in theirs) == 2
        for client in (*ours, *theirs):
            client.socket.close()


def answered(sock: socket.socket, daemon: RunningDaemon) -> bool:
    """Whether a connection gets an answer, and is not closed at once."""
    try:
        sock.sendall(f"GET /healthz HTTP/1.1\r\nHost: {host_of(daemon)}\r\n\r\n".encode())
        return sock.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
