"""The promises of append; imported as sse_daemon.backends.conformance_append, never under the bare name."""

from __future__ import annotations

import asyncio

from sse_daemon.backend import Limits, Stored
from sse_daemon.backends.conformance_harness import Harness, check, draft, expect, numbered
from sse_daemon.errors import Refusal
from sse_daemon.event import Draft, Group, Repeat, Topic, placed

ALL_BYTES = bytes(range(256))


@check()
async def items_get_dense_positions_in_order(harness: Harness) -> None:
    """Each item has the next position: events, groups and topics alike, records in the order given."""
    log = await harness.open()
    first = await log.append((draft(),), (Group("g", ("p",)), draft("b"), Topic("t", True)), (draft("c"),))
    expect([answer.positions for answer in first if isinstance(answer, Stored)] == [(1,), (2, 3, 4), (5,)], "positions are dense")
    expect(await log.store((draft(),)) == [6], "and go on")


@check()
async def delivers_each_item_once_before_append_returns(harness: Harness) -> None:
    """What is appended has been delivered when append returns, once, as it was given, an event with its position."""
    log = await harness.open()
    full = Draft(("a", "b"), "typ\u00e9", "t/\u2028", (("k", "v"), ("l", ("v", "w"))), ALL_BYTES, 2e9 + 0.1, False, "s", 7)
    items = (full, Group("g", ("p", "q")), Topic("t", False))
    await log.store(items)
    expect(log.items == {1: placed(full, 1), 2: items[1], 3: items[2]}, "what is delivered is what was appended")
    await log.store(items[:1])
    expect(len(log.items) == 3, "a repeat is not delivered")


@check()
async def what_is_read_is_what_was_appended(harness: Harness) -> None:
    """Every field of an event survives: all bytes, any text, an empty list, an exact time."""
    log = await harness.open()
    attrs = (("k", '\u2028\U0001f600/\\"'), ("empty", ()), ("l", ("a", "b")))
    await log.store((draft("a", data=ALL_BYTES * 40, type="\u00e9", topic="\x7f:", attrs=attrs, expires=1.1e9 / 7),))
    await log.store((draft("a", data=b"", topic=""),))
    expect((await log.page(["a"]))[0] == [1, 2], "both events are read")  # page() compares them with what was delivered


@check()
async def an_empty_append_is_nothing(harness: Harness) -> None:
    """No records, or a record without items, store nothing."""
    log = await harness.open()
    expect(await log.append() == [], "no records, no answers")
    expect(await log.append(()) == [Stored((), False)], "a record without items has no positions")
    expect(log.last == 0, "nothing is delivered")


@check()
async def a_refused_record_leaves_nothing(harness: Harness) -> None:
    """A record is stored whole or not at all, and the records beside it in the same append are stored."""
    log = await harness.open(Limits(retained_slots=1))
    good, bad = (draft(n=1),), (draft(n=2), Group("g", ("p",)), draft(retain=True), draft("b", retain=True, n=3))
    answers = await log.append(good, bad, (draft(n=4),))
    expect(isinstance(answers[1], Refusal) and answers[1].index == 3, "the refusal names the item")
    expect(isinstance(answers[0], Stored) and answers[2] == Stored((2,)), "the others are stored, with nothing in between")
    expect(await log.snapshots(None) == [], "no snapshot of a refused record is kept")
    expect(await log.store(numbered([2, 3])) == [3, 4], "what was refused is not remembered")


@check()
async def a_repeat_is_answered_with_its_first_position(harness: Harness) -> None:
    """An item whose (sender, n) is remembered is not stored again, and senders are apart."""
    log = await harness.open()
    await log.store(numbered([1, 2]))
    expect(await log.append(numbered([1, 2])) == [Stored((1, 2), True)], "a repeated record gets its positions")
    expect(await log.append(numbered([2]), numbered([1])) == [Stored((2,), True), Stored((1,), True)], "so do its parts")
    expect(await log.append(numbered([1], "other")) == [Stored((3,), False)], "another sender's 1 is another")
    expect(await log.store((draft(), draft())) == [4, 5], "what has no number is no repeat")


@check()
async def repeats_and_news_in_one_record(harness: Harness) -> None:
    """Of a record that is repeated in part only the rest is stored; it does not count as repeated."""
    log = await harness.open()
    await log.store(numbered([1, 3]))
    expect(await log.append(numbered([1, 2, 3, 4])) == [Stored((1, 3, 2, 4), False)], "only 2 and 4 are stored")
    expect(await log.append(numbered([2, 4])) == [Stored((3, 4), True)], "and are remembered")


@check()
async def a_number_twice_in_one_append(harness: Harness) -> None:
    """A number is remembered at once: for the next item of its record and the next record of its append."""
    log = await harness.open()
    answers = await log.append(numbered([5, 5]), numbered([5, 6]))
    expect(answers == [Stored((1, 1), False), Stored((1, 2), False)], "5 is stored once")


@check()
async def numbers_count_by_membership(harness: Harness) -> None:
    """6 before 5 loses neither, however large the hole between two numbers."""
    log = await harness.open()
    expect(await log.store(numbered([6]), numbered([5]), numbered([2**53 - 1]), numbered([7])) == [1, 2, 3, 4], "all are news")
    expect(await log.store(numbered([5, 6, 7, 2**53 - 1])) == [2, 1, 4, 3], "all are remembered")
    expect(await log.store(numbered([8])) == [5], "and the next is news")


