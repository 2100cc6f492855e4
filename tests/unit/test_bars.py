from __future__ import annotations

from sse_daemon.bars import Bars


class World:
    """Bars, and a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.bars = Bars(lambda: self.now)


def test_who_is_shut_out_is_so_for_that_time() -> None:
    world = World()
    world.bars.put("mallory", 600)
    world.now += 599
    assert "mallory" in world.bars and "alice" not in world.bars
    assert world.bars.left() == {"mallory": 1}
    world.now += 1
    assert "mallory" not in world.bars
    assert world.bars.left() == {}


def test_the_last_word_counts() -> None:
    world = World()
    world.bars.put("mallory", 600)
    world.bars.put("eve", 60)
    world.bars.put("mallory", 10)
    assert world.bars.left() == {"mallory": 10, "eve": 60}
    assert world.bars.lift("mallory")
    assert world.bars.left() == {"eve": 60}
    assert not world.bars.lift("mallory")
    world.now += 60
    assert not world.bars.lift("eve")


def test_what_is_handed_over_replaces_everything() -> None:
    here, there = World(), World()
    here.bars.put("mallory", 600)
    there.now = 5.0
    there.bars.put("eve", 60)
    there.bars.replace(here.bars.left())
    assert there.bars.left() == {"mallory": 600}


def test_whose_time_is_over_is_forgotten() -> None:
    world = World()
    for number in range(50):
        world.bars.put(f"k{number}", 10)
        world.now += 5
    assert len(world.bars._until) <= 3
