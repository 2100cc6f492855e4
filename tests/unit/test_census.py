from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sse_daemon.census import RATE_SPAN, Census


def stored(census: Census, *numbers: int, sender: str = "run", now: float = 1000.0) -> None:
    for n in numbers:
        census.stored(sender, n, False, now)


def test_numbers_that_never_came_are_missing_until_they_come() -> None:
    census = Census(10)
    stored(census, 1, 2, 5)
    assert census.tallies["run"].missing == census.missing == 2
    stored(census, 4)
    assert census.missing == 1
    stored(census, 3)
    assert (census.missing, census.accepted) == (0, 5)


def test_a_refused_number_is_missing_until_it_is_stored() -> None:
    census = Census(10)
    stored(census, 1)
    census.refuse("overloaded", "run", 2, 1000.0, lost=False)
    assert (census.missing, census.tallies["run"].refused) == (1, 1)
    stored(census, 2, 3)
    assert census.missing == 0


def test_a_producer_met_in_the_middle_of_its_run_has_no_gap() -> None:
    census = Census(10)
    stored(census, 500, 501, 499)
    assert (census.missing, census.tallies["run"].first, census.tallies["run"].highest) == (0, 499, 501)


def test_a_repeat_is_counted_and_shows_no_gap() -> None:
    census = Census(10)
    stored(census, 10)
    census.stored("run", 10, True, 1000.0)
    # Stored before this daemon started, or by another one: neither number is a new end of what this one has seen.
    census.stored("run", 3, True, 1000.0)
    census.stored("run", 90, True, 1000.0)
    tally = census.tallies["run"]
    assert (tally.repeated, tally.accepted, tally.missing) == (3, 1, 0)
    assert (census.repeated, census.accepted) == (3, 1)


def test_a_repeat_of_a_stranger_makes_no_entry() -> None:
    census = Census(10)
    census.stored("run", 3, True, 1000.0)
    assert (census.tallies, census.repeated) == ({}, 1)


def test_what_is_too_old_says_nothing_about_gaps() -> None:
    census = Census(10)
    stored(census, 100)
    census.refuse("too_old", "run", 1, 1000.0, lost=True)
    assert (census.missing, census.lost) == (0, 1)


def test_losses_are_counted_in_all_and_by_producer() -> None:
    census = Census(10)
    census.refuse("storage_full", "run", 1, 1000.0, lost=True)
    census.refuse("storage_full", "run", 2, 1000.0, lost=False)
    census.refuse("storage_full", None, None, 1000.0, lost=True)
    assert (census.lost, census.tallies["run"].lost, census.tallies["run"].refused) == (2, 1, 2)


def test_events_without_a_number_count_in_all_only() -> None:
    census = Census(10)
    census.stored(None, None, False, 1000.0)
    census.stored(None, None, True, 1000.0)
    assert (census.accepted, census.repeated, census.tallies) == (1, 1, {})


def test_the_longest_silent_is_forgotten_and_its_losses_are_not() -> None:
    census = Census(2)
    stored(census, 1, 4, sender="a")
    stored(census, 1, sender="b")
    census.stored("a", 1, True, 1001.0)  # being heard again is not being silent
    stored(census, 1, sender="c")
    assert list(census.tallies) == ["a", "c"]
    stored(census, 1, sender="d")
    assert (list(census.tallies), census.missing) == (["c", "d"], 2)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    census = Census(2)
    for step in range(200):  # ten a second for 20 s
        stored(census, step + 1, now=1000.0 + step / 10)
    tally = census.tallies["run"]
    end = 1000.0 + 199 / 10
    assert 9.0 <= tally.rate(end) <= 11.0
    assert tally.rate(end + 2 * RATE_SPAN) == 0.0
    stored(census, 500, now=end + 100)
    assert tally.rate(end + 100) == 1.0


def test_a_rate_survives_a_clock_that_is_set_back() -> None:
    census = Census(2)
    stored(census, 1, now=1000.0)
    stored(census, 2, now=10.0)
    assert census.tallies["run"].rate(10.0) >= 0.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30)), max_size=60), st.integers(1, 3))
def test_missing_is_what_a_list_would_say(pairs: list[tuple[str, int]], limit: int) -> None:
    census = Census(limit)
    seen: dict[str, list[int]] = {}  # in the order of last seen
    forgotten: Counter[str] = Counter()
    for sender, n in dict.fromkeys(pairs):
        stored(census, n, sender=sender)
        held = seen.pop(sender, None)
        if held is None and len(seen) == limit:
            oldest = next(iter(seen))
            forgotten[oldest] += gaps(seen.pop(oldest))
        seen[sender] = [*(held or ()), n]
        assert list(census.tallies) == list(seen)
    assert census.missing == sum(map(gaps, seen.values())) + forgotten.total()


def gaps(numbers: list[int]) -> int:
    return max(numbers) - min(numbers) + 1 - len(numbers)
