"""Streams that the window has left behind: pages of the log, or a `resync` that says why and, where it can, how much is missing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import ujson

from sse_daemon.backend import Gap, Limits, Page
from sse_daemon.backends.memory import MemoryBackend
from sse_daemon.catchup import READERS, READERS_EACH
from sse_daemon.errors import BackendUnavailable
from sse_daemon.event import PUBLIC, Draft
from sse_daemon.hub import PAGE
from sse_daemon.stream import Profile, State, Wire
from sse_daemon.subscription import Filter, Subscription
from tests.unit.test_hub import Client, Rig, check


async def rig_of(window: int, retention: int) -> Rig:
    return await Rig(window, retention).start()


async def fill(rig: Rig, client: Client, events: int, size: int = 900) -> None:
    """Publishes more than the client's socket takes, without the client reading."""
    for _ in range(events):
        await rig.publish([PUBLIC], size=size)


async def finish(rig: Rig) -> None:
    await rig.settle()
    await rig.stop()


async def test_what_the_window_lost_comes_from_the_log_and_nothing_is_held_for_it_meanwhile() -> None:
    rig = await rig_of(2_000, 1 << 30)
    client = await rig.connect("a")
    await rig.settle()
    await fill(rig, client, 300)
    await rig_turns(rig, 50)
    assert client.stream.state in (State.BEHIND, State.FETCHING)
    assert len(client.stream.rest) < 1_200, "the rest of one frame, never of a page"
    await rig.settle()
    assert check(rig, client) == 0
    assert len(list(client.blocks())) == 301
    await rig.stop()


