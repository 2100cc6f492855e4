from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sse_daemon.census import MAX_SPANS, RATE_SPAN, Census, Spans


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


def refuse(census: Census, *numbers: int, code: str = "bad_ttl", lost: bool = True) -> None:
    for n in numbers:
        census.refuse(code, 1, [("run", n)], 1000.0, lost=lost)


def test_a_refused_number_came_and_is_no_gap() -> None:
    census = Census(10)
    refuse(census, 1, 2, 3)
    stored(census, 4, 5, 7)
    refuse(census, 9)
    tally = census.tallies["run"]
    assert (tally.refused, tally.lost, tally.accepted, tally.highest, tally.missing) == (4, 4, 3, 9, 2)


def test_a_refused_number_that_is_stored_later_hides_no_gap() -> None:
    census = Census(10)
    stored(census, 1)
    refuse(census, 2, 2, code="overloaded", lost=False)
    assert (census.missing, census.tallies["run"].refused) == (0, 2)
    stored(census, 2, 4)
    assert census.missing == 1


def test_a_number_that_was_stored_and_is_refused_then_hides_no_gap() -> None:
    census = Census(10)
    stored(census, 1, 2, 4)
    refuse(census, 1, 2, 4)
    assert census.missing == 1


def test_what_was_refused_at_once_does_not_make_gaps_of_what_is_refused_later() -> None:
    census = Census(10)
    refuse(census, *range(1001, 1101), code="overloaded")
    refuse(census, *range(1, 1001), code="storage_full")
    assert (census.missing, census.lost) == (0, 1100)


def test_the_events_of_a_message_are_lost_whether_it_is_known_whose_they_are_or_not() -> None:
    census = Census(10)
    census.refuse("too_many_frames", 2000, [("run", 1), (None, None)], 1000.0, lost=True)
    assert (census.lost, census.tallies["run"].lost, census.refused) == (2000, 1, {"too_many_frames": 1})


def test_refused_numbers_take_bounded_memory_and_hide_no_gap_beyond_it() -> None:
    census = Census(10)
    for n in range(1, 10 * MAX_SPANS, 2):
        refuse(census, n)
    tally = census.tallies["run"]
    assert tally.told.count == MAX_SPANS
    assert tally.missing == tally.highest - MAX_SPANS
    census = Census(10)
    refuse(census, *range(1, 10 * MAX_SPANS))
    stored(census, *range(2, 10 * MAX_SPANS, 2))
    assert census.tallies["run"].told.count <= MAX_SPANS


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 12)), max_size=60))
def test_spans_are_what_a_set_would_say(steps: list[tuple[bool, int]]) -> None:
    spans, numbers = Spans(), set[int]()
    for add, n in steps:
        if add:
            spans.add(n)
            numbers.add(n)
        else:
            spans.discard(n)
            numbers.discard(n)
        assert spans.count == len(numbers)
    for n in range(1, 13):
        before = spans.count
        spans.discard(n)
        assert before - spans.count == (n in numbers)


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
    refuse(census, 1, code="too_old")
    assert (census.missing, census.lost) == (0, 1)


def test_losses_are_counted_in_all_and_by_producer() -> None:
    census = Census(10)
    refuse(census, 1, code="storage_full")
    refuse(census, 2, code="storage_full", lost=False)
    census.refuse("storage_full", 1, [(None, None)], 1000.0, lost=True)
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
