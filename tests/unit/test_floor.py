"""The streams of one process: what holds from when it accepts."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sse_daemon import hub as hub_module
from sse_daemon.backend import Limits, Opened
from sse_daemon.backends.memory import MemoryBackend
from sse_daemon.config import load
from sse_daemon.directory import Directory
from sse_daemon.event import PUBLIC
from sse_daemon.floor import Floor
from tests.unit.test_hub import Rig


def hold() -> None:
    time.sleep(0.2)


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Floor, Rig]]:
    """A floor, and clients of its hub, whose sweeps have slices of 16 streams."""
    monkeypatch.setattr(hub_module, "SLICE", 0.0)
    backend = MemoryBackend("memory://", Limits())
    opened = await backend.open(lambda *batch: floor.deliver(*batch))
    floor = floor_of(backend, opened)
    rig = Rig(0, 0)
    rig.backend, rig.catchup, rig.hub = backend, floor.catchup, floor.hub
    yield floor, rig
    for client in rig.clients:
        client.sock.close()
    await floor.close()
    await backend.close()


def floor_of(backend: MemoryBackend, opened: Opened) -> Floor:
    directory = Directory({}, frozenset(), max_groups=1, max_topics=1)
    return Floor(load(None, {}, {}, dev=True), backend, opened, directory, lambda: None)


async def test_operators_are_told_up_to_where_everybody_was_served(rig: tuple[Floor, Rig]) -> None:
    floor, clients = rig
    for _ in range(40):
        await clients.connect("a")
    await clients.settle()
    await clients.publish([PUBLIC])
    assert floor.hub.end == 1
    assert floor.desk.counted()["sweep_position"] == 0
    rows, served = await floor.desk.readers(1, clients.loop.time())
    assert not served and {row["written"] for row in rows} == {True, False}
    await clients.settle()
    assert floor.desk.counted()["sweep_position"] == 1
    rows, served = await floor.desk.readers(1, clients.loop.time())
    assert served and [row["written"] for row in rows] == [True] * 40


async def test_a_start_that_took_long_turns_nobody_away(until: Any) -> None:
    backend = MemoryBackend("memory://", Limits())
    opened = await backend.open(lambda *batch: None)
    floor = floor_of(backend, opened)
    try:
        lag = floor.desk.loop_lag
        hold()
        await until(lambda: lag.worst > 0.1, "the start to be late")
        await floor.start([[]])
        assert lag.worst == 0.0
    finally:
        await floor.close()
