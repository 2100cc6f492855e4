"""The appender between real parsing and a real (memory) log, with a gate in front of the log where time matters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any

import pytest

from sse_daemon import appender as module
from sse_daemon.appender import ITEM_BYTES, Appender, Job, Outcome
from sse_daemon.backend import Limits, Stored
from sse_daemon.backends.memory import MemoryBackend
from sse_daemon.directory import Directory
from sse_daemon.envelope import Bounds, parse
from sse_daemon.errors import BackendUnavailable, Refusal, StorageFull
from sse_daemon.event import Event, Logged, Record

Until = Callable[..., Awaitable[Any]]
NOW = 5_000_000.0


class Gated(MemoryBackend):
    """A log that stores nothing while its gate is closed, and says what it was asked to store together."""

    def __init__(self, url: str, limits: Limits) -> None:
        super().__init__(url, limits)
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[int] = []
        self.fault: Exception | None = None

    async def append(self, records: Sequence[Record]) -> Sequence[Stored | Refusal]:
        self.asked.append(len(records))
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return await super().append(records)


class Bench:
    """An appender at work, and what came of it."""

    def __init__(self, limit: int, bounds: Bounds) -> None:
        self.log: list[Logged] = []
        self.outcomes: dict[str, Outcome] = {}
        self.order: list[str] = []
        self.settled: list[Outcome] = []
        self.rooms = 0
        self.backend = Gated("memory://", Limits())
        self.directory = Directory({}, (), max_groups=2, max_topics=2)
        self.appender = Appender(self.backend, self.directory, bounds, limit, lambda: NOW, self._room, self._settled)

    def deliver(self, batch: Sequence[Logged], after: int, last: int) -> None:
        self.log += batch
        for item in batch:
            if not isinstance(item, Event):
                self.directory.apply(item)

    def offer(self, name: str, *headers: str | dict[str, Any]) -> bool:
        """Offers a message; its outcome will be `outcomes[name]`."""
        frames = [(h if isinstance(h, str) else json.dumps(h)).encode() for h in headers or ({"to": "*"},)]
        return self.appender.offer(Job(parse(frames, Bounds()), sum(map(len, frames)), lambda outcome: self._done(name, outcome)))

    def code(self, name: str) -> str:
        outcome = self.outcomes[name]
        assert isinstance(outcome, Refusal)
        return outcome.code

    def _done(self, name: str, outcome: Outcome) -> None:
        assert name not in self.outcomes, "answered twice"
        assert outcome in self.settled, "answered before it was counted"
        self.outcomes[name] = outcome
        self.order.append(name)

    def _settled(self, outcomes: Sequence[tuple[Job, Outcome]]) -> None:
        self.settled += [outcome for _, outcome in outcomes]

    def _room(self) -> None:
        self.rooms += 1


@asynccontextmanager
async def bench(limit: int = 10**9, bounds: Bounds = Bounds()) -> Any:  # noqa: B008 a frozen value
    made = Bench(limit, bounds)
    await made.backend.open(made.deliver)
    task = asyncio.create_task(made.appender.run())
    try:
        yield made
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await made.backend.close()


async def test_what_is_offered_is_stored_in_order_and_answered(until: Until) -> None:
    async with bench() as b:
        assert b.appender.idle
        for n in range(50):
            assert b.offer(str(n), {"to": "*", "data": str(n)}, {"to": "*"})
        assert not b.appender.idle
        await until(lambda: b.appender.idle)
        assert b.order == [str(n) for n in range(50)]
        assert b.outcomes["7"] == Stored((15, 16))
        assert [e.data for e in b.log[::2]] == [b"%d" % n for n in range(50)]
        assert b.appender.bytes == 0 and b.rooms >= 1


async def test_what_comes_while_it_appends_is_one_batch(until: Until) -> None:
    async with bench() as b:
        b.backend.gate.clear()
        b.offer("first")
        await until(lambda: b.backend.asked)
        for n in range(20):
            b.offer(str(n))
        b.backend.gate.set()
        await until(lambda: b.appender.idle)
        assert b.backend.asked == [1, 20]


async def test_the_queue_is_full_exactly_when_it_takes_nothing(until: Until) -> None:
    frame = json.dumps({"to": "*"})
    cost = len(frame) + ITEM_BYTES
    async with bench(limit=2 * cost) as b:
        b.backend.gate.clear()
        taken = 0
        while not b.appender.full:
            assert b.offer(str(taken), frame)  # who reads only while it is not full never reads what has no place
            taken += 1
        assert (taken, b.appender.bytes) == (2, 2 * cost)
        assert not b.offer("more", frame)
        await until(lambda: b.backend.asked)
        assert b.appender.full  # what is being appended counts until it is stored
        b.backend.gate.set()
        await until(lambda: b.appender.idle)
        assert "more" not in b.outcomes
        assert b.rooms >= 1 and b.offer("later", frame)
        await until(lambda: "later" in b.outcomes)


async def test_one_message_of_any_size_finds_an_empty_queue(until: Until) -> None:
    async with bench(limit=1) as b:
        assert b.offer("large", '{"to":"*"}\n' + "x" * 100_000)
        await until(lambda: b.outcomes)
        assert b.outcomes["large"] == Stored((1,))


async def test_one_append_is_bounded_in_records_and_in_bytes(until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECORDS", 10)
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    async with bench() as b:
        for n in range(25):
            b.offer(f"small{n}")
        for n in range(3):
            b.offer(f"large{n}", '{"to":"*"}\n' + "x" * 450)
        b.offer("huge", '{"to":"*"}\n' + "x" * 5000)
        await until(lambda: b.appender.idle)
        assert b.backend.asked == [10, 10, 7, 1, 1]
        assert len(b.outcomes) == 29


async def test_one_append_is_bounded_in_recipients_of_groups_too(until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECIPIENTS", 5)
    async with bench() as at:
        at.offer("group", {"group": "g", "members": ["a", "b", "c"]})
        await until(lambda: at.outcomes)
        at.backend.gate.clear()
        at.offer("first")
        await until(lambda: at.backend.asked == [1, 1])
        for number in range(3):
            at.offer(f"group {number}", {"group": "g", "to": ["d"]})
        at.offer("named", {"to": list("abcdef")})
        at.offer("public")
        at.backend.gate.set()
        await until(lambda: len(at.outcomes) == 7)
    assert at.backend.asked == [1, 1, 1, 1, 1, 1, 1]


async def test_a_group_counts_for_every_message_behind_it(until: Until) -> None:
    async with bench() as b:
        b.offer("early", {"group": "g"})
        b.offer("set", {"group": "g", "members": ["a"]})
        b.offer("use", {"group": "g"})
        b.offer("change", {"group": "g", "members": ["b", "c"]})
        b.offer("use2", {"group": "g"})
        b.offer("remove", {"group": "g", "members": []})
        b.offer("late", {"group": "g"})
        await until(lambda: b.appender.idle)
        assert (b.code("early"), b.code("late")) == ("unknown_group", "unknown_group")
        events = [item.channels for item in b.log if isinstance(item, Event)]
        assert events == [("participant/a",), ("participant/b", "participant/c")]


async def test_a_refusal_harms_its_own_message_only(until: Until) -> None:
    async with bench() as b:
        b.backend.gate.clear()
        b.offer("hold")
        await until(lambda: b.backend.asked)
        b.offer("one", {"to": "*"})
        b.offer("bad", {"to": "*"}, {"group": "nobody"})
        b.offer("two", {"to": "*"})
        b.backend.gate.set()
        await until(lambda: b.appender.idle)
        assert (b.outcomes["one"], b.outcomes["two"]) == (Stored((2,)), Stored((3,)))
        refusal = b.outcomes["bad"]
        assert (refusal.code, refusal.index) == ("unknown_group", 1)


async def test_tables_that_are_full_refuse(until: Until) -> None:
    async with bench() as b:
        for n in range(3):
            b.offer(f"g{n}", {"group": f"g{n}", "members": ["a"]})
            b.offer(f"t{n}", {"topic": f"t{n}", "known": True})
        await until(lambda: b.appender.idle)
        assert (b.code("g2"), b.code("t2")) == ("groups_full", "topics_full")
        assert (set(b.directory.groups), b.directory.topics) == ({"g0", "g1"}, {"t0", "t1"})


async def test_a_ttl_begins_when_the_event_is_accepted(until: Until) -> None:
    async with bench() as b:
        b.offer("e", {"to": "*", "ttl": 2.5})
        await until(lambda: b.appender.idle)
        assert b.log[0].expires == NOW + 2.5


async def test_bounds_can_change_while_it_runs(until: Until) -> None:
    async with bench() as b:
        b.appender.bounds = Bounds(max_recipients=1)
        b.directory.groups["g"] = ("a", "b")
        b.offer("e", {"group": "g"})
        await until(lambda: b.appender.idle)
        assert b.code("e") == "too_many_recipients"


async def test_a_repeat_gets_its_first_answer(until: Until) -> None:
    async with bench() as b:
        b.offer("first", {"to": "*", "from": "run", "n": 1})
        b.offer("again", {"to": "*", "from": "run", "n": 1})
        await until(lambda: b.appender.idle)
        assert b.outcomes == {"first": Stored((1,)), "again": Stored((1,), repeated=True)}


@pytest.mark.parametrize(
    ("fault", "code"), [(StorageFull("no room"), "storage_full"), (BackendUnavailable("it does not answer"), "unavailable")]
)
async def test_a_fault_of_the_backend_refuses_the_batch_and_passes(until: Until, fault: Exception, code: str) -> None:
    async with bench() as b:
        b.backend.fault = fault
        b.offer("one")
        b.offer("two")
        await until(lambda: b.appender.idle)
        assert (b.code("one"), b.code("two"), b.appender.fault) == (code, code, fault)
        assert b.outcomes["one"].detail == str(fault)
        b.backend.fault = None
        b.offer("three")
        await until(lambda: b.appender.idle)
        assert (b.outcomes["three"], b.appender.fault) == (Stored((1,)), None)


async def test_what_is_refused_before_the_log_says_nothing_about_the_log(until: Until) -> None:
    async with bench() as b:
        b.backend.fault = StorageFull("no room")
        b.offer("one")
        await until(lambda: b.appender.idle)
        b.offer("two", {"group": "nobody"})
        await until(lambda: b.appender.idle)
        assert isinstance(b.appender.fault, StorageFull)
        assert b.backend.asked == [1]


async def test_the_loop_gets_its_turn_between_appends(until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECORDS", 1)
    async with bench() as b:
        for n in range(20):
            b.offer(str(n))
        seen = []
        while not b.appender.idle:
            await asyncio.sleep(0)
            seen.append(len(b.outcomes))
        assert max(after - before for before, after in pairwise(seen)) <= 1


async def test_a_repeat_is_answered_even_when_its_group_is_gone_and_news_is_not(until: Until) -> None:
    async with bench() as b:
        b.offer("group", {"group": "g", "members": ["a"]})
        b.offer("one", {"group": "g", "from": "p", "n": 1})
        b.offer("gone", {"group": "g", "members": []})
        b.offer("again", {"group": "g", "from": "p", "n": 1})
        b.offer("news", {"group": "g", "from": "p", "n": 2})
        await until(lambda: b.appender.idle)
        assert b.outcomes["again"] == Stored((2,), True)
        assert b.code("news") == "unknown_group"
