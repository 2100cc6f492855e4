"""The hub with real sockets on a real loop: whatever happens, a client gets exactly its events, or is told where the hole is."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from sse_daemon import hub as hub_module
from sse_daemon import plan as plan_module
from sse_daemon import sse
from sse_daemon.backend import Limits
from sse_daemon.backends.memory import MemoryBackend
from sse_daemon.catchup import CatchUp
from sse_daemon.event import PUBLIC, Draft, Event, participant_channel
from sse_daemon.followed import Followed
from sse_daemon.hub import Hub
from sse_daemon.stream import Batch, Profile, State, Stream, wire_of
from sse_daemon.subscription import Filter, Subscription
from sse_daemon.waiter import Waiter
from sse_daemon.window import Window
from tests.conftest import LogWatch

KEYS = tuple("abcdefghij")
HISTORIES = 30
"""Random histories for each size of window and log; more of them find no more, they were tried."""


class Rig:
    """A hub over a memory log, and clients at the other ends of socket pairs."""

    def __init__(self, window_bytes: int, retention: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.backend = MemoryBackend("memory://", Limits(retention_bytes=retention))
        self.window_bytes = window_bytes
        self.clients: list[Client] = []
        self.sent: list[tuple[int, tuple[str, ...], str, bytes]] = []

    async def start(self) -> Rig:
        opened = await self.backend.open(lambda *a: self.hub.deliver(*a))
        self.catchup = CatchUp(self.backend, self.loop, lambda: 1000)
        window = Window(self.window_bytes, opened.head)
        self.hub = self.catchup.hub = Hub(window, opened.incarnation, self.loop, self.catchup.fetch, time.time)
        return self

    async def publish(self, channels: Sequence[str], type: str = "message", size: int = 8, expires: float | None = None) -> None:
        data = f"{len(self.sent)} ".encode() + b"x" * size
        (stored,) = await self.backend.append([(Draft(tuple(channels), type, None, (), data, expires),)])
        self.sent.append((stored.positions[0], tuple(channels), type, data))  # type: ignore[union-attr]

    async def connect(self, key: str, after: int | None = None, filter: Filter | None = None, chunked: bool = True) -> Client:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        wire = wire_of(chunked, False, self.hub.incarnation)
        subscription = Subscription((participant_channel(key), PUBLIC), filter)
        profile = Profile(f"c{len(self.clients)}", key, "/events", "test", 0.0, subscription, wire, False, None)
        snapshots = await self.backend.retained(subscription.channels)
        start = snapshots.at if after is None else after
        opening = wire.wrap(sse.retry(1000, f"{self.hub.incarnation}-{start}"))
        stream = Stream(ours, profile, opening, start, start, self.loop.time())
        self.hub.join(stream)
        client = Client(theirs, stream, start, chunked)
        self.clients.append(client)
        return client

    async def settle(self) -> None:
        """Turns the loop until every client has read all that it will get."""
        deadline = self.loop.time() + 30
        while True:
            quiet = not sum(client.read() for client in self.clients)
            done = all(client.stream.state in (State.LIVE, State.CLOSED) for client in self.clients)
            if quiet and done and self.hub.served == self.hub.window.head:
                return
            assert self.loop.time() < deadline, [client.stream.state for client in self.clients]
            await asyncio.sleep(0)

    async def stop(self) -> None:
        await self.catchup.close()
        self.hub.shutdown()
        await self.backend.close()
        for client in self.clients:
            client.sock.close()


class Client:
    """The far end of one stream: what it has read."""

    def __init__(self, sock: socket.socket, stream: Stream, start: int, chunked: bool) -> None:
        self.sock = sock
        self.stream = stream
        self.start = start
        self.chunked = chunked
        self.bytes = bytearray()

    def read(self, most: int = 1 << 20) -> int:
        try:
            data = self.sock.recv(most)
        except (BlockingIOError, OSError):
            return 0
        self.bytes += data
        return len(data)

    def blocks(self) -> Iterator[dict[str, Any]]:
        """Every whole block, with its fields; data lines joined."""
        raw = bytes(self.bytes)
        text = b"".join(_dechunk(raw)) if self.chunked else raw
        for part in text.split(b"\n\n")[:-1]:
            fields: dict[str, Any] = {"data": []}
            for line in part.split(b"\n"):
                name, _, value = line.partition(b": ")
                if name == b"data":
                    fields["data"].append(value)
                else:
                    fields[name.decode()] = value.decode()
            yield {**fields, "data": b"\n".join(fields["data"])}


def _dechunk(raw: bytes) -> Iterator[bytes]:
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size, 16)
        if not length or len(raw) < length + 2:
            return
        assert raw[length : length + 2] == b"\r\n"
        assert raw[:length].endswith(b"\n\n")  # a chunk ends where a block ends
        yield raw[:length]
        raw = raw[length + 2 :]


def check(rig: Rig, client: Client) -> int:
    """The client got exactly what its channels hold after its start; holes are announced. Returns how many resyncs it saw."""
    profile = client.stream.profile
    mine = [
        (position, data)
        for position, channels, type, data in rig.sent
        if set(channels) & set(profile.subscription.channels)
        and (profile.subscription.filter is None or type in profile.subscription.filter.types)
    ]
    cursor, resyncs = client.start, 0
    for block in client.blocks():
        position = int(block["id"].rpartition("-")[2])
        assert position >= cursor, "a cursor never moves back"
        if block.get("event") == "resync":
            resyncs += 1
            between = [data for at, data in mine if cursor < at <= position]
            missed = sse.ujson.loads(block["data"])["missed"]
            assert missed is None or missed == len(between)
        elif block["data"]:
            expected = next((data for at, data in mine if at > cursor), None)
            assert block["data"] == expected, "its next event, and no other"
        cursor = position
    if client.stream.state is State.LIVE:
        assert [data for at, data in mine if at > cursor] == [], "nothing is left over"
    return resyncs


def history(chance: random.Random, length: int) -> Iterator[tuple[Any, ...]]:
    """What may happen, in any order; turns of the loop between, so that things happen in the middle of others."""
    kinds = ("publish", "public", "burst", "connect", "resume", "filtered", "read", "read all", "turn", "hang up")
    for what in chance.choices(kinds, (6, 4, 1, 2, 2, 1, 4, 6, 16, 1), k=length):
        key = chance.choice(KEYS)
        yield {
            "publish": (what, chance.sample(KEYS, chance.randint(1, 3)), chance.randint(0, 3000)),
            "public": (what, chance.choice(("message", "other")), chance.randint(0, 3000)),
            "burst": (what, key, chance.randint(1, 60)),
            "connect": (what, key, chance.random() < 0.5),
            "filtered": (what, key, chance.random() < 0.5),
            "resume": (what, key, chance.random()),
            "read": (what, chance.randrange(100), chance.choice((10, 500, 5000, 100_000))),
            "read all": (what, 0, 0),
            "turn": (what, chance.choice((1, 1, 1, 2, 5)), 0),
            "hang up": (what, chance.randrange(100), 0),
        }[what]


async def perform(rig: Rig, operation: tuple[Any, ...]) -> None:
    what, a, b = operation
    if what == "publish":
        await rig.publish([participant_channel(key) for key in a], size=b)
    elif what == "public":
        await rig.publish([PUBLIC], type=a, size=b)
    elif what == "burst":
        for _ in range(b):
            await rig.publish([participant_channel(a)], size=200)
    elif what in ("connect", "filtered"):
        wanted = Filter(types=("other",)) if what == "filtered" else None
        await rig.connect(a, filter=wanted, chunked=b)
    elif what == "resume":
        await rig.connect(a, after=int(b * rig.hub.window.head))
    elif what == "turn":
        for _ in range(a):
            await asyncio.sleep(0)
    elif what == "read all":
        for client in rig.clients:
            client.read()
    elif rig.clients:
        client = rig.clients[a % len(rig.clients)]
        if what == "read":
            client.read(b)
        else:
            client.sock.close()


@pytest.mark.parametrize("slice", [0.0, hub_module.SLICE], ids=["sliced", "whole"])
@pytest.mark.parametrize(
    ("window", "retention"), [(1 << 20, 1 << 20), (6000, 1 << 20), (6000, 20_000), (0, 1 << 20), (0, 0)], ids=str
)
def test_any_history_gives_every_client_exactly_its_events_or_says_where_the_hole_is(
    window: int, retention: int, slice: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "SLICE", slice)
    shared = plan_module.SHARED
    for seed in range(HISTORIES):
        monkeypatch.setattr(plan_module, "SHARED", (1, shared)[seed % 2])
        try:
            asyncio.run(live_through(random.Random(seed), window, retention))
        except AssertionError as error:
            raise AssertionError(f"history {seed}: {error}") from error


async def live_through(chance: random.Random, window: int, retention: int) -> None:
    rig = await Rig(window, retention).start()
    for _ in range(chance.choice((0, 40))):  # enough for a sweep of several slices, with things happening between
        await rig.connect(chance.choice(KEYS[:4]))
    for operation in history(chance, chance.randint(5, 250)):
        await perform(rig, operation)
    await rig.settle()
    for client in rig.clients:
        if client.sock.fileno() >= 0:
            assert client.stream.state is State.LIVE
            resyncs = check(rig, client)
            assert resyncs == 0 or retention < 1 << 20, "what the log still holds is no hole"
    await rig.stop()


@pytest.fixture
def sliced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "SLICE", 0.0)
    monkeypatch.setattr(plan_module, "SHARED", 1)


@pytest.fixture(params=[1, 1000], ids=["takes", "takes nothing"])
def sweep(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices, in which what has come is taken at once, or not before the sweep is over."""
    monkeypatch.setattr(hub_module, "SLICE", 0.0)
    monkeypatch.setattr(plan_module, "SHARED", request.param)


