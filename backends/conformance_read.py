"""The promises of read and retained, and of what is kept; imported as sse_daemon.backends.conformance_read, never under the bare
name.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sse_daemon.backend import PAGE_BYTES, Limits
from sse_daemon.backends.conformance_harness import Follower, Harness, check, draft, expect
from sse_daemon.event import Draft, Group, Topic


@check()
async def a_page_has_its_channels_only(harness: Harness) -> None:
    """Nothing of another channel is on a page, and nothing of the asked ones is missing."""
    log = await harness.open()
    await log.store((draft("a"), draft("b"), draft("a", "b"), draft("c"), Group("a", ("a",)), Topic("a", True)))
    expect(await log.page(["a"]) == ([1, 3], 6), "channel a, through the end of the log")
    expect(await log.page(["b"]) == ([2, 3], 6), "channel b")
    expect(await log.page(["nobody"]) == ([], 6), "an unknown channel is empty")
    expect(await log.page([]) == ([], 6), "so are no channels")


@check()
async def an_event_on_several_channels_comes_once(harness: Harness) -> None:
    """A page is the union of its channels, in order."""
    log = await harness.open()
    await log.store((draft("b"), draft("a", "b", "c"), draft("a"), draft("c", "a"), draft("d")))
    expect(await log.page(["a", "b", "c"]) == ([1, 2, 3, 4], 5), "each event once, in order")
    expect(await log.page(["c", "b", "a"], 1, 2) == ([2, 3], 3), "whatever the order of the channels, and with a limit")


@check()
async def pages_follow_each_other_without_hole(harness: Harness) -> None:
    """Reading on from `through` gives every event once, whatever the limit, and comes to the log's end."""
    log = await harness.open()
    channels = [("a",), ("b",), ("a", "b"), ("c",)]
    await log.store(*[(draft(*channels[i % 4], data=b"%d" % i),) for i in range(50)])
    wanted = [i + 1 for i in range(50) if i % 4 != 3]
    for limit in (1, 2, 7, 37, 38, 39, 100):
        expect(await _read_all(log, ["a", "b"], limit) == wanted, f"pages of {limit} have it all")


