"""Workers that cannot start, or die as soon as they have; everything else about them is tested from outside."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import httpx
import pytest

from sse_daemon import config, crew
from sse_daemon.backend import Limits
from sse_daemon.backends.memory import MemoryBackend
from sse_daemon.crew import Crew
from sse_daemon.errors import WorkerFailed
from sse_daemon.listening import Listening
from sse_daemon.relay import Relay
from tests.conftest import LogWatch

Until = Callable[..., Awaitable[Any]]
DIES = (sys.executable, "-c", "raise SystemExit(3)")
LEAVES = (sys.executable, "-c", "import time; time.sleep(1000)")


@pytest.fixture
async def staff() -> AsyncIterator[tuple[Crew, Listening]]:
    settings = config.load(None, {"SSE_DAEMON_LOG_LEVEL": "error"}, dev=True)
    log = MemoryBackend("memory://", Limits())
    listening = Listening(2)
    listening.open(["127.0.0.1:0"], settings.streams)
    tasks: set[asyncio.Task[None]] = set()

    def keep(work: Coroutine[Any, Any, None]) -> None:
        tasks.add(asyncio.get_running_loop().create_task(work))

    opened = await log.open(lambda *batch: relay.deliver(*batch))
    relay = Relay(log, opened.incarnation, opened.head, lambda: ())
    workers = Crew(settings, relay, lambda: None, keep)
    yield workers, listening
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await workers.close()
    listening.close()
    await log.close()


async def test_a_worker_that_cannot_start_ends_the_start(staff: tuple[Crew, Listening], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "COMMAND", DIES)
    workers, listening = staff
    async with asyncio.timeout(20):
        with pytest.raises(WorkerFailed, match="w[12] ended while it started"):
            await workers.start(listening.sets)
    assert workers.why_not_ready is not None


async def test_a_worker_that_says_nothing_ends_the_start(
    staff: tuple[Crew, Listening], monkeypatch: pytest.MonkeyPatch, expect_log: LogWatch
) -> None:
    expect_log("sse_daemon.crew", "has gone silent and is killed")
    monkeypatch.setattr(crew, "COMMAND", LEAVES)
    monkeypatch.setattr(crew, "STARTING", 0.2)
    workers, listening = staff
    async with asyncio.timeout(20):
        with pytest.raises(WorkerFailed, match="w[12] ended while it started"):
            await workers.start(listening.sets)


async def test_a_program_that_is_not_there_ends_the_start(staff: tuple[Crew, Listening], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "COMMAND", ("/nowhere/python",))
    workers, listening = staff
    with pytest.raises(WorkerFailed, match="No such file"):
        await workers.start(listening.sets)


async def test_one_that_dies_at_once_is_replaced_more_and_more_slowly(
    staff: tuple[Crew, Listening], monkeypatch: pytest.MonkeyPatch, expect_log: LogWatch, until: Until
) -> None:
    said = expect_log("sse_daemon.crew", "another one takes its place")
    workers, listening = staff
    await workers.start(listening.sets)
    assert workers.why_not_ready is None
    monkeypatch.setattr(crew, "COMMAND", DIES)
    delays: list[float] = []
    sleep = asyncio.sleep

    async def quickly(seconds: float, *rest: Any) -> Any:
        if seconds >= crew.FIRST_DELAY and seconds != crew.LOOK:
            delays.append(seconds)
            seconds = 0
        return await sleep(seconds, *rest)

    monkeypatch.setattr(crew, "FIRST_DELAY", 0.11)
    monkeypatch.setattr(crew.asyncio, "sleep", quickly)
    workers._workers[0].process.kill()
    await until(lambda: len(delays) >= 9)
    assert delays[:9] == [pytest.approx(d) for d in (0.11, 0.22, 0.44, 0.88, 1.76, 3.52, 7.04, 10.0, 10.0)]
    assert len(said.seen) >= 9 and workers.why_not_ready is None, "the other one is there"
    monkeypatch.setattr(crew.asyncio, "sleep", sleep)
    monkeypatch.undo()
    assert (await workers.values())["workers"] == 1


async def test_what_an_operator_does_while_a_worker_starts_holds_for_it_too(
    staff: tuple[Crew, Listening], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers, listening = staff
    hello = workers._hello
    workers.bars.put("early", 600)

    async def then_kick() -> tuple[Any, ...]:
        told = await hello()
        workers.bars.lift("early")
        workers.bars.put("late", 600)
        return told

    monkeypatch.setattr(workers, "_hello", then_kick)
    await workers.start(listening.sets)
    http = f"http://127.0.0.1:{listening.sets[0][0].getsockname()[1]}/events"
    async with asyncio.timeout(30), httpx.AsyncClient(headers={"Accept": "application/json"}) as client:
        for key, status in (("late", 403), ("early", 200)):
            while (await client.get(http, params={"public_key": key})).status_code != status:
                await asyncio.sleep(0.01)


async def test_one_that_does_not_end_is_killed(
    staff: tuple[Crew, Listening], monkeypatch: pytest.MonkeyPatch, expect_log: LogWatch
) -> None:
    expect_log("sse_daemon.crew", "does not end and is killed")
    monkeypatch.setattr(crew, "COMMAND", LEAVES)
    monkeypatch.setattr(crew, "LEAVE", 0.1)
    workers, listening = staff
    starting = asyncio.ensure_future(workers.start(listening.sets))
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    async with asyncio.timeout(20):
        await workers.close()
    assert all(worker.process.returncode == -9 for worker in workers._workers.values())
