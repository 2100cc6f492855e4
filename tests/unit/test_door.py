from __future__ import annotations

import resource
from collections.abc import Iterator
from typing import Any

import pytest

from sse_daemon.config_tables import StreamsConfig
from sse_daemon.door import RESERVED_FILES, TOLD_KEPT, Door
from sse_daemon.errors import RequestRefused
from sse_daemon.listener import KEPT_BACK


class World:
    """A door with a clock that the test moves, and as many streams as it says."""

    def __init__(self, **settings: Any) -> None:
        self.now = 1000.0
        self.streams = 0
        self.door = Door(StreamsConfig(**settings), lambda: self.streams, lambda: self.now)


@pytest.fixture
def files() -> Iterator[int]:
    """The limit of open files, which the test may change."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_there_is_room_until_the_configured_number() -> None:
    world = World(max_streams=2)
    assert (world.door.most, world.door.obstacle()) == (2, None)
    world.streams = 1
    assert world.door.obstacle() is None
    world.streams = 2
    assert world.door.obstacle() == "overload"


def test_settings_can_change_while_it_stands() -> None:
    world = World(max_streams=2)
    world.streams = 2
    world.door.settings = StreamsConfig(max_streams=3)
    assert world.door.obstacle() is None


def test_open_files_bound_it_whatever_is_configured(files: int) -> None:
    for max_streams in (0, 10**9):
        world = World(max_streams=max_streams)
        resource.setrlimit(resource.RLIMIT_NOFILE, (RESERVED_FILES + 50, files))
        assert world.door.most == 50
        resource.setrlimit(resource.RLIMIT_NOFILE, (RESERVED_FILES - 1, files))
        assert world.door.most == 1  # never none at all
    assert RESERVED_FILES > KEPT_BACK, "who is sent away has to be let in first"


def test_draining_comes_before_everything() -> None:
    world = World(max_streams=1)
    world.door.closed_for = "drain"
    assert world.door.obstacle() == "drain"
    world.streams = 1
    assert world.door.obstacle() == "drain"


def test_a_kicked_participant_is_out_for_its_time_and_no_other() -> None:
    world = World()
    world.door.bars.put("mallory", 600)
    for key in ("alice", None):
        world.door.check_barred(key)
    with pytest.raises(RequestRefused) as caught:
        world.door.check_barred("mallory")
    assert (caught.value.status, caught.value.code) == (403, "kicked")
    world.now += 599
    with pytest.raises(RequestRefused):
        world.door.check_barred("mallory")
    world.now += 1
    world.door.check_barred("mallory")


def test_who_comes_back_before_its_time_gets_no_second_retry() -> None:
    world = World()
    retry = world.door.turn_away("192.0.2.1", "alice")
    assert retry is not None
    assert world.door.turn_away("192.0.2.1", "alice") is None
    assert world.door.turn_away("192.0.2.1", "bob") is not None
    assert world.door.turn_away("192.0.2.2", "alice") is not None
    world.now += retry / 1000
    assert world.door.turn_away("192.0.2.1", "alice") is not None
    assert world.door.turned_away == 5


def test_those_who_were_told_are_remembered_within_a_bound() -> None:
    world = World()
    for number in range(TOLD_KEPT + 10):
        world.door.turn_away("192.0.2.1", f"k{number}")
    assert len(world.door._told) == TOLD_KEPT
    assert world.door.turn_away("192.0.2.1", f"k{TOLD_KEPT + 9}") is None
    assert world.door.turn_away("192.0.2.1", "k0") is not None


def test_retries_are_spread_and_a_bye_is_spread_wider() -> None:
    world = World(retry_min=1.0, retry_max=3.0)
    retries = {world.door.retry_ms() for _ in range(500)}
    assert 1000 <= min(retries) < 1500 and 2500 < max(retries) <= 3000
    byes = {world.door.bye_ms() for _ in range(500)}
    assert 1000 <= min(byes) < 4000 and 10_000 < max(byes) <= 15_000
    world.streams = 100_000
    assert 40_000 < max(world.door.bye_ms() for _ in range(500)) <= 115_000


def test_zero_works() -> None:
    world = World(retry_min=0.0, retry_max=0.0)
    assert (world.door.retry_ms(), world.door.bye_ms()) == (0, 0)
    assert world.door.turn_away("192.0.2.1", None) == 0
    assert world.door.turn_away("192.0.2.1", None) == 0


def test_when_the_process_ends_everybody_is_sent_to_its_successor() -> None:
    world = World()
    world.door.ending = True
    assert all(world.door.turn_away("192.0.2.1", "alice") is not None for _ in range(3))
    assert world.door.turned_away == 3
