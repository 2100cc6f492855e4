"""Whatever is appended, read and reopened: sqlite answers as the reference implementation does."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sse_daemon.backend import Limits
from sse_daemon.backends.conformance_harness import Clock, Follower, draft
from sse_daemon.backends.memory import MemoryBackend
from sse_daemon.backends.sqlite import SqliteBackend
from sse_daemon.event import Group, Topic

LIMITS = Limits(retained_slots=5, retained_bytes=3000, dedupe_window=60.0, max_producers=3, retention_age=1e9)
CHANNELS = st.lists(st.sampled_from("abc"), min_size=1, unique=True)
NUMBERS = st.one_of(st.none(), st.integers(1, 12))
SENDERS = st.sampled_from(["s", "t", "u", "v"])
TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
EVENTS = st.builds(
    lambda channels, data, type, topic, attrs, expires, retain, n, sender: draft(
        *channels, data=data, type=type, topic=topic, attrs=tuple(attrs), expires=expires, retain=retain, n=n, sender=sender
    ),
    CHANNELS,
    st.one_of(st.binary(max_size=8), st.just(bytes(700))),
    st.sampled_from(["x", "y"]),
    st.one_of(st.none(), st.sampled_from(["", "t"])),
    st.lists(st.tuples(TEXTS, st.one_of(TEXTS, st.lists(TEXTS, max_size=2).map(tuple))), max_size=2),
    st.one_of(st.none(), st.floats(1.7e9 - 10, 1.7e9 + 1000)),
    st.booleans(),
    NUMBERS,
    SENDERS,
)
CONTROLS = st.one_of(
    st.tuples(st.sampled_from("gh"), st.lists(TEXTS, max_size=2).map(tuple), SENDERS, st.integers(1, 12)).map(Group._make),
    st.tuples(st.sampled_from("tu"), st.booleans()).map(lambda pair: Topic(*pair)),
)
RECORDS = st.lists(st.one_of(EVENTS, EVENTS, CONTROLS), min_size=1, max_size=4).map(tuple)
STEPS = st.one_of(
    st.tuples(st.just("append"), st.lists(RECORDS, max_size=3)),
    st.tuples(st.just("append"), st.lists(RECORDS, max_size=3)),
    st.tuples(st.just("read"), st.tuples(st.lists(st.sampled_from("abcd"), unique=True), st.integers(0, 40), st.integers(1, 5))),
    st.tuples(st.just("retained"), st.one_of(st.none(), st.lists(st.sampled_from("abcd"), unique=True))),
    st.tuples(st.just("wait"), st.floats(0, 50)),
    st.tuples(st.just("reopen"), st.none()),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=12))
def test_sqlite_answers_as_memory_does(steps: list[tuple[str, Any]]) -> None:
    # With a factory the runner leaves the thread's current loop, which is somebody else's, alone.
    with tempfile.TemporaryDirectory() as directory, asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(_compare(steps, f"sqlite://{directory}/log.db"))


async def _compare(steps: list[tuple[str, Any]], url: str) -> None:
    clock = Clock()
    memory = await _open(MemoryBackend("memory://", LIMITS, clock=clock))
    sqlite = await _open(SqliteBackend(url, LIMITS, clock=clock))
    delivered: dict[int, Any] = {}
    try:
        for kind, argument in steps:
            if kind == "wait":
                clock.now += argument
            elif kind == "reopen":
                delivered |= sqlite.items
                await sqlite.backend.close()
                sqlite = await _open(SqliteBackend(url, LIMITS, clock=clock))
                assert sqlite.opened.head == memory.last
                assert (sqlite.opened.groups, sqlite.opened.topics) == _state(memory)
            else:
                answers = [_plain(await _do(log, kind, argument)) for log in (memory, sqlite)]
                assert answers[0] == answers[1]
    finally:
        await sqlite.backend.close()
    assert delivered | sqlite.items == memory.items


async def _open(backend: Any) -> Follower:
    follower = Follower(backend)
    follower.opened = await backend.open(follower.deliver)
    return follower


async def _do(log: Follower, kind: str, argument: Any) -> Any:
    if kind == "append":
        return await log.append(*argument)
    if kind == "read":
        return await log.backend.read(*argument)
    return await log.backend.retained(argument)


def _plain(answer: Any) -> Any:
    """Refusals compare by what they say."""
    if isinstance(answer, list):
        return [(one.code, one.index) if isinstance(one, Exception) else one for one in answer]
    return answer


def _state(memory: Follower) -> tuple[dict[str, tuple[str, ...]], frozenset[str]]:
    groups: dict[str, tuple[str, ...]] = {}
    topics: dict[str, bool] = {}
    for _, item in sorted(memory.items.items()):
        if isinstance(item, Group):
            groups[item.name] = item.members
        elif isinstance(item, Topic):
            topics[item.name] = item.known
    return {name: members for name, members in groups.items() if members}, frozenset(name for name in topics if topics[name])