async def rig_turns(rig: Rig, turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_a_hole_with_an_event_in_it_that_can_expire_is_not_counted() -> None:
    """Whoever had come in time might have got it or not."""
    rig = await rig_of(2_000, 2_000)
    client = await rig.connect("a")
    await rig.settle()
    await fill(rig, client, 200)
    await rig.publish([PUBLIC], size=900, expires=time.time() + 3600)
    await fill(rig, client, 100)
    await rig_turns(rig, 50)
    await rig.settle()
    (resync,) = [ujson.loads(block["data"]) for block in client.blocks() if block.get("event") == "resync"]
    assert resync == {"reason": "lagged", "missed": None}
    await rig.stop()


async def test_an_open_stream_that_was_overtaken_everywhere_is_told_lagged_and_how_many() -> None:
    rig = await rig_of(2_000, 2_000)
    client = await rig.connect("a")
    await rig.settle()
    await fill(rig, client, 300)
    await rig_turns(rig, 50)
    await rig.settle()
    (resync,) = [ujson.loads(block["data"]) for block in client.blocks() if block.get("event") == "resync"]
    got = len([block for block in client.blocks() if block.get("event") is None and block["data"]])
    assert resync == {"reason": "lagged", "missed": 300 - got}
    assert check(rig, client) == 1
    assert rig.catchup.resyncs == {"lagged": 1}
    await rig.stop()


async def test_who_comes_back_too_late_is_told_expired() -> None:
    rig = await rig_of(2_000, 2_000)
    other = await rig.connect("b")
    await fill(rig, other, 20)
    await rig.settle()
    client = await rig.connect("a", after=1)
    await rig.settle()
    assert [ujson.loads(b["data"])["reason"] for b in client.blocks() if b.get("event") == "resync"] == ["expired"]
    assert check(rig, client) == 1
    await rig.stop()


async def test_snapshots_follow_the_resync_and_the_last_block_has_the_id() -> None:
    rig = await rig_of(0, 0)
    client = await rig.connect("a")
    for type in ("one", "two"):
        await rig.backend.append([(Draft((PUBLIC,), type, None, (), b"kept", retain=True),)])
    await rig.settle()
    await rig.backend.append([(Draft((PUBLIC,), "gone", None, (), b"gone"),)])
    late = await rig.connect("a", after=0)
    await rig.settle()
    blocks = list(late.blocks())[1:]
    assert [block.get("event") for block in blocks] == ["resync", "one", "two"]
    assert [block.get("id") for block in blocks] == [None, None, f"{rig.hub.incarnation}-3"]
    assert client.stream.state is State.LIVE
    await rig.stop()


class Faulty(MemoryBackend):
    """A log that does what a test tells it before it reads."""

    before: Callable[[], Any] = staticmethod(lambda: None)

    async def read(self, channels: Collection[str], after: int, limit: int) -> Page | Gap:
        result = self.before()
        if result is not None:
            await result
        return await super().read(channels, after, limit)


async def faulty_rig(window: int) -> tuple[Rig, Faulty]:
    rig = Rig(window, 1 << 30)
    rig.backend = backend = Faulty("memory://", Limits())
    return await rig.start(), backend


async def test_a_log_that_does_not_answer_ends_the_stream_with_bye_and_no_lie(expect_log: Callable[..., Any]) -> None:
    expect_log("sse_daemon.catchup", "cannot read the log")
    rig, backend = await faulty_rig(0)
    await rig.publish([PUBLIC])
    await rig.publish([PUBLIC])

    def fail() -> None:
        raise BackendUnavailable("it is away")

    backend.before = fail  # type: ignore[method-assign]
    await rig_turns(rig, 3)
    client = await rig.connect("a", after=0)
    await rig.settle()
    last = list(client.blocks())[-1]
    assert last["event"] == "bye" and ujson.loads(last["data"])["reason"] == "unavailable"
    assert client.stream.state is State.CLOSED and "id" not in last
    await rig.stop()


async def test_eviction_that_outruns_a_willing_reader_three_times_is_a_lag() -> None:
    rig, backend = await faulty_rig(0)
    await rig.publish([PUBLIC])
    await rig.publish([PUBLIC])
    await rig_turns(rig, 3)
    reads = []

    async def overtake() -> None:
        reads.append(1)
        for _ in range(2):
            await rig.publish([PUBLIC])
        await rig_turns(rig, 3)

    backend.before = overtake  # type: ignore[method-assign]
    client = await rig.connect("a", after=0)
    await rig_turns(rig, 60)
    client.read()
    reasons = [ujson.loads(b["data"])["reason"] for b in client.blocks() if b.get("event") == "resync"]
    assert reasons in ([], ["lagged"]) and len(reads) >= 1
    await finish(rig)
    check(rig, client)


async def test_a_walk_through_a_log_that_never_waits_leaves_the_loop_to_others() -> None:
    rig = await rig_of(0, 1 << 30)
    for _ in range(10 * PAGE):
        await rig.publish([PUBLIC])
    await rig_turns(rig, 3)
    client = await rig.connect("a", after=0, filter=Filter(types=("none",)))
    turns = 0
    while client.stream.state is not State.LIVE:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 10, "a turn for each page"
    await finish(rig)


async def test_a_defect_met_by_one_stream_ends_it_with_bye_instead_of_leaving_it_silent(expect_log: Callable[..., Any]) -> None:
    expect_log("sse_daemon.catchup", "a stream could not be served")
    rig, backend = await faulty_rig(0)
    await rig.publish([PUBLIC])
    await rig_turns(rig, 3)

    def fail() -> None:
        raise RuntimeError("a defect")

    backend.before = fail  # type: ignore[method-assign]
    client = await rig.connect("a", after=0)
    await rig.settle()
    assert [block.get("event") for block in client.blocks()][-1] == "bye"
    assert client.stream.state is State.CLOSED
    await rig.stop()


async def test_one_participants_many_streams_do_not_take_all_turns() -> None:
    rig = await rig_of(2_000, 1 << 30)
    for _ in range(300):
        await rig.publish([PUBLIC], size=900)
    reading: Counter[str] = Counter()
    most: Counter[str] = Counter()
    read, go = rig.backend.read, asyncio.Event()

    async def slow(names: Collection[str], after: int, limit: int) -> Page | Gap:
        """Everybody who may read waits until the test has looked."""
        name = "other" if "participant/other" in names else "crowd"
        reading[name] += 1
        most[name] = max(most[name], reading[name])
        await go.wait()
        reading[name] -= 1
        return await read(names, after, limit)

    rig.backend.read = slow  # type: ignore[method-assign]
    crowd = [await rig.connect("crowd", after=0) for _ in range(3 * READERS)]
    other = await rig.connect("other", after=0)
    await rig_turns(rig, 50)
    assert most["crowd"] <= READERS_EACH
    assert most["other"] == 1
    go.set()
    await rig.settle()
    assert [check(rig, client) for client in (*crowd, other)] == [0] * (len(crowd) + 1)
    await rig.stop()


async def test_a_whole_ipv6_network_has_the_turns_of_one_address() -> None:
    rig = await rig_of(2_000, 1 << 30)
    leave = asyncio.Event()
    reading: list[str] = []

    async def read(address: str) -> None:
        wire = Wire(True, False, rig.hub.incarnation)
        nobody = Profile("c", None, "/events", address, 0.0, Subscription((PUBLIC,)), wire, False, None)
        async with rig.catchup._turn(nobody):
            reading.append(address)
            await leave.wait()

    crowd = [f"[2001:db8::{number}]:1" for number in range(1, 2 * READERS_EACH)]
    tasks = [asyncio.create_task(read(address)) for address in (*crowd, "[2001:db8:0:1::1]:1")]
    await rig_turns(rig, 20)
    assert reading == [*crowd[:READERS_EACH], "[2001:db8:0:1::1]:1"]
    leave.set()
    await asyncio.gather(*tasks)
    await rig.stop()
