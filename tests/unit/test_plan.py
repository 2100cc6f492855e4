"""Whatever comes while a sweep is under way: everybody is visited for what they have not got, the longest waiting first."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

from sse_daemon import plan as module
from sse_daemon.event import Event
from sse_daemon.plan import Member, Plan
from sse_daemon.stream import Profile, State, wire_of
from sse_daemon.subscription import Subscription
from sse_daemon.waiter import Waiter
from sse_daemon.window import Channel, Window

NAMES = tuple("abcdef")
HISTORIES = 300


class Rig:
    """A plan over a window's channels, whose members note what they got; waiters, for they need no socket."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.window = Window(1 << 20)
        self.end = 0
        self.plan = Plan()
        self.members: list[Member] = []
        self.got: dict[Member, list[int]] = {}
        self.owed: dict[Member, list[int]] = {}
        self.touched: dict[Channel, None] = {}
        self.buffers = 0

    def join(self, *names: str, state: State = State.LIVE) -> Member:
        """A member that stands at `end`, live or not yet."""
        profile = Profile("c", None, "/", "x", 0.0, Subscription(names, None), wire_of(True, False, "log"), False, None)
        member = Waiter(profile, self.loop)
        member.channels = tuple(self.window.watch(name) for name in names)
        member.state = state
        for channel in member.channels:
            channel.streams[member] = None
        self.members.append(member)
        self.got[member], self.owed[member] = [], []
        if state is State.LIVE:
            self._arrive(member)
        return member

    def go_live(self, member: Member) -> None:
        """As the hub does it: what the member has up to `end` was read from the window, and what is behind that is marked."""
        member.state = State.LIVE
        self._arrive(member)

    def _arrive(self, member: Member) -> None:
        self.owed[member] = [p for c in member.channels for p in positions(c, self.end, self.window.head)]
        self.plan.came(member)
        self.touched |= dict.fromkeys(c for c in member.channels if c.last > self.end)

    def leave(self, member: Member) -> None:
        self.plan.drop(member)
        for channel in member.channels:
            del channel.streams[member]
        member.channels = ()
        self.members.remove(member)

    def fall_behind(self, member: Member) -> None:
        """It was visited, and its socket took nothing."""
        assert member not in self.plan
        member.state = State.BEHIND

    def publish(self, *names: str) -> int:
        position = self.window.head + 1
        event = Event(position, names, "message", None, (), b"", None)
        for channel in self.window.extend([(event, b"")], position):
            self.touched |= {channel: None} if channel.streams else {}
        for member in self.members:
            if member.state is State.LIVE and any(channel.name in names for channel in member.channels):
                self.owed[member].append(position)
        return position

    def take(self) -> bool:
        if self.end == self.window.head or not self.plan.take(self.touched, self.end, self.buffers):
            return False
        self.touched, self.end = {}, self.window.head
        return True

    def visit(self) -> Member:
        """Brings the next one everything up to `end` that is on the channels of its key, and checks that this is what it is owed."""
        oldest = self.plan.oldest(self.end)
        member, key = self.plan.due.popitem()
        self.plan.visited.append(member)
        assert member.state is State.LIVE
        assert member.cursor == oldest
        assert all(other.cursor >= oldest for other in (*self.plan.due, *self.plan._again)), "who waits longest is next"
        new = sorted({p for channel in key for p in positions(channel, member.cursor, self.end)})
        self.got[member] += new
        assert new == [p for p in sorted(set(self.owed[member])) if p <= self.end], "all that it has not got, and nothing twice"
        self.owed[member] = [p for p in self.owed[member] if p > self.end]
        self.plan.go_on()
        return member

    def check(self) -> None:
        due = set(self.plan.due) | set(self.plan._again)
        assert len(due) == len(self.plan.due) + len(self.plan._again), "once at most"
        stand: dict[int, int] = {}
        for member, key in (*self.plan.due.items(), *self.plan._again.items()):
            assert stand.setdefault(id(key), member.cursor) == member.cursor, "the same key object, the same cursor"
        for member in self.members:
            if member.state is State.LIVE:
                owed = [p for p in self.owed[member] if p <= self.end]
                assert bool(owed) == (member in self.plan), "who has something to get, and nobody else"
        assert bool(due) == bool(self.plan.due), "while anybody is due somebody is next"


