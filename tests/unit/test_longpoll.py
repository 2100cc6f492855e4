"""Long-polls: an answer at once, when something comes, or when the wait is over; and nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest

from sse_daemon.backend import PAGE_BYTES, Gap, Page
from sse_daemon.catchup import READERS, READERS_EACH
from sse_daemon.event import PUBLIC, Draft, participant_channel
from sse_daemon.longpoll import LongPoll
from sse_daemon.stream import Profile, Wire
from sse_daemon.subscription import Filter, Subscription
from tests.unit.test_hub import Rig


class Poller:
    """One client's view of a rig."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.longpoll = LongPoll(rig.hub, rig.catchup, rig.backend, rig.loop)

    def profile(self, filter: Filter | None = None) -> Profile:
        wire = Wire(True, False, self.rig.hub.incarnation)
        subscription = Subscription((participant_channel("a"), PUBLIC), filter)
        return Profile("p", "a", "/events", "test", 0.0, subscription, wire, False, None)

    async def after(self, position: int, wait: float = 0.0, limit: int = 100, filter: Filter | None = None) -> Any:
        with self.longpoll.open(self.profile(filter)) as poll:
            return await self.longpoll.after(poll, position, wait, limit)


@pytest.fixture(params=[1 << 20, 0], ids=["from the window", "from the log"])
async def poller(request: pytest.FixtureRequest) -> AsyncIterator[Poller]:
    rig = await Rig(request.param, 1 << 20).start()
    yield Poller(rig)
    await rig.stop()


async def publish(poller: Poller, *types: str, key: str = "a") -> None:
    for type in types:
        await poller.rig.publish([participant_channel(key)], type=type)
    while poller.rig.hub.end != poller.rig.hub.window.head:
        await asyncio.sleep(0)


async def test_what_is_there_comes_at_once_and_the_cursor_passes_all_of_it(poller: Poller) -> None:
    await publish(poller, "one", "two")
    await publish(poller, "not mine", key="b")
    answer = await poller.after(0, wait=60)
    assert [event["type"] for event in answer.events] == ["one", "two"]
    assert answer.cursor == f"{poller.rig.hub.incarnation}-3"
    assert answer.events[0]["id"] == f"{poller.rig.hub.incarnation}-1"


async def test_a_limit_leaves_the_rest_for_the_next_request(poller: Poller) -> None:
    await publish(poller, "one", "two", "three")
    first = await poller.after(0, limit=2)
    assert [event["type"] for event in first.events] == ["one", "two"]
    second = await poller.after(int(first.cursor.rpartition("-")[2]))
    assert [event["type"] for event in second.events] == ["three"]


async def test_what_comes_while_it_waits_ends_the_wait(poller: Poller) -> None:
    asked = asyncio.create_task(poller.after(0, wait=60))
    await asyncio.sleep(0)
    await publish(poller, "not mine", key="b")
    assert not asked.done()
    await publish(poller, "mine")
    assert [event["type"] for event in (await asked).events] == ["mine"]


async def test_after_the_wait_it_is_empty_and_the_cursor_has_passed_what_was_filtered_out(poller: Poller) -> None:
    await publish(poller, "one", "two")
    answer = await poller.after(0, wait=0.01, filter=Filter(types=("other",)))
    assert answer == ([], f"{poller.rig.hub.incarnation}-2")


async def test_at_the_end_who_waits_is_answered_and_nobody_waits_any_more(poller: Poller) -> None:
    asked = asyncio.create_task(poller.after(0, wait=60))
    await asyncio.sleep(0)
    poller.longpoll.end()
    assert (await asked).events == []
    assert (await poller.after(0, wait=60)).events == []
    assert not poller.rig.hub.window.channels


async def test_a_cancelled_wait_leaves_nothing_behind(poller: Poller) -> None:
    asked = asyncio.create_task(poller.after(0, wait=60))
    await asyncio.sleep(0)
    assert poller.rig.hub.window.channels
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert not poller.rig.hub.window.channels


async def test_without_a_cursor_it_gets_the_snapshots_and_where_they_stand(poller: Poller) -> None:
    await poller.rig.backend.append([(Draft((PUBLIC,), "state", "t", (), b"on", retain=True),)])
    answer = await poller.longpoll.present(poller.profile())
    assert [(event["type"], event["id"], event["data"]) for event in answer.events] == [("state", None, "on")]
    assert answer.cursor == f"{poller.rig.hub.incarnation}-1"


