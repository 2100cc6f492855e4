"""The streams of one process: what holds from when it accepts."""

from __future__ import annotations

import time
from typing import Any

from sse_daemon.backend import Limits
from sse_daemon.backends.memory import MemoryBackend
from sse_daemon.config import load
from sse_daemon.directory import Directory
from sse_daemon.floor import Floor


def hold() -> None:
    time.sleep(0.2)


async def test_a_start_that_took_long_turns_nobody_away(until: Any) -> None:
    backend = MemoryBackend("memory://", Limits())
    opened = await backend.open(lambda *batch: None)
    floor = Floor(
        load(None, {}, {}, dev=True), backend, opened, Directory({}, frozenset(), max_groups=1, max_topics=1), lambda: None
    )
    try:
        lag = floor.desk.loop_lag
        hold()
        await until(lambda: lag.worst > 0.1, "the start to be late")
        await floor.start([[]])
        assert lag.worst == 0.0
    finally:
        await floor.close()
