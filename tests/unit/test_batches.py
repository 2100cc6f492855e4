"""What a sweep brings to one stream: the short way for a single new event gives what the long way gives."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sse_daemon import sse
from sse_daemon.batches import Batches
from sse_daemon.event import Event
from sse_daemon.stream import Wire
from sse_daemon.subscription import Filter
from sse_daemon.window import Window

NOW = 1000.0


def swept(
    events: Sequence[Event], filter: Filter | None = None, names: Sequence[str] = ("a",), chunked: bool = True
) -> list[bytes]:
    """The frames that a sweep over all of these events brings to a stream on some channels."""
    window = Window(1 << 20)
    channels = [window.watch(name) for name in names]
    window.extend([(event, sse.event_frame(event, "log")) for event in events], events[-1].position)
    batches = Batches(window, lambda: NOW)
    batches.extend(window.head)
    batch = batches.of(tuple(channels), 0, filter, Wire(chunked, False, "log"))
    return [] if batch is None else list(batch.frames)


def event(position: int, *channels: str, type: str = "message", expires: float | None = None) -> Event:
    return Event(position, channels or ("a",), type, None, (), str(position).encode(), expires)


@pytest.mark.parametrize("names", [("a",), ("a", "b")], ids=["one channel", "two channels"])
@pytest.mark.parametrize("others", [0, 1, 2])
def test_what_has_expired_is_left_out(names: Sequence[str], others: int) -> None:
    fresh = [event(position, expires=NOW + 1) for position in range(1, others + 1)]
    found = swept([*fresh, event(9, expires=NOW)], names=names)
    assert found == [sse.event_frame(each, "log") for each in fresh]


@pytest.mark.parametrize("type", ["wanted", "other"])
def test_a_filter_holds_for_a_single_event_too(type: str) -> None:
    only = Filter(types=("wanted",))
    assert len(swept([event(1, type=type)], only)) == (type == "wanted")


def test_a_single_event_is_framed_as_the_stream_has_it() -> None:
    assert swept([event(1)]) == [sse.event_frame(event(1), "log")]
    assert swept([event(1)], chunked=False) == [sse.unchunk(sse.event_frame(event(1), "log"))]


def test_an_event_on_several_of_its_channels_comes_once() -> None:
    assert swept([event(1, "a", "b"), event(2, "b")], names=("a", "b")) == [sse.event_frame(event(n), "log") for n in (1, 2)]


@pytest.mark.parametrize(("names", "kept"), [(("many",), 1), (("one",), 0), (("many", "one"), 0), (("many", "more"), 1)], ids=str)
def test_only_what_several_get_is_kept(names: Sequence[str], kept: int) -> None:
    window = Window(1 << 20)
    for name, count in (("one", 1), ("many", 2), ("more", 3)):
        window.watch(name).streams = dict.fromkeys(range(count))
    window.extend([(event(1, *names), b"")], 1)
    batches = Batches(window, lambda: NOW)
    batches.extend(1)
    wire = Wire(True, False, "log")
    for _ in range(2):
        assert batches.of(tuple(window.watch(name) for name in names), 0, None, wire) is not None
    assert len(batches) == kept
    batches.clear()
    assert len(batches) == 0
