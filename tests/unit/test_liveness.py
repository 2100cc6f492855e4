"""Time and streams: heartbeats in silence and nowhere else, and an end for who stalls, pins, or has lived long enough.

All times are in units of one short heartbeat; nothing asserts how long anything took.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from sse_daemon import hub as hub_module
from sse_daemon.event import PUBLIC
from sse_daemon.liveness import ENDED_KEPT, Liveness, Timing
from sse_daemon.stream import State
from tests.unit.test_hub import Client, Rig

UNIT = 0.05


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = await Rig(1 << 20, 1 << 20).start()
    yield rig
    await rig.stop()


def liveness(rig: Rig, heartbeat: float = UNIT, stall: float = 100.0, pinned: int = 1 << 30) -> Liveness:
    return Liveness(rig.hub, Timing(heartbeat, stall, pinned), rig.loop, time.time, lambda: 777)


async def connect(rig: Rig, watch: Liveness, event: bool = False, expires: float | None = None) -> Client:
    client = await rig.connect("a")
    client.stream.profile = client.stream.profile._replace(heartbeat_event=event, expires=expires)
    watch.watch(client.stream)
    await rig.settle()
    client.bytes.clear()
    return client


async def until(done: object, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(UNIT / 10)


async def fill(rig: Rig, client: Client) -> None:
    while client.stream.state is State.LIVE:
        await rig.publish([PUBLIC], size=900)
        await asyncio.sleep(0)


async def test_a_comment_in_silence_and_the_position_only_if_it_moved(rig: Rig) -> None:
    watch = liveness(rig)
    client = await connect(rig, watch)
    await until(lambda: client.read() and b"keepalive" in client.bytes)
    assert b"id:" not in client.bytes
    await rig.publish(["participant/somebody else"])
    await until(lambda: client.read() and b"id:" in client.bytes)
    assert f"id: {rig.hub.incarnation}-1\n\n".encode() in client.bytes
    assert rig.hub.position(client.stream) == client.stream.announced == 1
    watch.close()


async def test_the_heartbeat_as_an_event_always_carries_the_position(rig: Rig) -> None:
    watch = liveness(rig)
    client = await connect(rig, watch, event=True)
    await until(lambda: client.read() and list(client.blocks()))
    (first, *_) = client.blocks()
    assert first["event"] == "heartbeat" and first["id"].endswith("-0") and first["data"].startswith(b'{"timestamp":')
    watch.close()


async def test_a_heartbeat_in_mid_sweep_says_where_the_stream_stands(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While there is always something new a stream that wants none of it is due whenever somebody looks."""
    monkeypatch.setattr(hub_module, "SLICE", 0.0)
    watch = liveness(rig, heartbeat=100.0)
    for _ in range(40):
        await connect(rig, watch)
    await rig.publish([PUBLIC])
    assert (rig.hub.served, rig.hub.end) == (0, 1), "a sweep is under way"
    for client in rig.clients:
        watch._look_at(client.stream, rig.loop.time() + 200.0)
    assert watch.heartbeats == 40
    await rig.settle()
    for client in rig.clients:
        ids = [block["id"].rpartition("-")[2] for block in client.blocks() if "id" in block]
        assert ids == ["1"], "those who had the event are told nothing new, nor are the others, who get it then"
    watch.close()


async def test_a_stream_that_is_behind_gets_no_heartbeat(rig: Rig) -> None:
    watch = liveness(rig)
    client = await connect(rig, watch)
    other = await connect(rig, watch)
    await fill(rig, client)
    before = watch.heartbeats
    await until(lambda: other.read() or b"keepalive" in other.bytes)
    await until(lambda: (other.read(), watch.heartbeats > before + 5)[1])
    await rig.settle()
    assert b"keepalive" not in bytes(client.bytes).rpartition(b"data:")[0]
    watch.close()


async def test_who_makes_no_progress_is_closed_and_the_others_are_not(rig: Rig) -> None:
    watch = liveness(rig, heartbeat=100.0, stall=UNIT)
    client = await connect(rig, watch)
    reader = await connect(rig, watch)
    await fill(rig, client)
    await until(lambda: (reader.read(), client.stream.state is State.CLOSED)[1])
    assert client.stream.reason == "stalled" and reader.stream.state is not State.CLOSED
    watch.close()


async def test_beyond_the_pinned_limit_the_longest_stalled_is_closed(rig: Rig) -> None:
    watch = liveness(rig, heartbeat=10 * UNIT, pinned=900)
    first, second = await connect(rig, watch), await connect(rig, watch)
    await rig.publish([PUBLIC], size=300_000)
    await until(lambda: len(rig.hub.blocked) == 2)
    longest = [stream.profile.id for stream in rig.hub.blocked]
    await until(lambda: first.stream.state is State.CLOSED and second.stream.state is State.CLOSED)
    assert [closed.profile.id for closed in rig.hub.closed] == longest
    assert rig.hub.closings["pinned"] == 2
    watch.close()


async def test_a_stream_with_a_lifetime_ends_with_bye(rig: Rig) -> None:
    watch = liveness(rig)
    client = await connect(rig, watch, expires=rig.loop.time() + UNIT)
    await until(lambda: (client.read(), client.stream.state is State.CLOSED)[1])
    client.read()
    assert list(client.blocks())[-1]["data"] == b'{"reason":"lifetime"}'
    watch.close()


async def test_streams_that_ended_are_not_kept_until_they_would_be_due(rig: Rig) -> None:
    watch = liveness(rig, heartbeat=1000.0, stall=10 * UNIT)
    stays = await connect(rig, watch)
    for _ in range(2 * ENDED_KEPT):
        ends = await connect(rig, watch)
        rig.hub.close(ends.stream, "client")
    await until(lambda: kept(watch) <= ENDED_KEPT + 2)
    assert any(stays.stream in streams for streams in watch._wheel.values())


def kept(watch: Liveness) -> int:
    """Streams in the wheel."""
    return sum(map(len, watch._wheel.values()))
