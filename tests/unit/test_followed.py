"""What a window may be asked of a channel that was not followed all the time."""

from __future__ import annotations

import pytest

from sse_daemon.event import Event
from sse_daemon.followed import Followed
from sse_daemon.window import UNKNOWN, Overtaken, Window


def followed(limit: int = 10**6) -> tuple[Followed, Window]:
    """A window that follows nothing yet, with somebody on channel `a`."""
    found = Followed()
    window = Window(limit, 0, found.since)
    found.fill(window)
    window.watch("a").streams["somebody"] = None
    return found, window


def known() -> tuple[Followed, Window]:
    """The same when the log has answered: all of `a` comes."""
    channels, window = followed()
    channels.ask(["a"])
    channels.answered(["a"], [0])
    return channels, window


def leave(window: Window, name: str = "a") -> None:
    window.channels[name].streams.clear()
    window.release(window.channels[name])


def extend(window: Window, position: int, name: str = "a") -> None:
    window.extend([(Event(position, (name,), "t", None, (), b""), b"frame")], position)


def read(window: Window, after: int) -> list[int]:
    return [entry[0] for entry in window.read([window.channels["a"]], after, window.head, 100)]


def test_nothing_can_be_read_until_the_log_has_answered() -> None:
    channels, window = followed()
    channels.ask(["a"])
    extend(window, 5)
    with pytest.raises(Overtaken):
        read(window, 5)
    channels.answered(["a"], [3])
    assert read(window, 3) == [5]
    with pytest.raises(Overtaken):
        read(window, 2)


def test_what_is_evicted_before_the_answer_is_not_forgotten() -> None:
    channels, window = followed(limit=0)
    channels.ask(["a"])
    extend(window, 5)
    window.evict(5)
    with pytest.raises(Overtaken):
        read(window, 5)
    channels.answered(["a"], [3])
    with pytest.raises(Overtaken):
        read(window, 3)
    assert read(window, 5) == []


def test_what_is_evicted_after_it_is_not_followed_any_more_makes_it_no_more_known() -> None:
    channels, window = known()
    extend(window, 1)
    leave(window)
    assert [channels.forget(), channels.forget()] == [[], ["a"]]
    window.limit = 0
    extend(window, 3, "b")
    window.watch("a").streams["again"] = None
    window.evict(3)
    assert window.channels["a"].evicted == UNKNOWN
    with pytest.raises(Overtaken):
        read(window, 3)


def test_who_is_needed_or_asked_about_is_not_forgotten() -> None:
    channels, _ = followed()
    channels.ask(["a", "b"])
    channels.answered(["a", "b"], [0, 0])
    channels.ask(["b"])
    assert [channels.forget() for _ in range(3)] == [[], [], []]
    channels.answered(["b"], [])
    assert [channels.forget(), channels.forget()] == [[], ["b"]]
    assert set(channels.since) == {"a"}


def test_a_new_answer_does_not_move_what_is_known() -> None:
    channels, window = followed()
    for since in (3, 7):
        channels.ask(["a"])
        channels.answered(["a"], [since])
    assert channels.since == {"a": 3} and window.channels["a"].evicted == 3


def test_who_comes_back_and_leaves_again_is_followed_as_long_as_after_the_first_time() -> None:
    channels, window = known()
    leave(window)
    assert channels.forget() == []
    window.watch("a").streams["again"] = None
    leave(window)
    assert [channels.forget(), channels.forget()] == [[], ["a"]]


def test_who_comes_back_in_time_is_not_forgotten() -> None:
    channels, window = known()
    leave(window)
    assert channels.forget() == []
    window.watch("a").streams["again"] = None
    assert [channels.forget() for _ in range(3)] == [[], [], []]
    assert channels.since == {"a": 0}


def test_a_channel_with_one_reader_left_is_needed() -> None:
    channels, window = known()
    window.watch("a").streams["other"] = None
    del window.channels["a"].streams["somebody"]
    window.release(window.channels["a"])
    assert [channels.forget() for _ in range(3)] == [[], [], []]
