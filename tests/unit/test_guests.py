"""How many streams a client may have, and how fast it may open them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve

from sse_daemon import config
from sse_daemon.guests import BURST, SPARE, Guests
from sse_daemon.stream import Profile, Wire
from sse_daemon.subscription import EVERYTHING, narrowed


class World:
    """Guests with a clock that the test moves, and the streams that it says are open.

    proves, vouched: what the mode is like; by themselves as in mode "claim".
    """

    def __init__(
        self, path: Path, shared: tuple[str, ...] = (), proves: bool = False, vouched: bool = False, **streams: Any
    ) -> None:
        settings = config.load(None, {"XDG_RUNTIME_DIR": str(path)}, {}, dev=True)
        http = evolve(settings.http, shared_addresses=shared)
        self.config = evolve(settings, http=http, streams=evolve(settings.streams, **streams))
        self.now = 1000.0
        self.open: set[str] = set()
        mode: Any = SimpleNamespace(proves=proves, vouched=vouched)
        self.guests = Guests(lambda: self.config, self.open, lambda: self.now, mode)
        self._made = 0

    def profile(self, participant: str | None, address: str = "192.0.2.1:1") -> Profile:
        self._made += 1
        subscription = narrowed(("public",), EVERYTHING)
        wire = Wire(True, False, "i")
        return Profile(str(self._made), participant, "/events", address, 0.0, subscription, wire, False, None)

    def enter(self, participant: str | None, address: str = "192.0.2.1:1") -> str | None:
        """The id of a new stream, or None if there is no room."""
        profile = self.profile(participant, address)
        if self.guests.too_many(profile):
            return None
        self.open.add(profile.id)
        self.guests.note(profile)
        return profile.id


def test_one_participant_does_not_take_the_room_of_others(tmp_path: Path) -> None:
    world = World(tmp_path, max_per_participant=2)
    first = world.enter("a", "192.0.2.1:1")
    assert first and world.enter("a", "192.0.2.2:1")
    assert world.enter("a", "192.0.2.3:1") is None
    assert world.enter("b", "192.0.2.3:1")
    world.open.discard(first)
    assert world.enter("a")
    assert world.enter("a") is None


def test_who_says_to_be_many_is_one_address(tmp_path: Path) -> None:
    world = World(tmp_path, max_per_address=2)
    assert world.enter("a") and world.enter(None, "192.0.2.1:9")
    assert world.enter("c") is None
    assert world.enter("c", "192.0.2.2:1")


def test_keys_that_cost_nothing_are_one_address(tmp_path: Path) -> None:
    world = World(tmp_path, proves=True, max_per_address=2, open_rate=1.0)
    assert world.enter("a") and world.enter("b")
    assert world.enter("c") is None
    assert world.enter("c", "192.0.2.2:1")
    opened = [not world.guests.too_fast(world.profile(f"k{number}")) for number in range(100)]
    assert sum(opened) == BURST
    assert not world.guests.too_fast(world.profile("a", "192.0.2.2:1"))


def test_a_proven_participant_has_one_pace_wherever_it_is(tmp_path: Path) -> None:
    world = World(tmp_path, ("10.0.0.0/8",), proves=True, open_rate=1.0)
    addresses = [f"{network}.{number}.1:1" for number in range(50) for network in ("192.0", "10.0")]
    assert sum(not world.guests.too_fast(world.profile("a", address)) for address in addresses) == BURST
    assert not world.guests.too_fast(world.profile("b", addresses[0]))


def test_whom_somebody_vouches_for_is_no_address(tmp_path: Path) -> None:
    world = World(tmp_path, proves=True, vouched=True, max_per_address=2, max_per_participant=1, open_rate=1.0)
    assert all(world.enter(f"k{number}") for number in range(20))
    assert world.enter("k1", "192.0.2.2:1") is None
    assert not any(world.guests.too_fast(world.profile(f"k{number}")) for number in range(100))
    assert world.enter(None) and world.enter(None) and world.enter(None) is None
    assert sum(not world.guests.too_fast(world.profile(None)) for _ in range(50)) == BURST


def test_a_whole_ipv6_network_is_one_address(tmp_path: Path) -> None:
    world = World(tmp_path, max_per_address=1)
    assert world.enter("a", "[2001:db8::1]:1")
    assert world.enter("b", "[2001:db8::ffff:2]:1") is None
    assert world.enter("b", "[2001:db8:0:1::1]:1")
    assert world.enter("c", "[::ffff:192.0.2.9]:1")
    assert world.enter("d", "192.0.2.9:1") is None


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "unix", "[::ffff:127.0.0.1]:1", "10.1.2.3:1"])
def test_behind_a_proxy_are_many_clients(tmp_path: Path, address: str) -> None:
    shared = ("127.0.0.0/8", "::1", "unix", "10.0.0.0/8")
    world = World(tmp_path, shared, max_per_address=1, open_rate=1.0)
    assert all(world.enter(str(number), address) for number in range(5))
    assert not any(world.guests.too_fast(world.profile("a", address)) for _ in range(50))


def test_zero_is_no_limit(tmp_path: Path) -> None:
    world = World(tmp_path, max_per_address=0, max_per_participant=0, open_rate=0.0)
    assert all(world.enter("a") for _ in range(50))
    assert not any(world.guests.too_fast(world.profile("a")) for _ in range(500))


def test_streams_are_opened_at_a_pace(tmp_path: Path) -> None:
    world = World(tmp_path, open_rate=2.0)
    opened = [not world.guests.too_fast(world.profile(str(number))) for number in range(100)]
    assert sum(opened) == 2 * BURST
    assert not world.guests.too_fast(world.profile("a", "192.0.2.2:1"))
    world.now += 1.0
    assert sum(not world.guests.too_fast(world.profile("a")) for _ in range(10)) == 2


def test_what_has_ended_is_forgotten(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(10 * SPARE):
        world.open.discard(world.enter(str(number), f"192.0.2.{number % 200}:1") or "")
    assert sum(map(len, world.guests._of.values())) <= SPARE + 2
    assert len(world.guests._of) <= SPARE + 2
