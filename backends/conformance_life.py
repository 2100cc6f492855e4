"""The promises of open, check and close, and of what survives them; imported as sse_daemon.backends.conformance_life, never under
the bare name.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

from sse_daemon.backend import Backend, Limits
from sse_daemon.backends.conformance_harness import Harness, check, draft, expect, numbered
from sse_daemon.errors import BackendUnavailable
from sse_daemon.event import Group, Topic

EVERYTHING: dict[str, Callable[[Backend], Awaitable[object]]] = {
    "append": lambda backend: backend.append([(draft(),)]),
    "read": lambda backend: backend.read(["a"], 0, 1),
    "retained": lambda backend: backend.retained(None),
    "check": lambda backend: backend.check(),
}


@check()
async def a_new_log_is_empty(harness: Harness) -> None:
    """The first open: an incarnation of 12 hexadecimal digits, head 0, no groups, no topics, nothing delivered."""
    log = await harness.open()
    expect(re.fullmatch("[0-9a-f]{12}", log.opened.incarnation) is not None, "the incarnation has its form")
    expect(log.opened[1:] == (0, {}, frozenset()), "the log is empty")
    expect(not log.items, "nothing is delivered")


@check()
async def an_incarnation_ends_with_its_positions(harness: Harness) -> None:
    """Positions that start anew have a new incarnation; a log that goes on keeps it."""
    first = await harness.open()
    await first.store((draft(),))
    second = await harness.open()
    same = second.opened.incarnation == first.opened.incarnation
    expect(same == (second.opened.head == 1), "the incarnation is the old one if and only if the positions go on")
    expect(same == second.backend.durable, "they go on if and only if the backend is durable")


@check()
async def check_returns_while_appends_work(harness: Harness) -> None:
    """check says what append would, and stores nothing that anybody sees."""
    log = await harness.open()
    await asyncio.gather(log.backend.check(), log.store((draft(),)), log.backend.check())
    expect(log.last == 1, "a check is no item")


@check()
async def close_twice_is_fine(harness: Harness) -> None:
    """A second close, also at the same time, does nothing; so does one before open."""
    log = await harness.open()
    await asyncio.gather(log.backend.close(), log.backend.close())
    await log.backend.close()
    await harness.unopened().close()


@check()
async def after_close_everything_is_unavailable(harness: Harness) -> None:
    """Every method raises BackendUnavailable once the backend is closed, and before it is opened."""
    log = await harness.open()
    await log.backend.close()
    for name, call in EVERYTHING.items():
        expect(await _unavailable(call(log.backend)), f"{name} after close")
        expect(await _unavailable(call(harness.unopened())), f"{name} before open")
    expect(await _unavailable(log.backend.open(log.deliver)), "open after close")
    expect(not log.items, "nothing is delivered")


@check()
async def close_waits_for_appends(harness: Harness) -> None:
    """An append that was there first is stored, delivered and answered."""
    log = await harness.open()
    appends = [asyncio.ensure_future(log.store(numbered([n]))) for n in range(1, 11)]
    await asyncio.sleep(0)
    await log.backend.close()
    expect(await asyncio.gather(*appends) == [[n] for n in range(1, 11)], "all are answered")


@check(durable=True)
async def everything_stored_survives(harness: Harness) -> None:
    """Events, snapshots, groups, topics and numbers are there when the log is opened again."""
    log = await harness.open()
    await log.store(
        (draft("a", attrs=(("k", ("v",)),), n=1), draft("b", data=b"kept", retain=True, expires=4e9, n=2)),
        (Group("g", ("p", "q")), Group("gone", ("p",)), Group("h", ("old",)), Topic("t", True), Topic("gone", True)),
        (Group("gone", ()), Group("h", ("new",)), Topic("gone", False)),
        (draft("c", data=b"", retain=True, n=5), draft("c", retain=True), draft("c", data=b"", retain=True)),
    )
    again = await harness.open()
    expect(again.opened.head == log.last == 13, "the head is where it was")
    expect(again.opened.groups == {"g": ("p", "q"), "h": ("new",)}, "groups are as they came to be")
    expect(again.opened.topics == frozenset({"t"}), "topics too")
    expect(not again.items, "nothing up to the head is delivered")
    page = await again.backend.read(["a", "b"], 0, 10)
    expect([log.items[event.position] == event for event in page.events] == [True, True], "events are the same")  # type: ignore[union-attr]
    expect(await again.snapshots(None) == [b"kept"], "snapshots too")
    expect(await again.store((*numbered([1, 2, 5]), draft(n=6))) == [1, 2, 11, 14], "numbers are remembered; positions go on")


@check(durable=True, clock=True)
async def the_window_goes_on_over_an_open(harness: Harness) -> None:
    """Numbers are remembered, forgotten and refused as if the log had not been closed."""
    limits = Limits(dedupe_window=60.0, max_producers=2)
    log = await harness.open(limits)
    await log.store(numbered([1, 2, 3]))
    harness.clock.now += 50.0
    await log.store(numbered([1], "other"))
    log = await harness.open(limits)
    expect(await log.store(numbered([3])) == [3], "in the window it is remembered")
    harness.clock.now += 50.0
    await log.store((draft(),))
    log = await harness.open(limits)
    expect((await log.refused(numbered([3]))).code == "too_old", "after it, it is refused")
    expect(await log.store(numbered([1], "other")) == [4], "another sender's window is another")
    expect(await log.store(numbered([1], "third")) == [6], "the silent one gives way")


@check(durable=True)
async def bounds_hold_over_an_open(harness: Harness) -> None:
    """What the snapshots take and how many senders there are is counted from what is stored."""
    limits = Limits(retained_slots=1, max_producers=1, retention_bytes=0)
    log = await harness.open(limits)
    await log.store((draft(retain=True, n=1),))
    log = await harness.open(limits)
    expect((await log.refused((draft("b", retain=True),))).code == "retained_full", "the slot is taken")
    expect((await log.refused(numbered([1], "other"))).code == "too_many_producers", "so is the place for a sender")
    expect(await log.gap(0) == "expired", "what was not kept is not kept")


async def _unavailable(call: Awaitable[object]) -> bool:
    try:
        await call
    except BackendUnavailable:
        return True
    return False