async def in_mid_sweep(window: int = 1 << 20, count: int = 40) -> Rig:
    """A rig whose sweep over `count` streams has done two slices, of 16."""
    rig = await Rig(window, 1 << 20).start()
    for _ in range(count):
        await rig.connect("a")
    await rig.settle()
    await rig.publish([PUBLIC])
    await asyncio.sleep(0)
    assert rig.hub.served < rig.hub.window.head, "a sweep is running"
    return rig


async def finish_and_check(rig: Rig) -> None:
    await rig.settle()
    for client in rig.clients:
        check(rig, client)
    await rig.stop()


async def test_who_goes_live_in_mid_sweep_gets_what_came_for_a_channel_without_streams(sweep: None) -> None:
    rig = await in_mid_sweep(count=100)
    await rig.publish([participant_channel("z")])
    client = await rig.connect("z", after=0)
    await finish_and_check(rig)
    assert len(list(client.blocks())) == 3  # the opening, the public event, its own


async def test_who_joins_ahead_of_a_running_sweep_is_not_written_what_it_already_stands_for(sweep: None) -> None:
    rig = await in_mid_sweep(count=100)
    await rig.publish([PUBLIC])
    client = await rig.connect("z")
    assert client.start > rig.hub.end
    await finish_and_check(rig)
    assert len(list(client.blocks())) == 1


