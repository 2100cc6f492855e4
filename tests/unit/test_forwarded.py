"""Who is behind a proxy: only what a trusted one wrote counts, and only what is an address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_daemon.forwarded import MAX_HOPS, client

PROXIES = ("10.0.0.0/30", "2001:db8:ffff::1", "unix")
PEER = "10.0.0.1:4711"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["192.0.2.1"], "192.0.2.1:0"),
        (["198.51.100.9, 192.0.2.1"], "192.0.2.1:0"),
        (["198.51.100.9", "192.0.2.1"], "192.0.2.1:0"),
        (["198.51.100.9,192.0.2.1,10.0.0.2"], "192.0.2.1:0"),
        (["198.51.100.9\t,\t192.0.2.1 , 2001:db8:ffff::1"], "192.0.2.1:0"),
        (["<script>, 192.0.2.1"], "192.0.2.1:0"),
        (["2001:DB8:0::7"], "[2001:db8::7]:0"),
        (["::ffff:192.0.2.1"], "192.0.2.1:0"),
        (["::ffff:10.0.0.2, 192.0.2.1, ::ffff:10.0.0.2"], "192.0.2.1:0"),
    ],
)
def test_the_first_from_the_right_that_is_no_proxy(lines: list[str], found: str) -> None:
    assert client(PEER, lines, PROXIES) == found
    assert client("unix", lines, PROXIES) == found
    assert client("192.0.2.77:1", lines, PROXIES) == "192.0.2.77:1", "nobody else is believed"


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ",", "192.0.2.1,", "unknown", "_hidden", "unix", "unix:", "localhost", "192.0.2.1:80", "[2001:db8::7]"),
        *("[2001:db8::7]:80", "fe80::1%eth0", "192.0.2.1%1", "192.0.2.01", "192.0.2", "3221225985", "0xc0000201", "192.0.2.1/32"),
        *("192.0.2.1 x", "192.0.2.1;x", '"192.0.2.1"', "\u0661.1.1.1", "1" * 5000, "10.0.0.2", "10.0.0.1, 10.0.0.2"),
    ],
)
def test_anything_else_is_the_proxys_own(text: str) -> None:
    assert client(PEER, [text], PROXIES) == PEER
    assert client(PEER, [], PROXIES) == PEER


def test_not_more_hops_are_looked_at_than_there_can_be() -> None:
    assert client(PEER, ["192.0.2.1" + ",10.0.0.2" * (MAX_HOPS - 1)], PROXIES) == "192.0.2.1:0"
    assert client(PEER, ["192.0.2.1" + ",10.0.0.2" * MAX_HOPS], PROXIES) == PEER


@given(spoofed=st.text(max_size=60))
def test_whatever_a_client_writes_stays_left_of_its_own_address(spoofed: str) -> None:
    assert client(PEER, [spoofed, "192.0.2.1"], PROXIES) == "192.0.2.1:0"
    assert client(PEER, [f"{spoofed}, 192.0.2.1"], PROXIES) == "192.0.2.1:0"
