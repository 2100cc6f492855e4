"""The questions of mode "hook": how many at a time, how often the same, and for how long an answer is good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sse_daemon import auth_asker
from sse_daemon.auth_asker import Asker
from sse_daemon.auth_question import Question
from sse_daemon.config import AuthConfig
from sse_daemon.hook_client import NoReply, Reply
from sse_daemon.participant import canonical
from tests.conftest import LogWatch

Until = Callable[..., Awaitable[Any]]


class World:
    """An asker whose questions are answered by hand, and by a clock that the test moves on."""

    def __init__(self, **settings: Any) -> None:
        self.ahead = 0.0
        self.open: list[tuple[Question, asyncio.Future[Reply | NoReply]]] = []
        loop = asyncio.get_running_loop()
        config = AuthConfig(mode="hook", hook_url="http://app/", **settings)
        self.asker = Asker(config, canonical, self._ask, lambda: loop.time() + self.ahead)

    async def _ask(self, question: Question, seconds: float) -> Reply | NoReply:
        answer: asyncio.Future[Reply | NoReply] = asyncio.get_running_loop().create_future()
        self.open.append((question, answer))
        return await answer

    def ask(self, name: str) -> asyncio.Task[Any]:
        return asyncio.ensure_future(self.asker.answer(of(name)))

    def says(self, status: int = 200, body: str | None = None) -> None:
        """Answers the oldest question: with the name in it, or this."""
        (((_, name),), answer) = self.open.pop(0)
        answer.set_result(Reply(status, (f'{{"participant":"{name}"}}' if body is None else body).encode()))


def of(name: str) -> Question:
    return (("name", name),)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(hook_concurrency=2, hook_queue=1, hook_cache=5.0, hook_lifetime=60.0)
    yield world
    await world.asker.close()


async def test_so_many_at_a_time_and_so_many_behind_them(world: World, until: Until, expect_log: LogWatch) -> None:
    line = expect_log("sse_daemon.auth", "does not say who asks")
    asked = [world.ask(name) for name in ("a", "b", "c", "d")]
    assert await asked[3] is None
    await until(lambda: len(world.open) == 2)
    world.says()
    await until(lambda: len(world.open) == 2)
    world.says()
    world.says()
    assert [(await each).answer.participant for each in asked[:3]] == ["a", "b", "c"]
    assert world.asker.outcomes == {"participant": 3, "crowded": 1}
    assert len(line.seen) == 1


async def test_who_waits_for_a_turn_waits_no_longer_than_for_an_answer(until: Until, expect_log: LogWatch) -> None:
    expect_log("sse_daemon.auth", "does not say who asks")
    world = World(hook_concurrency=1, hook_timeout=0.05)
    first, second = world.ask("a"), world.ask("b")
    assert await second is None
    world.says()
    assert (await first).answer.participant == "a"
    third = world.ask("b")
    await until(lambda: world.open)
    world.says()
    assert (await third).answer.participant == "b"
    await world.asker.close()


async def test_a_crowd_with_one_question_asks_once(world: World, until: Until) -> None:
    asked = [world.ask("a") for _ in range(100)]
    await until(lambda: world.open)
    assert not world.asker.has_to_ask(of("a")) and world.asker.has_to_ask(of("b"))
    world.says()
    assert {(await each).answer.participant for each in asked} == {"a"}
    assert not world.open
    assert world.asker.outcomes == {"participant": 1}


async def test_who_gives_up_takes_nobody_along(world: World, until: Until) -> None:
    first, second = world.ask("a"), world.ask("a")
    await until(lambda: world.open)
    first.cancel()
    world.says()
    assert (await second).answer.participant == "a"


async def test_an_answer_is_good_for_a_while_and_its_time_runs_from_the_answer(world: World, until: Until) -> None:
    first = world.ask("a")
    await until(lambda: world.open)
    world.says()
    said = await first
    world.ahead = 4.9
    assert await world.asker.answer(of("a")) == said, "the time that it holds has not begun anew"
    assert world.asker.remembered == 1
    world.ahead = 5.1
    assert world.asker.has_to_ask(of("a"))


@pytest.mark.parametrize(("body", "seconds"), [('{"participant":"a","max_age":2}', 2.0), ('{"participant":"a"}', 5.0)])
async def test_no_answer_is_remembered_for_longer_than_it_holds(world: World, until: Until, body: str, seconds: float) -> None:
    asked = world.ask("a")
    await until(lambda: world.open)
    world.says(200, body)
    await asked
    world.ahead = seconds - 0.1
    assert not world.asker.has_to_ask(of("a"))
    world.ahead = seconds
    assert world.asker.has_to_ask(of("a"))


@pytest.mark.parametrize(("status", "body"), [(401, ""), (403, ""), (404, ""), (204, ""), (200, "{}")])
async def test_only_somebody_is_remembered(world: World, until: Until, status: int, body: str) -> None:
    asked = world.ask("a")
    await until(lambda: world.open)
    world.says(status, body)
    assert (await asked).answer.participant is None
    assert world.asker.has_to_ask(of("a"))


async def test_a_failure_is_not_remembered_either(world: World, until: Until, expect_log: LogWatch) -> None:
    expect_log("sse_daemon.auth", "does not say who asks")
    asked = world.ask("a")
    await until(lambda: world.open)
    world.open.pop()[1].set_result(NoReply("failed", "why"))
    assert await asked is None
    assert world.asker.has_to_ask(of("a"))
    assert world.asker.outcomes == {"failed": 1}


async def test_a_defect_of_ours_leaves_no_question_behind(world: World, until: Until) -> None:
    asked = world.ask("a")
    await until(lambda: world.open)
    world.open.pop()[1].set_exception(KeyError("ours"))
    with pytest.raises(KeyError):
        await asked
    again = world.ask("a")
    await until(lambda: world.open)
    world.says()
    assert (await again).answer.participant == "a"


async def test_what_is_remembered_has_a_bound(world: World, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_asker, "MAX_REMEMBERED", 3)
    for name in ("a", "b", "c", "d"):
        asked = world.ask(name)
        await until(lambda: world.open)
        world.says()
        await asked
    assert [world.asker.has_to_ask(of(name)) for name in ("a", "b", "c", "d")] == [True, False, False, False]


async def test_a_kick_forgets_its_participant_only(world: World, until: Until) -> None:
    for name in ("a", "b"):
        asked = world.ask(name)
        await until(lambda: world.open)
        world.says()
        await asked
    world.asker.forget("a")
    assert [world.asker.has_to_ask(of(name)) for name in ("a", "b")] == [True, False]


async def test_what_was_asked_before_a_kick_is_asked_again(world: World, until: Until) -> None:
    kicked, other = world.ask("a"), world.ask("b")
    await until(lambda: len(world.open) == 2)
    world.asker.forget("a")
    world.says()
    await until(lambda: len(world.open) == 2)
    world.says()  # b
    world.says(403)  # a, again
    assert (await kicked).answer.refused == 403
    assert (await other).answer.participant == "b"
    assert world.asker.has_to_ask(of("a"))


async def test_nothing_is_left_when_it_closes(world: World, until: Until) -> None:
    asked = world.ask("a")
    await until(lambda: world.open)
    await world.asker.close()
    with pytest.raises(asyncio.CancelledError):
        await asked
