"""Percentiles, and the times of an open loop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_daemon.bench.figures import Latency, Schedule, percentile


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.501, 51), (0.99, 99), (0.991, 100), (1.0, 100)])
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(share: float, value: int) -> None:
    assert percentile(range(1, 101), share) == value


@given(st.lists(st.integers(0, 1000), min_size=1), st.floats(0.001, 1))
def test_a_percentile_is_one_of_the_values_and_covers_its_share(values: list[int], share: float) -> None:
    found = percentile(sorted(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)
    assert Latency.of([]) is None


def test_latencies_are_microseconds_of_nanoseconds_in_any_order() -> None:
    latency = Latency.of([number * 1000 for number in range(1000, 0, -1)])
    assert latency == Latency(p50=500, p99=990, p999=999, worst=1000, samples=1000)


def test_events_are_due_at_the_rate_from_the_start_on() -> None:
    schedule = Schedule(1_000, 4)
    assert [schedule.due(number) for number in range(3)] == [1_000, 250_001_000, 500_001_000]


@given(st.integers(0, 10**15), st.floats(0.1, 200_000), st.integers(0, 10**6))
def test_an_event_is_reached_from_the_moment_on_at_which_it_is_due(start: int, rate: float, number: int) -> None:
    schedule = Schedule(start, rate)
    due = schedule.due(number)
    assert schedule.reached(due) > number
    assert schedule.reached(due - 1) <= number


def test_nothing_is_reached_before_the_start() -> None:
    assert Schedule(1_000, 10).reached(999) == 0


def test_what_is_sent_late_keeps_the_time_at_which_it_was_due() -> None:
    # Nothing could be sent for a second; the hundred events of that second are all late, the first one most.
    schedule = Schedule(0, 100)
    now = 1_000_000_000
    delays = [now - schedule.due(number) for number in range(schedule.reached(now))]
    assert len(delays) == 101
    assert delays[0] == 1_000_000_000
    assert delays[-1] == 0


@pytest.mark.parametrize("rate", [0, -1])
def test_an_open_loop_has_a_rate(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        Schedule(0, rate)
