"""Which pages of other origins may read: those of the list, by their exact names, and nobody else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.client import Client, Header, Response
from tests.integration.daemon import RunningDaemon

CONFIG = """
[http]
cors_origins = ["https://app.example", "http://localhost:3000"]

[streams]
max_streams = 8

[[stream]]
path = "/chat"
header = "X-Chat-Key"
"""
ALICE = ("X-Public-Key", "alice")
JSON = ("Accept", "application/json")
STRANGERS = [
    "https://app.example.evil",
    "https://app.example:443",
    "https://sub.app.example",
    "http://app.example",
    "https://APP.example",
    "https://app.example/",
    "https://app.example, http://localhost:3000",
    "http://localhost",
    "null",
    "*",
    "",
]

Get = Callable[..., Response]


def origin(name: str) -> Header:
    return ("Origin", name)


def cors(response: Response) -> dict[str, str]:
    """The headers of CORS, each at most once."""
    found = [(name, value) for name, value in response.headers if name.startswith("access-control-")]
    assert len(dict(found)) == len(found)
    return dict(found)


ANSWERS = {
    "a stream": ("/events", [ALICE], 200),
    "a long-poll": ("/events", [ALICE, JSON], 200),
    "nobody": ("/events", [], 401),
    "two keys": ("/events", [ALICE, ALICE], 400),
    "no route": ("/nowhere", [], 404),
    "health": ("/healthz", [], 200),
}


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("name", ["https://app.example", "http://localhost:3000"])
def test_a_listed_origin_may_read_every_answer(get: Get, kind: str, name: str) -> None:
    target, headers, status = ANSWERS[kind]
    response = get(target, origin(name), *headers)
    assert response.status == status
    assert cors(response) == {
        "access-control-allow-origin": name,
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "Date, Retry-After",
    }
    assert response.header("Vary") == "Origin"


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_unlisted_origin_may_read_none(get: Get, kind: str) -> None:
    target, headers, _ = ANSWERS[kind]
    response = get(target, origin("https://evil.example"), *headers)
    assert response.status == 403
    assert cors(response) == {}
    assert response.header("Vary") == "Origin"


@pytest.mark.parametrize("name", STRANGERS)
def test_names_are_compared_exactly(get: Get, name: str) -> None:
    for method in ("HEAD", "OPTIONS"):
        assert cors(get("/events", ALICE, origin(name), method=method)) == {}


def test_two_origins_are_none(get: Get) -> None:
    headers = [origin("https://app.example"), origin("https://app.example")]
    assert cors(get("/events", ALICE, *headers, method="HEAD")) == {}


def test_a_stream_that_is_sent_away_may_be_read_too(get: Get) -> None:
    streams = [get("/events", ALICE) for _ in range(8)]
    for stream in streams:
        stream.next()
    for status in (200, 503):
        response = get("/events", ALICE, ("Accept", "text/event-stream"), origin("https://app.example"))
        assert response.status == status
        assert cors(response)["access-control-allow-origin"] == "https://app.example"


@pytest.mark.parametrize(("target", "key"), [("/events", "X-Public-Key"), ("/chat", "X-Chat-Key")])
def test_preflight(get: Get, target: str, key: str) -> None:
    asked = [("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Headers", "last-event-id,x-evil")]
    response = get(target, origin("https://app.example"), *asked, method="OPTIONS")
    assert response.status == 204
    allowed = cors(response)
    assert set((allowed.pop("access-control-allow-headers")).split(", ")) == {
        "Last-Event-ID",
        "Cache-Control",
        "Authorization",
        key,
    }
    assert int(allowed.pop("access-control-max-age")) > 0
    assert allowed == {
        "access-control-allow-origin": "https://app.example",
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "Date, Retry-After",
        "access-control-allow-methods": "GET, HEAD, OPTIONS",
    }
    refused = get(target, origin("https://evil.example"), *asked, method="OPTIONS")
    assert (refused.status, cors(refused)) == (403, {})


def test_without_a_list_nobody_may() -> None:
    with RunningDaemon() as daemon, Client(daemon.http_port) as client:
        response = client.get("/healthz", origin("http://localhost:3000"))
        assert (cors(response), response.header("Vary")) == ({}, None)
