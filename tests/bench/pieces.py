"""What is measured: the work of the pure layers in rounds of a few dozen to a few hundred microseconds, from the outside.

A piece is a function that prepares and returns one round, which can be repeated for ever: what grows is bounded as in the
daemon. Only what the layers offer to each other is used, so that a piece outlives a change of what is inside.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import pytest

from sse_daemon import hub as hub_module
from sse_daemon import sse
from sse_daemon.envelope import Bounds, parse, resolve
from sse_daemon.errors import Refusal
from sse_daemon.event import PUBLIC, Cursor, Event, Record, participant_channel, topic_channel
from sse_daemon.hub import Hub
from sse_daemon.stream import Profile, Stream, Wire
from sse_daemon.subscription import Filter, Subscription
from sse_daemon.window import Window
from tests.bench import reference
from tests.bench.measure import Round

INCARNATION = "0123456789ab"
DATA = b'{"sid":"m1","body":"' + b"x" * 78 + b'"}'
BOUNDS = Bounds()
WINDOW_BYTES = 200_000


class Piece(NamedTuple):
    """calls: how often one round does what the name says. prepared: a context with the round."""

    name: str
    calls: int
    reference: Round
    prepared: Callable[[], Any]


PIECES: list[Piece] = []


def piece(calls: int, against: Round) -> Callable[[Callable[[], Iterator[Round]]], None]:
    """Registers a generator that yields its round once, under its own name."""

    def register(make: Callable[[], Iterator[Round]]) -> None:
        PIECES.append(Piece(make.__name__, calls, against, contextmanager(make)))

    return register


# envelope


def frame(**header: Any) -> bytes:
    return sse.dumps(header) + b"\n" + DATA


ONE = (frame(to=["alice"], type="chat.new", topic="chat.42"),)
BATCH = tuple(frame(to=["alice", "bob"], type="chat.new", **{"from": "api/6f2c", "n": n}) for n in range(1, 17))
FULL = (frame(to=["alice"], type="chat.new", topic="chat.42", attrs={"room": "42", "tags": ["a", "b"]}, ttl=60, retain=True),)
TO_ALL = (frame(to="*", type="chat.new", topic="chat.42"),)
GROUP = (frame(group="room", type="chat.new"),)
MEMBERS = {"room": tuple(f"member{n}" for n in range(100))}
BAD = (b'{"to":["alice"],"topic":7}\n',)


def record(frames: tuple[bytes, ...]) -> Record:
    """A message on its whole way through `envelope`: which of its two functions does what is its own affair."""
    return resolve(parse(frames, BOUNDS), MEMBERS, BOUNDS, 0.0)


@piece(50, reference.parsing)
def envelope_one_event() -> Iterator[Round]:
    yield lambda: [record(ONE) for _ in range(50)]


@piece(50, reference.parsing)
def envelope_public_event() -> Iterator[Round]:
    yield lambda: [record(TO_ALL) for _ in range(50)]


@piece(3 * 16, reference.parsing)
def envelope_batch_of_16_numbered() -> Iterator[Round]:
    yield lambda: [record(BATCH) for _ in range(3)]


@piece(30, reference.parsing)
def envelope_every_member() -> Iterator[Round]:
    yield lambda: [record(FULL) for _ in range(30)]


@piece(10 * 100, reference.parsing)
def envelope_group_of_100() -> Iterator[Round]:
    yield lambda: [record(GROUP) for _ in range(10)]


@piece(30, reference.refusing)
def envelope_refused() -> Iterator[Round]:
    def run() -> None:
        for _ in range(30):
            with suppress(Refusal):
                record(BAD)
                raise AssertionError("it was taken")

    yield run


# event, sse


def event(position: int, *channels: str, data: bytes = DATA) -> Event:
    return Event(position, channels, "chat.new", "chat.42", (), data)


@piece(100, reference.formatting)
def event_cursor_there_and_back() -> Iterator[Round]:
    yield lambda: [str(Cursor.parse("0123456789ab-1234567")) for _ in range(100)]


@piece(100, reference.formatting)
def sse_event_frame() -> Iterator[Round]:
    ours = event(1234567, PUBLIC)
    yield lambda: [sse.event_frame(ours, INCARNATION) for _ in range(100)]


@piece(50, reference.formatting)
def sse_event_frame_of_many_lines() -> Iterator[Round]:
    ours = event(1234567, PUBLIC, data=b"\n".join([b"x" * 20] * 50))
    yield lambda: [sse.event_frame(ours, INCARNATION) for _ in range(50)]


@piece(30, reference.formatting)
def sse_json_block() -> Iterator[Round]:
    ours = event(1234567, PUBLIC)
    yield lambda: [sse.json_block(ours, INCARNATION) for _ in range(30)]


@piece(60, reference.formatting)
def sse_heartbeat() -> Iterator[Round]:
    yield lambda: [sse.chunk(sse.heartbeat(1_700_000_000, "0123456789ab-1234567")) for _ in range(60)]


# window

COUNT = 50


def framed(first: int, channels: Callable[[int], Sequence[str]]) -> list[tuple[Event, bytes]]:
    events = [event(first + n, *channels(n)) for n in range(COUNT)]
    return [(each, sse.event_frame(each, INCARNATION)) for each in events]


def extending(channels: Callable[[int], Sequence[str]]) -> Round:
    """A window at its limit that takes COUNT events and evicts as many; what they look like was made before."""
    window = Window(WINDOW_BYTES)
    template = framed(0, channels)

    def run() -> None:
        first = window.head + 1
        batch = [(each._replace(position=first + n), frame) for n, (each, frame) in enumerate(template)]
        window.extend(batch, first + COUNT - 1)
        window.evict(window.head)

    while not window.floor:
        run()
    return run


@piece(COUNT, reference.indexing)
def window_extend_public() -> Iterator[Round]:
    yield extending(lambda n: (PUBLIC,))


@piece(COUNT, reference.indexing)
def window_extend_to_one_each() -> Iterator[Round]:
    yield extending(lambda n: (participant_channel(str(n)),))


@piece(COUNT, reference.spreading)
def window_extend_to_10_each() -> Iterator[Round]:
    yield extending(lambda n: [participant_channel(str(n + m)) for m in range(10)])


def filled() -> Window:
    """1,000 events, public and for ten participants in turns."""
    window = Window(1 << 30)
    for first in range(1, 1000, COUNT):
        window.extend(framed(first, lambda n: (PUBLIC if n % 2 else participant_channel(str(n % 10)),)), first + COUNT - 1)
    return window


@piece(100, reference.indexing)
def window_read_at_the_head() -> Iterator[Round]:
    window = filled()
    channels = tuple(window.watch(name) for name in (participant_channel("4"), PUBLIC, topic_channel("chat.42")))
    yield lambda: [window.read(channels, window.head, window.head, 256) for _ in range(100)]


@piece(100, reference.indexing)
def window_read_the_last_few_of_one_channel() -> Iterator[Round]:
    window = filled()
    channels = (window.watch(PUBLIC),)
    yield lambda: [window.read(channels, window.head - 10, window.head, 256) for _ in range(100)]


@piece(5 * 100, reference.merging)
def window_read_100_merged() -> Iterator[Round]:
    window = filled()
    channels = (window.watch(participant_channel("4")), window.watch(PUBLIC))
    yield lambda: [window.read(channels, 500, window.head, 100) for _ in range(5)]


# hub


class Sink(socket.socket):
    """A socket that takes everything at once: the kernel's part of a send is none of the hub's."""

    taken = 0

    def send(self, data: Any, flags: int = 0, /) -> int:
        length = len(data)
        self.taken += length
        return length


class Crowd:
    """A hub with so many streams, each of a participant of its own, on a loop that turns when it is told to."""

    def __init__(self, count: int, filter: Filter | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.hub = Hub(Window(WINDOW_BYTES), INCARNATION, self.loop, self._no_fetch, lambda: 0.0)
        self.filter = filter
        self.wire = Wire(True, False, INCARNATION)
        self.sinks: list[Sink] = []
        self._peers: list[socket.socket] = []
        for number in range(count):
            self.join(str(number))
        self.turn(3)

    @staticmethod
    def _no_fetch(stream: Stream) -> None:
        raise AssertionError("the window holds everything")

    def join(self, key: str) -> Stream:
        ours, theirs = socket.socketpair()
        sink = Sink(fileno=ours.detach())
        sink.setblocking(False)
        self.sinks.append(sink)
        self._peers.append(theirs)
        subscription = Subscription((participant_channel(key), PUBLIC), self.filter)
        profile = Profile(f"c{len(self.sinks)}", key, "/events", "bench", 0.0, subscription, self.wire, False, None)
        end = self.hub.end
        stream = Stream(sink, profile, b"", end, end, 0.0)
        self.hub.join(stream)
        return stream

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def deliver(self, *recipients: Sequence[str]) -> None:
        """One event for each of these sets of channels, and the turn that writes all of them."""
        head = self.hub.window.head
        batch = [event(head + n, *channels) for n, channels in enumerate(recipients, 1)]
        self.hub.deliver(batch, head, head + len(batch))
        self.turn()

    def forget(self, count: int) -> None:
        """Lets go of the sockets of the latest `count` streams, which are closed."""
        for peer in self._peers[-count:]:
            peer.close()
        del self.sinks[-count:], self._peers[-count:]

    def close(self) -> None:
        self.hub.shutdown()
        self.loop.close()
        for sock in (*self.sinks, *self._peers):
            sock.close()


@contextmanager
def crowd(count: int, filter: Filter | None = None) -> Iterator[Crowd]:
    """A crowd whose sweeps are never sliced: a round is one sweep, whatever else the machine does meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub_module, "SLICE", float("inf"))
        made = Crowd(count, filter)
        try:
            yield made
        finally:
            made.close()


