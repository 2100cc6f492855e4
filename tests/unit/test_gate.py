"""Which hosts and pages a request may be for and from."""

from __future__ import annotations

import pytest

from sse_daemon.errors import RequestRefused
from sse_daemon.gate import Gate

HOSTS = ("events.example", "other.example:8443")
ORIGINS = ("https://app.example",)


def verdict(**headers: str | list[str]) -> int:
    """200, or the status of the refusal."""
    found = {name.replace("_", "-"): [value] if isinstance(value, str) else value for name, value in headers.items()}
    try:
        Gate(HOSTS, ORIGINS).check(lambda name: found.get(name, []))
    except RequestRefused as refused:
        return refused.status
    return 200


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8080", "LOCALHOST", "127.0.0.1:8080", "192.0.2.1", "[::1]:8080", "[2001:db8::1]"),
        *("events.example", "events.example:8080", "Events.Example", "other.example:8443"),
    ],
)
def test_hosts_of_this_machine_and_listed_ones(host: str) -> None:
    assert verdict(Host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "events.example.evil.example", "events.example."),
        *(
            "other.example",
            "other.example:80",
            "a.localhost",
            "x@localhost",
            "localhost/",
            "",
            " ",
            "[evil]",
            "localhost:",
            "\u0131",
        ),
        *("events.example:0x50", "127.0.0.1:8080:1", "1.2.3.4.5"),
    ],
)
def test_any_other_host_is_refused(host: str) -> None:
    assert verdict(Host=host) == 421


def test_two_hosts_are_none() -> None:
    assert verdict(Host=["localhost", "localhost"]) == 421


def test_who_is_no_browser_has_no_host_or_origin() -> None:
    assert verdict() == 200


@pytest.mark.parametrize("origin", ["https://app.example", "http://localhost:8080", "https://localhost:8080"])
def test_pages_of_listed_origins_and_our_own(origin: str) -> None:
    assert verdict(Host="localhost:8080", Origin=origin) == 200


@pytest.mark.parametrize(
    "origin", ["null", "", "https://evil.example", "http://localhost", "http://localhost:3000", "https://app.example:443", "*"]
)
def test_pages_of_any_other_origin_are_refused(origin: str) -> None:
    assert verdict(Host="localhost:8080", Origin=origin) == 403


def test_two_origins_are_none() -> None:
    assert verdict(Host="localhost", Origin=["https://app.example", "https://app.example"]) == 403


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("cross-site", "no-cors", 403),
        ("same-site", "no-cors", 403),
        ("same-origin", "no-cors", 200),
        ("none", "navigate", 200),
        ("cross-site", "navigate", 200),
    ],
)
def test_what_another_sites_page_shows_or_runs_is_not_held_open(site: str, mode: str, status: int) -> None:
    assert verdict(Host="localhost", Sec_Fetch_Site=site, Sec_Fetch_Mode=mode) == status
