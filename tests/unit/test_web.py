"""What a request finds when its answer is ready may not be what it found when it came. The rest is tested from outside."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from attrs import evolve

from sse_daemon.event import Draft, participant_channel
from tests.unit.web_house import House, answer, house

__all__ = ["house"]

Until = Callable[..., Awaitable[Any]]

DOORS = pytest.mark.parametrize("door", [(), ("Content-Length: 0",)], ids=["lean", "handlers"])


@DOORS
async def test_who_is_shut_out_while_the_snapshots_are_read_does_not_get_in(
    house: House, until: Until, door: tuple[str, ...]
) -> None:
    client = house.ask("a", *door)
    await until(lambda: house.backend.asked)
    house.door.bars.put("a", 600)
    house.backend.go.set()
    assert (await answer(client)).startswith(b"HTTP/1.1 403 ")
    assert house.hub.opened == 0


@DOORS
async def test_a_stream_that_opens_into_a_drain_is_sent_away(house: House, until: Until, door: tuple[str, ...]) -> None:
    client = house.ask("a", *door)
    await until(lambda: house.backend.asked)
    house.door.closed_for = "drain"
    house.backend.go.set()
    assert b'event: bye\ndata: {"reason":"drain"' in await answer(client)
    assert house.hub.opened == 0


@DOORS
async def test_a_crowd_that_comes_at_once_does_not_pass_the_limit(house: House, until: Until, door: tuple[str, ...]) -> None:
    house.door.settings = evolve(house.config.streams, max_streams=2)
    for number in range(5):
        house.ask(f"k{number}", *door)
    await until(lambda: house.backend.asked == 5)
    house.backend.go.set()
    await until(lambda: house.door.turned_away + house.hub.opened == 5)
    assert (house.hub.opened, house.door.turned_away) == (2, 3)


async def test_a_long_poll_does_not_answer_who_was_shut_out_while_it_waited(house: House, until: Until) -> None:
    client = house.ask("a", f"Last-Event-ID: {house.hub.incarnation}-0", accept="application/json")
    await until(lambda: participant_channel("a") in house.hub.window.channels)
    house.door.bars.put("a", 600)
    await house.backend.append([(Draft((participant_channel("a"),), "message", None, (), b"secret"),)])
    head, _, body = (await answer(client)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 ") and json.loads(body)["error"] == "kicked"