def sweeping(made: Crowd, *recipients: Sequence[str]) -> Iterator[Round]:
    """Rounds of one sweep each; afterwards it must have been what it was meant to be."""
    before = sum(sink.taken for sink in made.sinks)
    made.deliver(*recipients)
    assert sum(sink.taken for sink in made.sinks) > before, "one turn writes a whole sweep"
    yield lambda: made.deliver(*recipients)
    assert {stream.state.value for stream in made.hub.streams.values()} == {"live"}
    assert made.hub.end == made.hub.window.head


@piece(200, reference.serving)
def hub_one_event_to_all() -> Iterator[Round]:
    with crowd(200) as made:
        yield from sweeping(made, (PUBLIC,))


@piece(200, reference.serving)
def hub_16_events_to_all() -> Iterator[Round]:
    with crowd(200) as made:
        yield from sweeping(made, *[(PUBLIC,)] * 16)


@piece(64, reference.spreading)
def hub_one_each_to_64_of_200() -> Iterator[Round]:
    with crowd(200) as made:
        yield from sweeping(made, *[(participant_channel(str(3 * n)),) for n in range(64)])


@piece(200, reference.spreading)
def hub_one_event_to_10_of_200_and_one_to_all() -> Iterator[Round]:
    with crowd(200) as made:
        yield from sweeping(made, (PUBLIC,), [participant_channel(str(n)) for n in range(10)])


@piece(200, reference.serving)
def hub_one_event_to_all_filtered() -> Iterator[Round]:
    with crowd(200, Filter(types=("chat.*",))) as made:
        yield from sweeping(made, (PUBLIC,))


@piece(10, reference.serving)
def hub_a_stream_comes_reads_on_and_goes() -> Iterator[Round]:
    with crowd(20) as made:
        made.deliver(*[(PUBLIC,)] * 10)

        def run() -> None:
            streams = [made.join("guest") for _ in range(10)]
            made.turn()
            for stream in streams:
                assert stream.state.value == "live"
                made.hub.close(stream, "client")
            made.forget(10)

        yield run