def positions(channel: Channel, after: int, through: int) -> list[int]:
    return [entry[0] for entry in channel.after(after, through, 1 << 20)]


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.loop.close()


def test_any_history_visits_everybody_for_what_they_have_not_got(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARED", 1)
    for seed in range(HISTORIES):
        chance = random.Random(seed)
        rig = Rig()
        rig.buffers = chance.choice((0, 1, 3))
        try:
            live_through(rig, chance)
        except AssertionError as error:
            raise AssertionError(f"history {seed}: {error}") from error
        finally:
            rig.loop.close()


def live_through(rig: Rig, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 5, 30))):
        rig.join(*some(chance))
    extended = 0
    for what in chance.choices(("publish", "take", "visit", "join", "behind", "live", "leave"), (8, 4, 14, 2, 1, 2, 1), k=200):
        idle = [member for member in rig.members if member not in rig.plan]
        if what == "publish":
            rig.publish(*some(chance))
        elif what == "take":
            running = bool(rig.plan.due)
            extended += rig.take() and running
        elif what == "visit":
            if rig.plan.due:
                rig.visit()
        elif what == "join":
            rig.join(*some(chance), state=chance.choice((State.LIVE, State.BEHIND)))
        elif what == "behind" and (live := [m for m in idle if m.state is State.LIVE and not rig.owed[m]]):
            rig.fall_behind(chance.choice(live))
        elif what == "live" and (behind := [m for m in rig.members if m.state is State.BEHIND]):
            rig.go_live(chance.choice(behind))
        elif what == "leave" and rig.members:
            rig.leave(chance.choice(rig.members))
        rig.check()
    while rig.plan.due or rig.end != rig.window.head:
        rig.take()
        while rig.plan.due:
            rig.visit()
            rig.check()
    assert not any(rig.owed[member] for member in rig.members if member.state is State.LIVE)


def some(chance: random.Random) -> list[str]:
    return chance.sample(NAMES, chance.choice((1, 1, 1, 2, 3)))


def test_who_is_still_to_be_visited_gets_what_came_meanwhile_in_the_same_visit(rig: Rig) -> None:
    for _ in range(3):
        rig.join("a")
    rig.publish("a")
    rig.take()
    first = rig.visit()
    rig.publish("a")
    rig.take()
    others = [rig.visit(), rig.visit()]
    assert [rig.got[member] for member in others] == [[1, 2], [1, 2]]
    assert rig.visit() is first and rig.got[first] == [1, 2]
    assert not rig.plan.due and rig.plan.oldest(rig.end) == rig.end


def test_nobody_is_visited_twice_before_all_others(rig: Rig) -> None:
    members = [rig.join("a") for _ in range(4)]
    seen = []
    rig.publish("a")
    for _ in range(12):
        rig.take()
        seen.append(rig.visit())
        rig.publish("a")
    assert seen == list(reversed(members)) * 3


def test_nothing_is_taken_before_buffers_have_served_long_enough(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARED", 3)
    rig.buffers = 1
    for _ in range(6):
        rig.join("a")
    rig.publish("a")
    assert rig.take()
    for _ in range(2):
        for _ in range(2):
            rig.visit()
            rig.publish("a")
            assert not rig.take()
        rig.visit()
        assert rig.take()


def test_a_crowd_that_has_to_be_looked_through_is_not_before_as_many_were_visited(rig: Rig) -> None:
    for name in "aaabbb":
        rig.join(name)
    rig.publish("a")
    rig.take()
    rig.visit()
    rig.publish("b")
    assert not rig.take(), "three to look at, one visited"
    rig.visit()
    rig.visit()
    assert rig.take() and len(rig.plan.due) == 3, "the others, who were not due"


def test_what_was_visited_is_forgotten_when_nobody_is_due(rig: Rig) -> None:
    member = rig.join("a")
    rig.publish("a")
    rig.take()
    rig.visit()
    assert rig.plan.visited == []
    rig.plan.came(member)
    assert rig.plan.visited == [], "who goes live while nothing is under way is not remembered"
