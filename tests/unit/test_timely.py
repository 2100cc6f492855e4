"""What a log does not answer in time counts as unavailable, and an append is only ever waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sse_daemon.backend import Limits, Stored
from sse_daemon.backends.memory import MemoryBackend
from sse_daemon.errors import BackendUnavailable
from sse_daemon.event import PUBLIC, Draft
from sse_daemon.timely import Timely

RECORD = (Draft((PUBLIC,), "t", None, (), b""),)


class Stuck(MemoryBackend):
    """A log that answers nothing while its gate is closed."""

    def __init__(self) -> None:
        super().__init__("memory://", Limits())
        self.gate = asyncio.Event()

    async def _after_the_gate(self, answer: Awaitable[Any]) -> Any:
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            answer.close()  # type: ignore[attr-defined]
            raise
        return await answer

    async def append(self, *args: Any) -> Any:
        return await self._after_the_gate(super().append(*args))

    async def read(self, *args: Any) -> Any:
        return await self._after_the_gate(super().read(*args))

    async def retained(self, *args: Any) -> Any:
        return await self._after_the_gate(super().retained(*args))

    async def check(self) -> None:
        await self._after_the_gate(super().check())


async def opened(patience: float) -> tuple[Stuck, Timely]:
    stuck = Stuck()
    timely = Timely(stuck, patience)
    await timely.open(lambda *_: None)
    return stuck, timely


@pytest.mark.parametrize(
    "ask",
    [lambda log: log.read([PUBLIC], 0, 1), lambda log: log.retained(None), lambda log: log.check()],
    ids=["read", "retained", "check"],
)
async def test_a_question_without_an_answer_ends_and_the_next_one_may_be_answered(
    ask: Callable[[Timely], Awaitable[Any]],
) -> None:
    stuck, timely = await opened(0.01)
    with pytest.raises(BackendUnavailable, match="has not answered"):
        await ask(timely)
    stuck.gate.set()
    await ask(timely)
    await timely.close()


async def test_an_append_is_waited_for_and_tells_how_long(until: Any) -> None:
    stuck, timely = await opened(0.01)
    assert timely.silent_for() == 0.0
    asked = asyncio.ensure_future(timely.append([RECORD]))
    await until(lambda: timely.silent_for() > 0.05, "more than its patience")
    assert not asked.done()
    stuck.gate.set()
    assert await asked == [Stored((1,))]
    assert timely.silent_for() == 0.0
    await timely.close()