@check()
async def groups_and_topics_have_numbers_too(harness: Harness) -> None:
    """The items of a control envelope are remembered like events."""
    log = await harness.open()
    record = (Group("g", ("p",), "s", 1), Topic("t", True, "s", 2))
    expect(await log.append(record, record) == [Stored((1, 2), False), Stored((1, 2), True)], "they are stored once")


@check()
async def a_repeat_may_be_of_what_could_not_be_stored_again(harness: Harness) -> None:
    """A Repeat is answered like the item whose number it has; where there is none the record is refused as it says."""
    log = await harness.open()
    await log.store((draft(n=1), draft(n=2)))
    late = Repeat("sender", 2, "unknown_group", "it is gone")
    expect(await log.append((late,)) == [Stored((2,), True)], "a stored number has its position")
    expect(await log.store((draft(n=3), late)) == [3, 2], "also beside news")
    (refusal,) = await log.append((draft(n=4), late._replace(n=5)))
    expect(isinstance(refusal, Refusal) and (refusal.code, refusal.index) == ("unknown_group", 1), "the rest is refused")
    expect(log.last == 3, "and nothing of it is stored")


@check(clock=True)
async def numbers_are_remembered_for_the_window(harness: Harness) -> None:
    """Within dedupe_window seconds a repeat gets its first position; long after, it is refused as too_old, not stored again."""
    log = await harness.open(Limits(dedupe_window=60.0))
    await log.store(numbered([1, 2, 5]))
    harness.clock.now += 60.0
    expect(await log.store(numbered([1, 2, 5])) == [1, 2, 3], "at the end of the window all are remembered")
    harness.clock.now += 600.0
    refusal = await log.refused((draft(), draft(n=5)))
    expect((refusal.code, refusal.index) == ("too_old", 1), "a forgotten number is refused, with its index")
    expect((await log.refused(numbered([4]))).code == "too_old", "so is what may have been remembered")
    expect(await log.store(numbered([6])) == [4], "what cannot have been is news")


@check(clock=True)
async def a_busy_sender_forgets_only_its_old_numbers(harness: Harness) -> None:
    """The window slides: each number has its own time."""
    log = await harness.open(Limits(dedupe_window=60.0))
    for n in range(1, 41):
        await log.store(numbered([n]))
        harness.clock.now += 10.0
    expect(await log.store(numbered(range(35, 41))) == list(range(35, 41)), "the last minute's numbers are remembered")
    expect((await log.refused(numbered([2]))).code == "too_old", "the first ones are not")


@check()
async def producers_are_bounded(harness: Harness) -> None:
    """Beyond max_producers a new sender is refused, and those that are remembered go on."""
    log = await harness.open(Limits(max_producers=2))
    await log.store(numbered([1], "s1"), numbered([1], "s2"))
    refusal = await log.refused((draft(), draft(n=1, sender="s3")))
    expect((refusal.code, refusal.index) == ("too_many_producers", 1), "a third sender is refused, with the index")
    expect(await log.store(numbered([1, 2], "s1"), (draft(),)) == [1, 3, 4], "the others, and what has no sender, are not")


@check()
async def one_record_cannot_bring_too_many_producers(harness: Harness) -> None:
    """The bound holds within a record."""
    log = await harness.open(Limits(max_producers=2))
    refusal = await log.refused(tuple(draft(n=1, sender=name) for name in ("s1", "s2", "s3")))
    expect((refusal.code, refusal.index) == ("too_many_producers", 2), "the third sender is refused")
    expect(await log.store(numbered([1], "s4"), numbered([1], "s5")) == [1, 2], "none of the refused ones took a place")


@check(clock=True)
async def a_silent_producer_makes_room(harness: Harness) -> None:
    """Who has been silent for longer than the window gives way to a new sender; who has not does not."""
    log = await harness.open(Limits(max_producers=2, dedupe_window=60.0))
    await log.store(numbered([1], "s1"), numbered([1], "s2"))
    harness.clock.now += 600.0
    await log.store(numbered([2], "s1"))
    expect(await log.store(numbered([1], "s3")) == [4], "s2 gave way")
    expect((await log.refused(numbered([1], "s4"))).code == "too_many_producers", "s1 did not")


@check()
async def no_room_for_producers_works(harness: Harness) -> None:
    """A bound of zero refuses every sender and nothing else."""
    log = await harness.open(Limits(max_producers=0))
    expect((await log.refused(numbered([1]))).code == "too_many_producers", "there is no place")
    expect(await log.store((draft(),)) == [1], "an event without sender needs none")


@check()
async def concurrent_appends_are_all_stored(harness: Harness) -> None:
    """Appends that wait at the same time are each stored once, their records in their order, delivered in the log's."""
    log = await harness.open()

    async def producer(name: str) -> list[int]:
        return [(await log.store(numbered([n, n + 1], name)))[1] for n in range(1, 21, 2)]

    ends = await asyncio.gather(*(producer(f"s{i}") for i in range(16)))
    expect(all(list(end) == sorted(end) for end in ends), "each producer's records are in its order")
    expect(sorted(log.items) == list(range(1, 321)), "every item has its place")
    expect(await log.page(["a"], 0, 1000) == (list(range(1, 321)), 320), "and is read there")


@check()
async def a_cancelled_append_is_whole_or_not(harness: Harness) -> None:
    """Whenever an append is cancelled, its record is stored whole or not at all, and the log goes on."""
    log = await harness.open()
    for turns in range(6):
        numbers = [turns * 3 + i for i in (1, 2, 3)]
        task = asyncio.ensure_future(log.append(numbered(numbers)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        positions = await log.store(numbered(numbers))
        expect(positions == list(range(positions[0], positions[0] + 3)), "the three items are together")
    expect(log.last == 18, "each is stored once")
