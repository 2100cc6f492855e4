"""What holds the loop is seen, by how much, and is forgotten after a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sse_daemon import loop_lag as module
from sse_daemon.loop_lag import LoopLag

EVERY = 0.01


@pytest.fixture
async def lag(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LoopLag]:
    monkeypatch.setattr(module, "EVERY", EVERY)
    lag = LoopLag(asyncio.get_running_loop())
    yield lag
    lag.close()


def hold() -> float:
    """Holds the loop; the seconds that it was."""
    begun = time.monotonic()
    time.sleep(20 * EVERY)
    return time.monotonic() - begun


async def test_what_held_the_loop_is_seen(lag: LoopLag, until: Any) -> None:
    held = hold()
    await until(lambda: lag.worst, "the next question")
    assert lag.worst > held / 2


async def test_the_worst_stays_while_the_loop_is_free_again(lag: LoopLag, until: Any) -> None:
    held = hold()
    begun = asyncio.get_running_loop().time()
    await until(lambda: asyncio.get_running_loop().time() > begun + 10 * EVERY, "some more questions")
    assert lag.worst > held / 2


async def test_it_is_forgotten_after_two_periods(lag: LoopLag, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held = hold()
    await until(lambda: lag.worst > held / 2, "the delay")
    monkeypatch.setattr(module, "KEPT", 5 * EVERY)
    await until(lambda: lag.worst < held / 2, "it to be forgotten")


async def test_it_ends(until: Any) -> None:
    loop = asyncio.get_running_loop()
    lag = LoopLag(loop)
    lag.close()
    hold()
    await asyncio.sleep(0)
    assert lag.worst == 0.0


async def test_what_lasts_is_told_from_a_peak(lag: LoopLag, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SUSTAINED", 30 * EVERY)
    limit = 5 * EVERY
    hold()
    await until(lambda: lag.worst, "the next question")
    assert not lag.sustained(limit)
    loop, begun = asyncio.get_running_loop(), time.monotonic()
    while not lag.sustained(limit):
        assert time.monotonic() < begun + 30
        hold()
        await asyncio.sleep(0)
    assert not lag.sustained(0.0)
    await until(lambda: not lag.sustained(limit), "it to be over")
    assert loop.time() > begun


async def test_one_pause_is_a_peak_however_long(lag: LoopLag, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SUSTAINED", 10 * EVERY)
    loop, limit = asyncio.get_running_loop(), 5 * EVERY
    begun = loop.time()
    await until(lambda: loop.time() > begun + 5 * EVERY, "some answers that were in time")
    hold()
    while lag.worst <= limit:
        await asyncio.sleep(0)
    assert not lag.sustained(limit), "a machine that was suspended is not overloaded when it is back"


async def test_what_was_before_it_matters_can_be_forgotten(lag: LoopLag, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SUSTAINED", 30 * EVERY)
    limit, begun = 5 * EVERY, time.monotonic()
    while not lag.sustained(limit):
        assert time.monotonic() < begun + 30
        hold()
        await asyncio.sleep(0)
    lag.forget()
    assert not lag.sustained(limit) and lag.worst == 0.0
    hold()
    await until(lambda: lag.worst > limit, "the next question")
    assert not lag.sustained(limit), "one late answer is a peak"
