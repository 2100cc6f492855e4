from __future__ import annotations

import pytest

from sse_daemon.buckets import Buckets, origin, shared


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10.0.0.1/8", "'10.0.0.1/8' is no address, nor a network: that is 10.0.0.0/8"),
        ("2001:db8::1/32", "'2001:db8::1/32' is no address, nor a network: that is 2001:db8::/32"),
        ("10.0.0.1/33", "'10.0.0.1/33' is no address"),
        ("proxy.example", "'proxy.example' is no address"),
    ],
)
def test_the_network_around_an_address_is_named(text: str, meant: str) -> None:
    with pytest.raises(ValueError) as refused:
        shared(text)
    assert str(refused.value) == meant


def test_a_burst_then_the_rate() -> None:
    buckets = Buckets(rate=10, burst=3)
    assert [buckets.take("a", 100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert buckets.take("a", 100.0) == pytest.approx(0.1)
    assert buckets.take("a", 100.0) == pytest.approx(0.1), "a refused try must not make the wait longer"
    assert buckets.take("a", 100.1) == 0.0
    assert buckets.take("a", 100.1) > 0


def test_what_is_saved_up_is_bounded() -> None:
    buckets = Buckets(rate=10, burst=3)
    buckets.take("a", 0.0)
    assert [buckets.take("a", 1000.0) for _ in range(4)] == [0.0, 0.0, 0.0, pytest.approx(0.1)]


def test_names_do_not_share() -> None:
    buckets = Buckets(rate=1, burst=1)
    assert buckets.take("a", 0.0) == buckets.take("b", 0.0) == 0.0
    assert buckets.take("a", 0.0) > 0


def test_no_rate_is_no_limit() -> None:
    buckets = Buckets(rate=0, burst=0)
    assert not any(buckets.take("a", 0.0) for _ in range(1000))
    assert len(buckets) == 0


def test_the_table_is_bounded_and_forgets_the_silent() -> None:
    buckets = Buckets(rate=1, burst=1, names=3)
    for name in ("a", "b", "c"):
        buckets.take(name, 0.0)
    buckets.take("b", 5.0)
    for name in ("d", "e"):
        buckets.take(name, 5.0)
    assert len(buckets) == 3
    assert buckets.take("b", 5.0) > 0
    assert buckets.take("a", 5.0) == 0.0


def test_over_a_long_time_it_is_the_rate() -> None:
    buckets = Buckets(rate=20, burst=40)
    taken = sum(buckets.take("a", step / 1000) == 0.0 for step in range(10_000))
    assert 20 * 10 <= taken <= 20 * 10 + 40


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.7:1234", "192.0.2.7"),
        ("[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2:ffff::1]:81", "2001:db8:1:2::/64"),
        ("[::ffff:192.0.2.7]:80", "192.0.2.7"),
        ("[fe80::1%eth0]:80", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_who_an_address_is(address: str, name: str) -> None:
    assert origin(address) == name