@check()
async def a_page_ends_after_its_bytes(harness: Harness) -> None:
    """A page ends once its data is more than PAGE_BYTES, with at least one event; the next goes on behind it."""
    log = await harness.open()
    await log.store(*[(draft(data=bytes(PAGE_BYTES // 2)),) for _ in range(6)], (draft(data=bytes(PAGE_BYTES * 2)),), (draft(),))
    expect(await log.page(["a"]) == ([1, 2, 3], 3), "the third event is more than a page")
    expect(await log.page(["a"], 6) == ([7], 7), "an event that is larger than a page is one")
    expect(await _read_all(log, ["a"], 100) == list(range(1, 9)), "none is lost in between")


@check()
async def through_goes_on_unless_at_the_end(harness: Harness) -> None:
    """`through` is beyond `after` unless the log ends at `after`, also over a stretch without the asked channels."""
    log = await harness.open()
    expect(await log.page(["a"]) == ([], 0), "an empty log ends at 0")
    await log.store(*[(draft("b"),) for _ in range(30)])
    expect(await log.page(["a"], 0, 5) == ([], 30), "nothing for a, through the end")
    expect(await log.page(["a"], 30) == ([], 30), "at the end there is nothing")


@check()
async def a_position_beyond_the_end_is_unknown(harness: Harness) -> None:
    """Gap(unknown_cursor): the log has not come so far."""
    log = await harness.open()
    expect(await log.gap(1) == "unknown_cursor", "in an empty log")
    await log.store((draft(),))
    expect(await log.gap(2) == "unknown_cursor", "one beyond the end")
    expect(await log.gap(10**18 - 1) == "unknown_cursor", "the largest position")


@check()
async def retention_by_bytes(harness: Harness) -> None:
    """The log keeps about retention_bytes; what came before is Gap(expired), what is kept has no hole."""
    log = await harness.open(Limits(retention_bytes=200_000))
    for _ in range(20):
        await log.store(*[(draft(data=bytes(1000)),) for _ in range(50)])
    expect(await log.gap(0) == "expired", "the beginning is not kept")
    kept = await _kept(log)
    expect(kept > 0, "something is kept")
    expect(kept <= 200, f"{kept} events of 1000 bytes are kept of 200,000 bytes")
    expect(await log.page(["b"], 1000 - kept) == ([], 1000), "that holds for a channel without events too")


@check()
async def retention_of_nothing_works(harness: Harness) -> None:
    """With retention_bytes=0 events are delivered and not kept."""
    log = await harness.open(Limits(retention_bytes=0))
    expect(await log.store((draft(), draft())) == [1, 2], "they are stored")
    expect(await log.page(["a"], 2) == ([], 2), "the end is known")
    expect(await log.gap(1) == "expired", "nothing before it is")


@check(clock=True)
async def retention_by_age(harness: Harness) -> None:
    """What is older than retention_age is Gap(expired) after the next append."""
    log = await harness.open(Limits(retention_age=100.0))
    await log.store((draft(), draft()))
    harness.clock.now += 60.0
    await log.store((draft(),))
    harness.clock.now += 60.0
    await log.store((draft(),))
    expect(await log.gap(1) == "expired", "the first two are too old")
    expect(await log.page(["a"], 2) == ([3, 4], 4), "the others are kept")


@check()
async def the_last_retained_event_is_the_snapshot(harness: Harness) -> None:
    """A retained event takes its slot (channel, topic, type); other topics, types and channels are other slots."""
    log = await harness.open()
    await log.store(
        (_snapshot(b"1"), _snapshot(b"2", topic="t"), _snapshot(b"3", type="u"), _snapshot(b"4", "b"), _snapshot(b"5")),
        (draft(data=b"not retained"), _snapshot(b"6", topic="")),
    )
    expect(await log.snapshots(["a"]) == [b"2", b"3", b"5", b"6"], "the last of each slot, oldest first")
    expect(await log.snapshots(["b"]) == [b"4"], "of the asked channels only")
    expect(await log.snapshots(None) == [b"2", b"3", b"4", b"5", b"6"], "or of all")
    expect(await log.snapshots(["nobody"]) == [] == await log.snapshots([]), "or of none")


@check()
async def a_snapshot_for_several_channels_has_a_slot_in_each(harness: Harness) -> None:
    """Each channel's slot changes by itself; who asks for several channels gets an event once."""
    log = await harness.open()
    await log.store((_snapshot(b"both", "a", "b"),))
    expect(await log.snapshots(["a", "b"]) == [b"both"], "it comes once")
    await log.store((_snapshot(b"new", "b"),))
    expect(await log.snapshots(["a"]) == [b"both"], "a's slot has not changed")
    expect(await log.snapshots(["a", "b"]) == [b"both", b"new"], "b's has")


@check()
async def empty_data_clears_the_slot(harness: Harness) -> None:
    """A retained event without data is an event like others, and leaves its slots empty."""
    log = await harness.open()
    await log.store((_snapshot(b"1", "a", "b"), _snapshot(b"2", topic="t")), (_snapshot(b"", "a"),), (_snapshot(b"", "c"),))
    expect(await log.snapshots(None) == [b"1", b"2"], "a's slot without topic is empty, b's is not")
    expect(await log.snapshots(["a"]) == [b"2"], "so it looks from a")
    expect(await log.page(["a", "c"]) == ([1, 2, 3, 4], 4), "the events are in the log")
    await log.store((_snapshot(b"3"),), (_snapshot(b""), _snapshot(b"4")), (_snapshot(b"5"), _snapshot(b"")))
    expect(await log.snapshots(["a"]) == [b"2"], "the last one in a record counts")


@check()
async def snapshots_represent_a_position(harness: Harness) -> None:
    """What is up to `at` is in the snapshots, and reading on after `at` gives the rest."""
    log = await harness.open()
    for i in range(30):
        appending = asyncio.ensure_future(log.store((_snapshot(b"%d" % i), draft("b"))))
        found = await log.backend.retained(["a"])
        seen = found.events[-1].position if found.events else 0
        expect(found.at <= log.last, "deliver has seen what the snapshots represent")
        await appending
        rest = (await log.page(["a"], found.at))[0]
        wanted = list(range(1, log.last + 1, 2))
        expect(rest == [position for position in wanted if position > found.at], "the log goes on after `at`")
        expect(seen == max((position for position in wanted if position <= found.at), default=0), "the slot is as of `at`")


@check()
async def snapshots_outlive_the_events(harness: Harness) -> None:
    """A slot keeps its event whatever the log's retention."""
    log = await harness.open(Limits(retention_bytes=0))
    await log.store((_snapshot(b"kept", attrs=(("k", ("v",)),)),), (draft(),))
    found = await log.backend.retained(["a"])
    expect([event == log.items[event.position] for event in found.events] == [True], "it is the event that was delivered")


@check(clock=True)
async def expired_snapshots_are_left_out(harness: Harness) -> None:
    """A snapshot whose time is over is not in the answer, and its slot is not filled by an older one."""
    log = await harness.open()
    soon = harness.clock.now + 10.0
    await log.store((_snapshot(b"old"), _snapshot(b"1", expires=soon), _snapshot(b"2", "b", expires=soon + 100.0)))
    expect(await log.snapshots(None) == [b"1", b"2"], "both are there in time")
    harness.clock.now += 11.0
    expect(await log.snapshots(None) == [b"2"] == await log.snapshots(["a", "b"]), "one is over")


@check()
async def retained_slots_are_bounded(harness: Harness) -> None:
    """Beyond retained_slots a new slot is refused as retained_full; those that are there can change and be cleared."""
    log = await harness.open(Limits(retained_slots=2))
    await log.store((_snapshot(b"1", "a", "b"),))
    refusal = await log.refused((draft(), _snapshot(b"2", "c")))
    expect((refusal.code, refusal.index) == ("retained_full", 1), "a third slot is refused, with its index")
    await log.store((_snapshot(b"3"),), (_snapshot(b"", "b"), _snapshot(b"4", "c")))
    expect(await log.snapshots(None) == [b"3", b"4"], "a change and an exchange are not")


@check()
async def retained_bytes_are_bounded(harness: Harness) -> None:
    """Beyond retained_bytes a snapshot is refused as retained_full; a smaller one, and clearing, are not."""
    log = await harness.open(Limits(retained_bytes=10_000))
    await log.store((_snapshot(bytes(8000)),))
    expect((await log.refused((_snapshot(bytes(8000), "b"),))).code == "retained_full", "two are too much")
    expect((await log.refused((_snapshot(bytes(11_000)),))).code == "retained_full", "so is a larger one in its place")
    await log.store((_snapshot(bytes(7000)),), (_snapshot(b""),), (_snapshot(bytes(8000), "b"),))
    expect(await log.snapshots(None) == [bytes(8000)], "there is room after clearing")


@check(clock=True)
async def expired_snapshots_make_room(harness: Harness) -> None:
    """A snapshot whose time is over does not keep a new one out."""
    log = await harness.open(Limits(retained_slots=2))
    await log.store((_snapshot(b"1", "a", "b", expires=harness.clock.now + 10.0),))
    expect((await log.refused((_snapshot(b"2", "c"),))).code == "retained_full", "in time it does")
    harness.clock.now += 11.0
    await log.store((_snapshot(b"2", "c"), _snapshot(b"3", "d")))
    expect(await log.snapshots(None) == [b"2", b"3"], "afterwards it does not")


@check()
async def no_room_for_snapshots_works(harness: Harness) -> None:
    """With no slots retained events are refused, and clearing is not."""
    log = await harness.open(Limits(retained_slots=0))
    expect((await log.refused((_snapshot(b"1"),))).code == "retained_full", "there is no slot")
    expect(await log.store((_snapshot(b""),)) == [1], "nothing can be cleared")


def _snapshot(data: bytes, *channels: str, **fields: Any) -> Draft:
    return draft(*channels, data=data, retain=True, **fields)


async def _read_all(log: Follower, channels: list[str], limit: int) -> list[int]:
    found: list[int] = []
    after = 0
    while after < log.last:
        positions, through = await log.page(channels, after, limit)
        expect(through > after, "a page goes on")
        expect(len(positions) <= limit, "a page keeps the limit")
        found += positions
        after = through
    return found


async def _kept(log: Follower) -> int:
    """How many of the last events can be read: found by halving, for what is kept has no hole."""
    low, high = 0, log.last
    while low < high:
        middle = (low + high + 1) // 2
        page = await log.backend.read(["a"], log.last - middle, 1)
        low, high = (middle, high) if hasattr(page, "events") else (low, middle - 1)
    return low
