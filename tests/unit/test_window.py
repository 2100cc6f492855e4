from __future__ import annotations

import gc
import tracemalloc
from itertools import product

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sse_daemon.event import Event
from sse_daemon.window import (
    CHANNEL_BYTES,
    EVENT_BYTES,
    RECIPIENT_BYTES,
    Channel,
    Entry,
    Overtaken,
    Window,
    entry_of,
    event_of,
)

NAMES = ("a", "b", "c", "d", "e")


def event(position: int, *channels: str, expires: float | None = None, data: bytes = b"") -> Event:
    return Event(position, channels or ("a",), "message", None, (), data, expires)


def extend(window: Window, *events: Event) -> list[Channel]:
    return window.extend([(e, b"frame") for e in events], events[-1].position)


def positions(entries: list[Entry]) -> list[int]:
    return [entry[0] for entry in entries]


def cost(event: Event, frame: bytes) -> int:
    return len(frame) + len(event.data) + EVENT_BYTES + RECIPIENT_BYTES * len(event.channels)


class Model(RuleBasedStateMachine):
    """The window beside a list of everything that ever came, and what a reader may demand of it."""

    START = 3
    LIMIT = 4000

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(self.LIMIT, self.START)
        self.log: list[tuple[Event, bytes]] = []  # all of it
        self.held = 0  # index of the first that is held
        self.floor = self.START
        self.watched: dict[str, Channel] = {}
        self.known: dict[str, int] = {}  # channel -> what it may have lost: up to here
        self.begun: dict[str, int] = {}  # channel -> events of it before it was known

    # What happens to a window.

    @rule(
        batch=st.lists(
            st.tuples(
                st.integers(1, 3),
                st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
                st.integers(0, 200),
                st.one_of(st.none(), st.just(9.0)),
            ),
            max_size=6,
        ),
        rest=st.integers(0, 2),
    )
    def extend(self, batch: list[tuple[int, list[str], int, float | None]], rest: int) -> None:
        position = self.window.head
        new = []
        for step, channels, size, expires in batch:  # a step of more than one: items that are no events
            position += step
            new.append((Event(position, tuple(channels), "t", None, (), b"x" * size, expires), b"f%d" % position))
        touched = self.window.extend(new, position + rest)
        for name in {name for e, _ in new for name in e.channels}:
            self._know(name)
        self.log += new
        assert self.window.head == position + rest
        assert sorted(channel.name for channel in touched) == sorted({name for e, _ in new for name in e.channels})

    @rule(back=st.integers(0, 10))
    def evict(self, back: int) -> None:
        through = max(self.START, self.window.head - back)
        before = self.window.bytes
        self.window.evict(through)
        while self.held < len(self.log) and self.log[self.held][0].position not in self._held_positions():
            e = self.log[self.held][0]
            # One more was dropped: only as there was need, and nothing later than asked.
            assert before > self.LIMIT and e.position <= through
            self.floor = e.position
            self.held += 1
            for name in e.channels:
                self.known[name] = e.position
        self._forget()
        # Enough was dropped, unless what remains is not to go.
        assert self.window.bytes <= self.LIMIT or self.held == len(self.log) or self.log[self.held][0].position > through

    @rule(name=st.sampled_from(NAMES))
    def watch(self, name: str) -> None:
        channel = self.window.watch(name)
        self._know(name)
        channel.streams[self] = None
        self.watched[name] = channel

    @rule(name=st.sampled_from(NAMES))
    def release(self, name: str) -> None:
        if (channel := self.watched.pop(name, None)) is not None:
            del channel.streams[self]
            self.window.release(channel)
            self._forget()

    # What a reader sees.

    @invariant()
    def only(self) -> None:
        for name, channel in self.watched.items():
            for back, width in product((0, 1, 2, 4, 9), (0, 1, 3, 9)):
                after = max(0, self.window.head - back)
                later = [e for e, _ in self.log if name in e.channels and e.position > after]
                entry = channel.only(after, after + width)
                if len(later) == 1 and later[0].position <= after + width and self.known[name] <= after:
                    assert entry is not None and event_of(entry) == later[0]
                else:
                    assert entry is None

    @rule(
        names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True),
        back=st.integers(0, 40),
        width=st.integers(0, 40),
        limit=st.integers(1, 8),
    )
    def read(self, names: list[str], back: int, width: int, limit: int) -> None:
        names = [name for name in names if name in self.watched]
        after = max(0, self.window.head - back)
        wanted = [
            (e, frame) for e, frame in self.log if after < e.position <= after + width and not set(names).isdisjoint(e.channels)
        ]
        try:
            entries = self.window.read([self.watched[name] for name in names], after, after + width, limit)
        except Overtaken:
            assert any(self.known[name] > after for name in names)
            return
        assert all(self.known[name] <= after for name in names)
        assert [(event_of(entry), entry[2]) for entry in entries] == wanted[:limit]

    @rule(name=st.sampled_from(NAMES), back=st.integers(0, 40))
    def count(self, name: str, back: int) -> None:
        channel = self.watched.get(name)
        position = max(0, self.window.head - back)
        if channel is not None and position >= channel.evicted:
            came = [e for e in self._of(name) if e.position <= position]
            assert channel.count_to(position) == len(came) - self.begun[name]

    @rule(position=st.integers(0, 60))
    def at(self, position: int) -> None:
        held = {e.position: e for e, _ in self.log[self.held :]}
        entry = self.window.at(position)
        assert (None if entry is None else event_of(entry)) == held.get(position)

    # What holds at every moment.

    @invariant()
    def accounts_are_exact(self) -> None:
        held = self.log[self.held :]
        assert len(self.window) == len(held)
        assert self.window.bytes == sum(cost(*pair) for pair in held) + CHANNEL_BYTES * len(self.window.channels)
        assert set(self.window.channels) == set(self.watched) | {name for e, _ in held for name in e.channels} == set(self.known)
        assert self.window.floor == self.floor

    @invariant()
    def channels_know_their_last(self) -> None:
        for name, channel in self.watched.items():
            later = [e for e in self._of(name) if e.position > self.known[name]]
            assert channel.evicted == self.known[name]
            assert channel.last == (later[-1].position if later else self.known[name])
            mortal = [e.position for e in self._of(name)[self.begun[name] :] if e.expires is not None]
            assert channel.mortal == (mortal[-1] if mortal else 0)

    def teardown(self) -> None:
        for name in NAMES:
            self.release(name)
        self.window.limit = 0
        self.window.evict(self.window.head)
        assert (self.window.bytes, len(self.window), self.window.channels) == (0, 0, {})

    def _of(self, name: str) -> list[Event]:
        return [e for e, _ in self.log if name in e.channels]

    def _held_positions(self) -> set[int]:
        return {entry[0] for entry in self.window._entries}

    def _know(self, name: str) -> None:
        if name not in self.known:
            self.known[name] = self.floor
            self.begun[name] = len(self._of(name))

    def _forget(self) -> None:
        busy = set(self.watched) | {name for e, _ in self.log[self.held :] for name in e.channels}
        for name in set(self.known) - busy:
            del self.known[name], self.begun[name]


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def test_a_new_window_holds_nothing_and_knows_that_it_may_have_missed_something() -> None:
    window = Window(1000, head=5)
    channel = window.watch("a")
    assert window.read([channel], 5, 5, 10) == []
    with pytest.raises(Overtaken):
        window.read([channel], 4, 5, 10)