async def test_who_is_still_to_be_written_to_gets_what_came_meanwhile_in_one_write(
    sliced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = await in_mid_sweep()
    visited = {client.stream for client in rig.clients if client.stream.delivered}
    writes: dict[Stream, list[int]] = {client.stream: [] for client in rig.clients}
    write = Stream.write

    def note(stream: Stream, batch: Batch, now: float) -> bool:
        writes[stream].append(batch.count)
        return write(stream, batch, now)

    monkeypatch.setattr(Stream, "write", note)
    await rig.publish([PUBLIC])
    await finish_and_check(rig)
    assert 0 < len(visited) < len(rig.clients)
    assert all(writes[stream] == ([1] if stream in visited else [2]) for stream in writes)


async def test_served_is_what_everybody_has_while_a_sweep_is_under_way(sliced: None) -> None:
    rig = await in_mid_sweep()
    assert (rig.hub.served, rig.hub.end) == (0, 1)
    assert {rig.hub.position(client.stream) for client in rig.clients if client.stream.delivered} == {1}
    assert {rig.hub.position(client.stream) for client in rig.clients if not client.stream.delivered} == {0}
    await finish_and_check(rig)
    assert rig.hub.served == rig.hub.window.head


async def test_who_leaves_in_mid_sweep_is_not_written_to(sliced: None) -> None:
    rig = await in_mid_sweep()
    await rig.publish([PUBLIC])
    await asyncio.sleep(0)
    leaving = [client.stream for client in rig.clients[::2]]
    had = [stream.delivered for stream in leaving]
    for stream in leaving:
        rig.hub.finish(stream, "kicked", 1000)
    await rig.settle()
    for client in rig.clients[1::2]:
        check(rig, client)
    assert {stream.state for stream in leaving} == {State.CLOSED}
    assert [stream.delivered for stream in leaving] == had
    assert all(client.bytes.endswith(sse.LAST_CHUNK) for client in rig.clients[::2])
    await rig.stop()


async def test_who_goes_live_in_mid_sweep_gets_what_comes_then(sliced: None) -> None:
    rig = await in_mid_sweep(count=100)
    client = await rig.connect("z", after=rig.hub.end)
    await asyncio.sleep(0)
    assert client.stream.state is State.LIVE
    await rig.publish([PUBLIC])
    await asyncio.sleep(0)
    assert rig.hub.served < rig.hub.end, "the sweep is still under way"
    await finish_and_check(rig)


async def test_who_reads_on_goes_live_although_something_comes_in_every_turn(sliced: None) -> None:
    rig = await in_mid_sweep()
    clients = [await rig.connect("z", after=0) for _ in range(20)]
    for _ in range(100):
        await rig.publish([PUBLIC])
        await asyncio.sleep(0)
        for client in rig.clients:
            client.read()
    assert {client.stream.state for client in clients} == {State.LIVE}
    await finish_and_check(rig)


@pytest.mark.parametrize(("bound", "value"), [("PAGE", 3), ("MAX_WRITE", 200)])
async def test_who_reads_on_in_pieces_goes_live_after_the_last(bound: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, bound, value)
    rig = await Rig(1 << 20, 1 << 20).start()
    for _ in range(10):
        await rig.publish([PUBLIC])
    client = await rig.connect("a", after=0)
    await finish_and_check(rig)
    assert client.stream.delivered == 10


async def test_a_long_poll_that_begins_in_mid_sweep_is_woken_by_what_comes_then(sliced: None) -> None:
    rig = await in_mid_sweep()
    profile = rig.clients[0].stream.profile
    waiter = Waiter(profile, rig.loop)
    rig.hub.wait(waiter)
    await rig.publish([PUBLIC])
    await finish_and_check(rig)
    assert waiter.woken.done()


async def test_a_long_poll_that_begins_in_mid_sweep_is_woken_by_what_came_for_nobody(sweep: None) -> None:
    rig = await in_mid_sweep(count=100)
    await rig.publish([participant_channel("z")])
    subscription = Subscription((participant_channel("z"),), None)
    waiter = Waiter(rig.clients[0].stream.profile._replace(subscription=subscription), rig.loop)
    rig.hub.wait(waiter)
    assert rig.hub.end < rig.hub.window.head
    await finish_and_check(rig)
    assert waiter.woken.done()


async def test_nothing_is_kept_of_a_sweep_or_of_who_left_ahead_of_it(sweep: None) -> None:
    rig = await in_mid_sweep(count=100)
    await rig.publish([PUBLIC])
    client = await rig.connect("z")
    while client.stream not in rig.hub._ahead and rig.hub.end < client.start:
        await asyncio.sleep(0)
    rig.hub.close(client.stream, "kicked")
    assert not rig.hub._ahead
    await finish_and_check(rig)
    assert len(rig.hub._batches) == 0 and not rig.hub._plan.visited


async def test_nothing_is_kept_of_those_who_waited_on_what_is_not_followed() -> None:
    loop, followed = asyncio.get_running_loop(), Followed()
    window = Window(1 << 20, 0, followed.since)
    followed.fill(window)
    hub = Hub(window, "0" * 12, loop, lambda stream: None, lambda: 0.0)
    for number in range(10):
        subscription = Subscription((participant_channel(f"p{number}"),), None)
        waiter = Waiter(Profile("c", "p", "/events", "x", 0.0, subscription, wire_of(True, False, "0" * 12), False, None), loop)
        hub.wait(waiter)
        hub.leave(waiter)
    assert (len(hub._touched), len(window.channels)) == (0, 0)
    hub.shutdown()


async def test_a_hole_is_not_counted_where_one_event_is_on_several_channels() -> None:
    """The events go to everybody and by name to one of them: who counts by channel counts them twice."""
    said = {}
    for channels in ([PUBLIC], [PUBLIC, participant_channel("a")]):
        rig = await Rig(0, 3000).start()
        client = await rig.connect("a")
        await rig.settle()
        for _ in range(60):
            await rig.publish(channels, size=500)
        await rig.settle()
        (said[len(channels)],) = [
            sse.ujson.loads(block["data"])["missed"] for block in client.blocks() if block.get("event") == "resync"
        ]
        await rig.stop()
    assert said[1] > 0 and said[2] is None


async def test_the_window_keeps_what_a_running_sweep_has_not_written(sliced: None) -> None:
    rig = await in_mid_sweep(window=0)
    await rig.publish([PUBLIC])
    await finish_and_check(rig)


async def test_a_stream_of_two_touched_channels_gets_their_events_in_one_write_by_position() -> None:
    rig = await Rig(1 << 20, 1 << 20).start()
    client = await rig.connect("a")
    await rig.settle()
    for channel in (PUBLIC, participant_channel("a"), PUBLIC, participant_channel("b")):
        await rig.publish([channel])
    await finish_and_check(rig)
    assert [block["data"][:1] for block in client.blocks()][1:] == [b"0", b"1", b"2"]


async def test_streams_of_one_channel_share_one_buffer() -> None:
    rig = await Rig(1 << 20, 1 << 20).start()
    clients = [await rig.connect("a") for _ in range(3)]
    await rig.settle()
    seen: list[Batch] = []

    class Spy(Stream):
        __slots__ = ()

        def write(self, batch: Batch, now: float) -> bool:
            seen.append(batch)
            return super().write(batch, now)

    for client in clients:
        client.stream.__class__ = Spy
    await rig.publish([PUBLIC])
    await finish_and_check(rig)
    assert len(seen) == 3 and len({id(batch) for batch in seen}) == 1


async def test_a_client_that_says_something_more_is_closed_and_one_that_hangs_up_too() -> None:
    rig = await Rig(1 << 20, 1 << 20).start()
    talker, leaver = await rig.connect("a"), await rig.connect("a")
    await rig.settle()
    talker.sock.send(b"x")
    leaver.sock.close()
    while rig.hub.streams:
        await asyncio.sleep(0)
    assert dict(rig.hub.closings) == {"protocol": 1, "client": 1}
    assert {closed.reason for closed in rig.hub.closed} == {"protocol", "client"}
    assert not rig.hub.window.channels
    await rig.stop()


async def test_a_finished_stream_gets_what_was_unsent_then_bye_then_the_end() -> None:
    rig = await Rig(1 << 20, 1 << 20).start()
    client = await rig.connect("a")
    await rig.settle()
    while client.stream.state is State.LIVE:
        await rig.publish([PUBLIC], size=900)
        await asyncio.sleep(0)
    rig.hub.finish(client.stream, "kicked", 1234)
    await rig.settle()
    blocks = list(client.blocks())
    assert blocks[-1] == {"retry": "1234", "event": "bye", "data": b'{"reason":"kicked"}'}
    assert bytes(client.bytes).endswith(b"0\r\n\r\n") and client.sock.recv(1) == b""
    assert rig.hub.closings["kicked"] == 1
    await rig.stop()


async def test_what_was_delivered_stays_counted_when_a_stream_ends() -> None:
    rig = await Rig(1 << 20, 1 << 20).start()
    clients = [await rig.connect(key) for key in "ab"]
    await rig.settle()
    for _ in range(3):
        await rig.publish([PUBLIC])
    await rig.settle()
    assert rig.hub.delivered == 0, "of those that have ended"
    rig.hub.close(clients[0].stream, "kicked")
    assert rig.hub.delivered == clients[1].stream.delivered == 3
    await rig.stop()


async def test_a_stream_that_was_idle_has_not_stalled_when_it_meets_a_full_socket() -> None:
    rig = await Rig(1 << 20, 1 << 20).start()
    stream = (await rig.connect("a")).stream
    await rig.settle()
    with contextlib.suppress(BlockingIOError):
        while True:
            stream.sock.send(b":" * 512)
    stream.progress -= 1000
    await rig.publish([PUBLIC])
    assert stream in rig.hub.blocked
    assert rig.loop.time() - stream.progress < 500
    await rig.stop()


async def test_positions_tell_where_each_stream_stands() -> None:
    rig = await Rig(1 << 20, 1 << 20).start()
    client = await rig.connect("a")
    await rig.settle()
    await rig.publish([participant_channel("b")])
    await rig.settle()
    assert rig.hub.position(client.stream) == rig.hub.end == 1
    assert rig.hub.at_rest(client.stream)
    await rig.stop()


async def test_what_the_daemon_says_in_mid_sweep_stands_between_the_events(sliced: None) -> None:
    rig = await in_mid_sweep()
    await rig.publish([PUBLIC])
    for client in rig.clients[::2]:
        assert rig.hub.at_rest(client.stream)
        position = rig.hub.position(client.stream)
        rig.hub.say(client.stream, sse.position(f"{rig.hub.incarnation}-{position}"), position)
    await finish_and_check(rig)
    for number, client in enumerate(rig.clients):
        assert client.stream.delivered == 2
        assert len(list(client.blocks())) == 3 + (number % 2 == 0), "the opening, both events, and what was said"


async def test_a_log_that_skips_is_refused() -> None:
    rig = await Rig(1 << 20, 1 << 20).start()
    with pytest.raises(ValueError, match="goes on after 0"):
        rig.hub.deliver([], 1, 2)
    await rig.stop()


class Broken(Filter):
    """A filter that has a defect."""

    def passes(self, event: Event) -> bool:
        raise RuntimeError("a defect")


@pytest.mark.parametrize("how", ["reads on", "is told something"])
async def test_a_defect_met_in_mid_sweep_ends_one_stream_and_not_the_sweep(how: str, sliced: None, expect_log: LogWatch) -> None:
    rig = await Rig(1 << 20, 1 << 20).start()
    ill = await rig.connect("a", filter=Broken(types=("x",)))
    for _ in range(40):
        await rig.connect("b")
    await rig.settle()
    await rig.publish([PUBLIC])
    assert rig.hub.served < rig.hub.end and ill.stream.state is State.LIVE, "it is due"
    expect_log("sse_daemon.hub", "a stream could not be served")
    if how == "is told something":
        rig.hub.say(ill.stream, sse.KEEPALIVE)
    else:
        rig.hub.close(ill.stream, "client")
        await rig.connect("a", after=0, filter=Broken(types=("x",)))
    await rig.settle()
    assert rig.hub.closings["defect"] == 1
    for client in rig.clients[1:41]:
        check(rig, client)
    await rig.stop()


async def test_a_defect_met_for_a_long_poll_wakes_it(expect_log: LogWatch) -> None:
    expect_log("sse_daemon.hub", "could not be served")
    rig = await Rig(1 << 20, 1 << 20).start()
    profile = (await rig.connect("a")).stream.profile
    waiter = Waiter(profile._replace(subscription=Subscription((PUBLIC,), Broken())), rig.loop)
    rig.hub.wait(waiter)
    await rig.publish([PUBLIC])
    await rig.settle()
    assert waiter.woken.done()
    rig.hub.leave(waiter)
    await rig.stop()


async def test_a_defect_met_by_one_stream_ends_it_and_neither_the_others_nor_who_appended(expect_log: LogWatch) -> None:
    rig = await Rig(1 << 20, 1 << 20).start()
    ill, well = await rig.connect("a", filter=Broken(types=("x",))), await rig.connect("a")
    await rig.settle()
    expect_log("sse_daemon.hub", "a stream could not be served")
    await rig.publish([participant_channel("a")])
    await rig.settle()
    assert rig.hub.closings == {"defect": 1}
    assert (ill.stream.state, well.stream.state) == (State.CLOSED, State.LIVE)
    check(rig, well)
    assert well.stream.delivered == 1
    await rig.stop()
