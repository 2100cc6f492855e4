from __future__ import annotations

import gc
import tracemalloc

import pytest

from sse_daemon.backend import Limits, Page
from sse_daemon.backends.conformance_harness import Clock, draft
from sse_daemon.backends.memory import MemoryBackend


async def test_every_open_is_a_new_incarnation() -> None:
    logs = [MemoryBackend("memory://", Limits()) for _ in range(3)]
    assert len({(await log.open(lambda *batch: None)).incarnation for log in logs}) == 3


async def test_append_never_suspends() -> None:
    log = MemoryBackend("memory://", Limits())
    await log.open(lambda *batch: None)
    step = log.append([(draft(),)])
    try:
        step.send(None)  # type: ignore[attr-defined]
    except StopIteration as end:
        assert end.value[0].positions == (1,)
    else:
        raise AssertionError("it waited")


async def test_kept_events_are_no_work_for_the_garbage_collector() -> None:
    log = MemoryBackend("memory://", Limits())
    await log.open(lambda *batch: None)
    gc.collect()
    before = len(gc.get_objects())
    await log.append([(draft(attrs=(("k", "v"),), data=b"%d" % i),) for i in range(2000)])
    gc.collect()
    assert len(gc.get_objects()) - before < 200


@pytest.mark.parametrize("channels", [("a",), ("a", "b")], ids=["one", "two"])
async def test_kept_events_share_the_names_of_their_channels(channels: tuple[str, ...]) -> None:
    log = MemoryBackend("memory://", Limits())
    await log.open(lambda *batch: None)
    for _ in range(2):
        await log.append([(draft(*(f"participant/{name}" for name in channels)),)])
    page = await log.read([f"participant/{name}" for name in channels], 0, 9)
    assert isinstance(page, Page)
    first, second = page.events
    assert [id(name) for name in first.channels] == [id(name) for name in second.channels]


async def test_the_limit_in_bytes_is_what_the_process_holds() -> None:
    """Counted as 8 MB must not take 71, whatever the events look like."""
    log = MemoryBackend("memory://", Limits(retention_bytes=4_000_000))
    await log.open(lambda *batch: None)
    gc.collect()
    tracemalloc.start()
    try:
        for i in range(5000):
            channels = [f"participant/{i * 7 % 3001}/{j}" for j in range(10)]
            await log.append([(draft(*channels, data=b"%0100d" % i, topic=f"topic.{i}"),)])
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 6_000_000


async def test_age_is_looked_at_when_reading_too() -> None:
    clock = Clock()
    log = MemoryBackend("memory://", Limits(retention_age=10.0), clock=clock)
    await log.open(lambda *batch: None)
    await log.append([(draft(),)])
    clock.now += 11.0
    assert getattr(await log.read(["a"], 0, 1), "reason", None) == "expired"