def test_an_event_on_several_channels_comes_once_and_counts_once() -> None:
    window = Window(10_000)
    a, b = window.watch("a"), window.watch("b")
    extend(window, event(1, "a", "b"), event(2, "b"), event(3, "a", "b"), event(4, "a"))
    assert positions(window.read([a, b], 0, 4, 10)) == [1, 2, 3, 4]
    assert positions(window.read([b, a], 0, 4, 3)) == [1, 2, 3]
    assert positions(window.read([a, b], 1, 3, 10)) == [2, 3]


def test_with_limit_zero_events_stay_until_they_were_read() -> None:
    window = Window(0)
    channel = window.watch("a")
    channel.streams["somebody"] = None
    extend(window, event(1), event(2))
    window.evict(0)
    assert positions(window.read([channel], 0, 2, 10)) == [1, 2]
    window.evict(1)
    assert positions(window.read([channel], 1, 2, 10)) == [2]
    window.evict(2)
    assert (len(window), window.bytes) == (0, CHANNEL_BYTES)


def test_what_nobody_reads_costs_no_hole() -> None:
    """Its own last evicted position decides for a channel, not the window's floor: a quiet stream is not resynced by others."""
    window = Window(0)
    quiet = window.watch("quiet")
    quiet.streams["somebody"] = None
    extend(window, event(1, "quiet"), event(2, "busy"), event(3, "busy"))
    window.evict(3)
    assert window.read([quiet], 1, 3, 10) == []
    with pytest.raises(Overtaken):
        window.read([quiet], 0, 3, 10)


def test_entries_share_the_channels_names_and_are_no_work_for_the_collector() -> None:
    window = Window(10**9)
    channel = window.watch("participant/" + "a" * 50)
    extend(window, event(1, "participant/" + "a" * 25 + "a" * 25))
    (entry,) = window.read([channel], 0, 1, 1)
    assert entry[1][0] is channel.name
    gc.collect()  # the tuples inside go first
    gc.collect()
    assert not gc.is_tracked(entry)


def test_there_and_back() -> None:
    original = Event(7, ("a", "b"), "t", "topic", (("k", ("v",)),), b"data", 5.0)
    entry = entry_of(original, b"frame")
    assert (event_of(entry), entry[0], entry[1], entry[2], entry[3]) == (original, 7, ("a", "b"), b"frame", 5.0)


@pytest.mark.parametrize(("recipients", "channels"), [(1, 1), (10, 1000), (1, 20_000)])
def test_the_account_is_near_what_python_takes(recipients: int, channels: int) -> None:
    """An account of the frames alone let a window of 8 MB take 71: within a factor of two is what the limit promises."""
    count = 20_000 // recipients
    tracemalloc.start()
    try:
        window = Window(10**9)
        before = tracemalloc.get_traced_memory()[0]
        for n in range(count):
            names = tuple(f"participant/{(n * recipients + i) % channels:020}" for i in range(recipients))
            window.extend([(event(n + 1, *names, data=b"%0100d" % n), b"%0150d" % n)], n + 1)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken / 2 < window.bytes < taken * 2


def test_slots_of_evicted_events_are_given_back() -> None:
    window = Window(1000)
    channel = window.watch("a")
    channel.streams["somebody"] = None
    for position in range(1, 5000):
        extend(window, event(position))
        window.evict(position)
    assert len(channel.entries) < 20
    assert channel.count_to(4999) == channel.count == 4999
