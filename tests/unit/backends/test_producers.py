from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_daemon.backends.producers import Numbers, Producers, Run
from sse_daemon.errors import Refusal


@given(st.lists(st.integers(1, 60), unique=True))
def test_numbers_are_found_where_they_were_put(order: list[int]) -> None:
    numbers = Numbers()
    for position, n in enumerate(order, 1):
        numbers.add(Run(n, n, position))
    for n in range(62):
        assert numbers.find(n) == (order.index(n) + 1 if n in order else None)
    if order:
        assert numbers.highest == max(order)


def test_consecutive_numbers_are_one_run() -> None:
    numbers = Numbers()
    for n in range(1, 10_001):
        numbers.add(Run(n, n, n + 5))
    assert list(numbers) == [Run(1, 10_000, 6)]


@given(st.lists(st.tuples(st.integers(1, 20), st.floats(0, 30)), max_size=60))
def test_a_number_is_news_remembered_or_too_old(steps: list[tuple[int, float]]) -> None:
    producers, first, now = Producers(60.0, 10), {}, 1000.0
    for position, (n, seconds) in enumerate(steps, 1):
        now += seconds
        producers.expire(now)
        try:
            found = producers.find("s", n)
        except Refusal as refusal:
            assert refusal.code == "too_old"
            assert n not in first or first[n][1] + 60.0 < now  # never within the window
            continue
        if found is None:
            assert n not in first  # never stored twice
            producers.add("s", Run(n, n, position), now)
            first[n] = (position, now)
        else:
            assert found == first[n][0]


def test_a_sender_that_comes_back_after_it_gave_way_begins_anew() -> None:
    producers = Producers(60.0, 1)
    producers.add("s", Run(1, 9, 1), 0.0)
    producers.check_room(1, 61.0)
    assert producers.add("t", Run(1, 1, 10), 61.0) == "s"
    assert producers.add("s", Run(1, 1, 11), 200.0) == "t"
    assert producers.find("s", 5) is None
    assert len(producers) == 1


def test_only_the_silent_give_way() -> None:
    producers = Producers(60.0, 2)
    producers.add("s", Run(1, 1, 1), 0.0)
    producers.add("t", Run(1, 1, 2), 50.0)
    producers.check_room(1, 100.0)
    with pytest.raises(Refusal, match="too_many_producers"):
        producers.check_room(2, 100.0)
