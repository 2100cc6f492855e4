"""What the window says it takes is what it takes: an account that is too low lets "8 MB" take 71 (measured on a prototype)."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from sse_daemon import sse
from sse_daemon.event import Attrs, Event
from sse_daemon.window import Window


def events(count: int, recipients: int, channels: int, size: int, attrs: bool) -> list[Event]:
    made = []
    for i in range(count):
        names = tuple(f"participant/{'k' * 40}{(i * recipients + j) % channels:06d}" for j in range(recipients))
        held: Attrs = tuple((f"name{i}.{j}", (f"value{i}.{j}", "other" * 10 + str(i))) for j in range(10)) if attrs else ()
        made.append(Event(i + 1, names, "chat.new", f"chat.{i % 100}", held, str(i).encode() + b"x" * size))
    return made


@pytest.mark.parametrize(
    ("count", "recipients", "channels", "size", "attrs"),
    [
        pytest.param(10_000, 1, 1, 100, False, id="one channel"),
        pytest.param(10_000, 1, 10_000, 100, False, id="a channel each"),
        pytest.param(3_000, 10, 30_000, 100, False, id="many channels"),
        pytest.param(1_000, 100, 1_000, 100, False, id="many recipients"),
        pytest.param(1_000, 1, 10, 5_000, False, id="large"),
        pytest.param(10_000, 1, 200, 1, False, id="tiny"),
        pytest.param(2_000, 1, 200, 10, True, id="attributes"),
    ],
)
def test_the_account_is_not_below_what_the_window_takes(
    count: int, recipients: int, channels: int, size: int, attrs: bool
) -> None:
    window = Window(1 << 40)
    gc.collect()
    tracemalloc.start()
    try:
        for event in events(count, recipients, channels, size, attrs):
            window.extend([(event, sse.event_frame(event, "0" * 12))], event.position)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < 1.1 * window.bytes
    assert taken > 0.6 * window.bytes, "and not so far above that the window holds less than it could"


def test_an_emptied_window_has_given_everything_back() -> None:
    gc.collect()
    tracemalloc.start()
    try:
        window = Window(0)
        before = tracemalloc.get_traced_memory()[0]
        for event in events(5_000, 3, 500, 100, attrs=True):
            window.extend([(event, sse.event_frame(event, "0" * 12))], event.position)
            window.evict(event.position)
        del event
        gc.collect()
        left = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert (window.bytes, len(window), window.channels) == (0, 0, {})
    assert left < 100_000