async def test_a_resync_is_an_entry_of_its_own_before_the_snapshots(poller: Poller) -> None:
    await poller.rig.backend.append([(Draft((PUBLIC,), "state", "t", (), b"on", retain=True),)])
    answer = await poller.longpoll.present(poller.profile(), "expired")
    assert [event["type"] for event in answer.events] == ["resync", "state"]
    assert answer.events[0]["data"] == '{"reason":"expired","missed":null}'
    assert poller.rig.catchup.resyncs == {"expired": 1}


async def test_a_position_that_the_log_no_longer_has_is_answered_by_a_resync() -> None:
    rig = await Rig(0, 0).start()
    poller = Poller(rig)
    await publish(poller, "one", "two", "three")
    answer = await poller.after(0)
    assert [event["type"] for event in answer.events] == ["resync"] and answer.cursor.endswith("-3")
    await rig.stop()


async def test_an_answer_is_bounded_in_bytes_and_the_next_one_goes_on(poller: Poller) -> None:
    for _ in range(5):
        await poller.rig.publish([PUBLIC], size=PAGE_BYTES // 2)
    await publish(poller, "last")
    got: list[str] = []
    position = 0
    while position < 6:
        answer = await poller.after(position)
        assert 1 <= len(answer.events) <= 2
        got += [event["id"] for event in answer.events]
        position = int(answer.cursor.rpartition("-")[2])
    assert got == [f"{poller.rig.hub.incarnation}-{position}" for position in range(1, 7)]


async def test_one_event_that_is_larger_than_an_answer_comes_alone(poller: Poller) -> None:
    await poller.rig.publish([PUBLIC], size=2 * PAGE_BYTES)
    await publish(poller, "next")
    assert len((await poller.after(0)).events) == 1


async def test_a_scan_in_which_nothing_passes_leaves_the_loop_to_others(poller: Poller) -> None:
    await publish(poller, *["other"] * 20)
    asked = asyncio.create_task(poller.after(0, limit=2, filter=Filter(types=("none",))))
    turns = 0
    while not asked.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 10, "a turn for each page"
    assert asked.result().cursor == f"{poller.rig.hub.incarnation}-20"


async def test_who_is_kicked_while_it_waits_is_let_go_with_nothing(poller: Poller) -> None:
    with poller.longpoll.open(poller.profile()) as poll:
        asked = asyncio.create_task(poller.longpoll.after(poll, 0, 60, 100))
        await asyncio.sleep(0)
        assert poller.longpoll.kick(lambda profile: profile.participant == "b") == []
        assert poller.longpoll.kick(lambda profile: profile.participant == "a") == ["p"]
        await publish(poller, "too late")
        assert await asked == ([], f"{poller.rig.hub.incarnation}-0")
        assert poll.kicked
    assert not poller.longpoll.polls


async def test_a_wait_ends_when_what_it_was_let_in_by_does(poller: Poller) -> None:
    profile = poller.profile()._replace(expires=poller.rig.loop.time() + 0.01)
    with poller.longpoll.open(profile) as poll:
        async with asyncio.timeout(30):
            assert await poller.longpoll.after(poll, 0, 60, 100) == ([], f"{poller.rig.hub.incarnation}-0")


async def test_who_is_over_by_the_time_its_events_are_found_does_not_get_them_and_loses_none(poller: Poller) -> None:
    await publish(poller, "one")
    profile = poller.profile()._replace(expires=poller.rig.loop.time())
    with poller.longpoll.open(profile) as poll:
        assert await poller.longpoll.after(poll, 0, 0, 100) == ([], f"{poller.rig.hub.incarnation}-0")


async def test_they_read_the_log_in_turn_like_streams() -> None:
    """Everybody who may read waits until the test has looked."""
    rig = await Rig(0, 1 << 20).start()
    poller = Poller(rig)
    await publish(poller, "one", "two")
    reading, most, go, read = 0, 0, asyncio.Event(), rig.backend.read

    async def slow(names: Collection[str], after: int, limit: int) -> Page | Gap:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        await go.wait()
        reading -= 1
        return await read(names, after, limit)

    rig.backend.read = slow  # type: ignore[method-assign]

    async def ask(number: int) -> int:
        with poller.longpoll.open(poller.profile()._replace(id=f"{number}")) as poll:
            return len((await poller.longpoll.after(poll, 0, 60, 100)).events)

    crowd = [asyncio.create_task(ask(number)) for number in range(3 * READERS)]
    for _ in range(50):
        await asyncio.sleep(0)
    assert most == READERS_EACH
    assert len(poller.longpoll.polls) == 3 * READERS
    go.set()
    assert await asyncio.gather(*crowd) == [2] * len(crowd)
    assert not poller.longpoll.polls
    await rig.stop()
