"""A web page from elsewhere: one whose name leads here (DNS rebinding), and one that asks across origins. By both doors, on every route."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.client import Client, Header, Response
from tests.integration.daemon import RunningDaemon

ALICE = ("X-Public-Key", "alice")
CONFIG = """
[http]
hosts = ["events.example"]
cors_origins = ["https://app.example"]
"""
TARGETS = {
    "a stream": ("GET", "/events", [ALICE]),
    "a stream by the other door": ("GET", "/events", [ALICE, ("Content-Length", "0")]),
    "a long-poll": ("GET", "/events", [ALICE, ("Accept", "application/json")]),
    "a head": ("HEAD", "/events", [ALICE]),
    "a preflight": ("OPTIONS", "/events", [("Access-Control-Request-Method", "GET")]),
    "another method": ("POST", "/events", [("Content-Length", "0")]),
    "nobody": ("GET", "/events", []),
    "two keys": ("GET", "/events", [ALICE, ALICE]),
    "no route": ("GET", "/nowhere", []),
    "health": ("GET", "/healthz", []),
    "readiness": ("GET", "/readyz", []),
}


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    with RunningDaemon(CONFIG) as running:
        yield running


def ask(daemon: RunningDaemon, kind: str, host: str, *headers: Header) -> Response:
    """The answer, whose connection has ended by now."""
    method, target, usual = TARGETS[kind]
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in (*usual, *headers))]
    with Client(daemon.http_port) as client:
        client.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        return Response(client, method)


def check_answer(response: Response, status: int) -> None:
    assert response.status == status
    assert response.header("Cache-Control") == "no-store"
    assert response.header("X-Content-Type-Options") == "nosniff"
    assert not [name for name, _ in response.headers if name.startswith("access-control-")]
    assert "evil" not in str(response.headers)


@pytest.mark.parametrize("kind", TARGETS)
def test_a_name_that_was_made_to_lead_here_gets_nothing(daemon: RunningDaemon, kind: str) -> None:
    check_answer(ask(daemon, kind, "evil.example"), 421)


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
@pytest.mark.parametrize("kind", TARGETS)
def test_a_page_of_another_origin_gets_nothing(daemon: RunningDaemon, kind: str, origin: str) -> None:
    check_answer(ask(daemon, kind, "localhost", ("Origin", origin)), 403)


@pytest.mark.parametrize("kind", ["a stream", "a stream by the other door", "a long-poll", "health"])
@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "events.example"])
def test_its_own_names_and_listed_pages_are_served(daemon: RunningDaemon, kind: str, host: str) -> None:
    assert ask(daemon, kind, host).status == 200
    assert ask(daemon, kind, host, ("Origin", "https://app.example")).status == 200
    assert ask(daemon, kind, host, ("Origin", f"http://{host}")).status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("kind", ["a stream", "a stream by the other door", "a long-poll"])
def test_a_picture_on_another_sites_page_holds_no_stream(daemon: RunningDaemon, kind: str, site: str) -> None:
    check_answer(ask(daemon, kind, "localhost", ("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "no-cors")), 403)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("frame", ["iframe", "frame", "embed", "object", "fencedframe", ""])
@pytest.mark.parametrize("kind", ["a stream", "a stream by the other door", "a long-poll"])
def test_a_frame_on_another_sites_page_holds_no_stream(daemon: RunningDaemon, kind: str, frame: str, site: str) -> None:
    """A frame is gone to, without an Origin, as a link is: only what it is for tells them apart."""
    headers = ("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", frame)
    check_answer(ask(daemon, kind, "localhost", *headers), 403)


def test_who_follows_a_link_from_elsewhere_sees_what_is_there(daemon: RunningDaemon) -> None:
    navigating: tuple[Header, ...] = ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")
    for site in ("cross-site", "same-site", "same-origin", "none"):
        assert ask(daemon, "a stream", "localhost", ("Sec-Fetch-Site", site), *navigating).status == 200
    own: tuple[Header, ...] = ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")
    assert ask(daemon, "a stream", "localhost", *own).status == 200, "a frame on a page of its own"
