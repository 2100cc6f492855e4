"""Who is on which channel, and the fan-out: every stream gets what its channels hold, in order, once.

A fan-out is a *sweep*: it visits the live streams that have something to get, whoever has waited longest first, and writes to each
what came since it was last written to, up to `end`. It runs in slices, so that a fan-out to many streams does not hold the loop, with
one pending turn in the loop at most. Before each slice `end` goes on to the window's head, if something has come and that pays
(`plan.py`). What holds at every moment:

* `end` is the window's head, or a sweep is running or scheduled.
* A LIVE stream that is not in the sweep's plan has got everything up to `end`. One in the plan has got everything up to its cursor.
* A stream that is behind reads from the window up to `end`, never to the head, and then goes live. Going live marks its channels that
  have something after `end`, for nobody may have been live there when it came.
* A cursor never moves back.
* The window evicts nothing that somebody in the plan has not got.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from sse_daemon import sse
from sse_daemon.batches import Batches, within
from sse_daemon.event import Event, Logged
from sse_daemon.plan import Key, Member, Plan
from sse_daemon.poller import Poller
from sse_daemon.stream import MAX_WRITE, Batch, Gone, Profile, State, Stream, Wire
from sse_daemon.subscription import Filter
from sse_daemon.waiter import Waiter
from sse_daemon.window import Channel, Entry, Overtaken, Window, event_of

SLICE = 0.0005
"""Seconds that a sweep, the streams behind, and heartbeats may each hold the loop in one turn. What has come is taken between two slices: with
shorter ones a write carries more events, and the turns between them take more of the time."""
PAGE = 256
"""Most events that a stream behind reads from the window for one write."""
CLOSED_KEPT = 200
"""Recently closed streams that operators can still look at."""

_log = logging.getLogger("sse_daemon.hub")


class Closed(NamedTuple):
    """A stream that was: its profile, why and when (Unix seconds) it ended, how many events it had got."""

    profile: Profile
    reason: str
    at: float
    delivered: int


class Hub:
    """The streams of this process.

    fetch(stream): called when the window cannot serve a stream any more; it must bring the stream back by `resume`.
    wall: Unix time, for expiries.
    """

    def __init__(
        self,
        window: Window,
        incarnation: str,
        loop: asyncio.AbstractEventLoop,
        fetch: Callable[[Stream], None],
        wall: Callable[[], float],
    ) -> None:
        self.window = window
        self.incarnation = incarnation
        self.end = window.head
        self.streams: dict[str, Stream] = {}
        self.blocked: dict[Stream, None] = {}
        """Streams whose socket is full, the one that waits longest first."""
        self.closed: deque[Closed] = deque(maxlen=CLOSED_KEPT)
        self.closings: Counter[str] = Counter()
        self.opened = 0
        self.delivered = 0
        self.taps: dict[Callable[[Sequence[Event]], None], None] = {}
        """Operators who look on; called with every batch of events."""
        self._loop = loop
        self._fetch = fetch
        self._wall = wall
        self._poller = Poller(loop, self._writable, self._spoke)
        self._touched: dict[Channel, None] = {}
        self._plan = Plan()
        self._batches = Batches(window, wall)
        self._ready: dict[Stream, None] = {}
        self._ahead: dict[Stream, None] = {}
        self._turn_handle: asyncio.Handle | None = None

    # The log's side.

    def deliver(self, batch: Iterable[Logged], after: int, last: int) -> None:
        """Takes what the log holds after `after` through `last`; what fits into a turn is written now, the rest in those that follow."""
        if after != self.window.head:
            raise ValueError(f"the log goes on after {self.window.head}, not after {after}")
        frame, incarnation = sse.event_frame, self.incarnation
        framed = [(item, frame(item, incarnation)) for item in batch if isinstance(item, Event)]
        for channel in self.window.extend(framed, last):
            if channel.streams:
                self._touched[channel] = None
        for tap in tuple(self.taps):
            tap([event for event, _ in framed])
        if self._turn_handle is None:
            # Not in the loop's next turn: an event that comes alone, while nothing else is to do, is written that much earlier.
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001
                # A defect, reported as it is in a turn of the loop's: whoever appended must not meet it.
                self._loop.call_exception_handler({"message": "a turn of the hub failed", "exception": error})

    # The streams' side.

    def join(self, stream: Stream) -> None:
        """Takes a new stream; it reads on from its cursor."""
        self._enlist(stream)
        self.streams[stream.profile.id] = stream
        self.opened += 1
        self._poller.add(stream)
        self.resume(stream)

    def resume(self, stream: Stream) -> None:
        """Gives the stream its turn soon; to be called when it has something to send or may read on."""
        if stream.state is not State.CLOSED:
            self._ready[stream] = None
            self._schedule()

    def wait(self, waiter: Waiter) -> None:
        """Takes a long-poll; `leave` ends it."""
        self._enlist(waiter)
        self._plan.came(waiter)
        self._mark(waiter.channels)

    def leave(self, member: Member) -> None:
        """Takes a stream or long-poll off its channels."""
        self._plan.drop(member)
        for channel in member.channels:
            channel.streams.pop(member, None)
            if channel.name in self.window.channels:
                self.window.release(channel)
        member.channels = ()

    def say(self, stream: Stream, block: bytes, position: int | None = None) -> None:
        """Writes a block of the daemon's own; `position`: the one it announces. Only for a stream with nothing unsent."""
        cursor = self.position(stream)
        if stream.state is State.LIVE:
            self._plan.drop(stream)  # it reads on by itself
            stream.enter(State.BEHIND)
        stream.cursor = cursor
        stream.add(stream.wire.wrap(block))
        if position is not None:
            stream.announced = position
        if self._pump(stream):
            self.resume(stream)

    def finish(self, stream: Stream, reason: str, retry_ms: int) -> None:
        """Says `bye` behind what is unsent and closes once the socket has taken it."""
        if stream.state in (State.CLOSING, State.CLOSED):
            return
        self.leave(stream)
        stream.enter(State.CLOSING)
        stream.reason = reason
        wire = stream.wire
        stream.add(wire.wrap(sse.bye(reason, retry_ms)) + wire.end)
        self.resume(stream)

    def close(self, stream: Stream, reason: str) -> None:
        """Ends the stream now, with what it has got."""
        if stream.state is State.CLOSED:
            return
        stream.enter(State.CLOSED)
        stream.reason = stream.reason or reason
        self.leave(stream)
        self._poller.remove(stream)
        for place in (self._ready, self._ahead, self.blocked):
            place.pop(stream, None)
        del self.streams[stream.profile.id]
        stream.shut()
        self.delivered += stream.delivered
        self.closings[stream.reason] += 1
        self.closed.append(Closed(stream.profile, stream.reason, self._wall(), stream.delivered))
        _log.info("stream closed", extra={"id": stream.profile.id, "reason": stream.reason, "delivered": stream.delivered})

    def shutdown(self) -> None:
        """Closes whatever is still open, and the poller."""
        for stream in tuple(self.streams.values()):
            self.close(stream, "drain")
        self._poller.close()
        if self._turn_handle is not None:
            self._turn_handle.cancel()

    def position(self, stream: Stream) -> int:
        """Everything up to here was written to the stream, or begun, or is not for it."""
        if stream.state is not State.LIVE:
            return stream.cursor
        return stream.cursor if stream in self._plan else self.end

    @property
    def served(self) -> int:
        """Every live stream has got everything up to here."""
        return self._plan.oldest(self.end)

    def event_at(self, position: int) -> Event | None:
        """The event at this position, while the window holds it."""
        entry = self.window.at(position)
        return None if entry is None else event_of(entry)

    def alive(self, event: Event) -> bool:
        """True if the event has not expired by now."""
        return event.expires is None or event.expires > self._wall()

    def at_rest(self, stream: Stream) -> bool:
        """True if nothing is unsent: only then may its position be announced."""
        return stream.state is State.LIVE

    def pinned(self) -> int:
        """Bytes that full sockets have not taken yet, over all streams."""
        return sum(len(stream.rest) for stream in self.blocked)

    def missed(self, stream: Stream, at: int) -> int | None:
        """How many events of its channels lie between the stream's cursor and `at`; None where that cannot be told exactly."""
        cursor, channels = stream.cursor, stream.channels
        if len(channels) > 1 and any(channel.shared > cursor for channel in channels):
            return None  # it may be on several of them, and counts once
        if stream.counted is None or stream.counted[0] != cursor or stream.wanted is not None:
            return None
        if any(channel.mortal > cursor or channel.evicted > at for channel in channels) or at > self.window.head:
            return None
        return sum(channel.count_to(at) for channel in channels) - stream.counted[1]

    # The loop's side.

    def _schedule(self) -> None:
        if self._turn_handle is None:
            self._turn_handle = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_handle = None
        now = self._loop.time()
        plan = self._plan
        if self.end != self.window.head:
            self._take()
        if plan.due:
            self._sweep(now, now + SLICE)
            plan.go_on()
        if not plan.due:
            self._batches.clear()
        self.window.evict(self.served)
        self._pump_ready(self._loop.time() + SLICE)
        if plan.due or self._ready or self.end != self.window.head:
            self._schedule()

    def _take(self) -> None:
        """Goes on to the window's head."""
        if not self._plan.take(self._touched, self.end, len(self._batches)):
            return
        self._touched = {}
        self.end = self.window.head
        self._batches.extend(self.end)
        for stream in [s for s in self._ahead if s.cursor <= self.end]:
            del self._ahead[stream]
            self._ready[stream] = None

    def _sweep(self, now: float, deadline: float) -> None:
        due = self._plan.due
        visited = self._plan.visited.append
        key: Key = ()
        wanted: Filter | None = None
        wire: Wire | None = None
        batch: Batch | None = None
        done = 0
        while due:
            member, channels = due.popitem()
            visited(member)
            try:
                # Streams that share a batch mostly come in a row and share these very objects: then nothing is to look up. Those whose
                # key is the same object became due together, and stand at the same position.
                if channels is not key or member.wire is not wire or member.wanted is not wanted:
                    batch = self._batches.of(channels, member.cursor, member.wanted, member.wire)
                    key, wanted, wire = channels, member.wanted, member.wire
                if batch is None:
                    pass
                elif batch.too_large and isinstance(member, Stream):
                    self._postpone(member, batch)
                elif not member.write(batch, now) and isinstance(member, Stream):
                    member.enter(State.BEHIND)
                    self._block(member)
            except Exception as error:  # noqa: BLE001
                self._lose(member, error)
            done += 1
            if not done & 15 and self._loop.time() > deadline:
                return

    def _lose(self, member: Member, error: Exception) -> None:
        """Ends what could not be served. A defect of ours must neither stop the others nor leave a hole that nobody sees."""
        if not isinstance(error, Gone):
            _log.error("a stream could not be served", exc_info=error)
        if isinstance(member, Stream):
            self.close(member, "client" if isinstance(error, Gone) else "defect")
        else:
            member.wake()

    def _postpone(self, stream: Stream, batch: Batch) -> None:
        """Too much for one write: the stream reads the same from the window, in pieces."""
        stream.enter(State.BEHIND)
        stream.cursor = batch.after
        self._count_cursor(stream)
        self.resume(stream)

    def _block(self, stream: Stream) -> None:
        if stream not in self.blocked:
            self.blocked[stream] = None
            stream.progress = self._loop.time()  # an idle stream has made none for a while, and nobody asked it to
        self._count_cursor(stream)

    def _pump_ready(self, deadline: float) -> None:
        while self._ready:
            stream = next(iter(self._ready))
            del self._ready[stream]
            if self._pump(stream):
                self._ready[stream] = None
            if self._loop.time() > deadline:
                return

    def _pump(self, stream: Stream) -> bool:
        """Does one step for a stream that is behind: sends what is unsent, then at most one write. True: there is more."""
        if stream.state not in (State.BEHIND, State.CLOSING):
            return False
        now = self._loop.time()
        try:
            if not stream.flush(now):
                if stream.progress == now:
                    self.blocked.pop(stream, None)  # it made progress, so it goes to the end of those who wait
                self._block(stream)
                return False
            self.blocked.pop(stream, None)
            return self._read_on(stream, now)
        except Exception as error:  # noqa: BLE001
            self._lose(stream, error)
            return False

    def _read_on(self, stream: Stream, now: float) -> bool:
        if stream.state is State.CLOSING:
            self.close(stream, stream.reason)
            return False
        if stream.cursor > self.end:
            self._ahead[stream] = None
            return False
        try:
            entries = self.window.read(stream.channels, stream.cursor, self.end, PAGE)
        except Overtaken:
            stream.enter(State.FETCHING)
            self._fetch(stream)
            return False
        if not entries:
            self._go_live(stream)
            return False
        if not self.send(stream, entries, now):
            return False
        if len(entries) == PAGE or stream.cursor != entries[-1][0]:
            return True
        # Not in its next turn: `end` may have gone on by then, and whoever reads on alone shares no buffer.
        self._go_live(stream)
        return False

    def send(self, stream: Stream, entries: Sequence[Entry], now: float) -> bool:
        """Writes the first of `entries`, at most MAX_WRITE bytes, to a stream with nothing unsent. True: the socket took all.

        Raises Gone.
        """
        entries = within(entries, MAX_WRITE)
        batch = self._batches.encode(stream.cursor, entries, stream.wanted, stream.wire)
        if batch is not None and not stream.write(batch, now):
            self._block(stream)
            return False
        stream.cursor = entries[-1][0]
        self._count_cursor(stream)
        return True

    def _go_live(self, stream: Stream) -> None:
        stream.cursor = self.end
        stream.enter(State.LIVE)
        stream.settled = True
        stream.outrun = 0
        stream.counted = None
        self._plan.came(stream)
        self._mark(stream.channels)

    def _mark(self, channels: Key) -> None:
        for channel in channels:
            if self.end < channel.last <= self.window.head:  # what is not followed yet says that its latest is far ahead
                self._touched[channel] = None

    def _enlist(self, member: Member) -> None:
        channels = [self.window.watch(name) for name in member.profile.subscription.channels]
        for channel in channels:
            channel.streams[member] = None
        member.channels = tuple(channels)

    def _writable(self, stream: Stream) -> None:
        if stream in self.blocked:
            self.resume(stream)

    def _spoke(self, stream: Stream) -> None:
        count = stream.discard_input()
        if count < 0:
            self.close(stream, "client")
        elif count > 0:
            self.close(stream, "protocol")

    def _count_cursor(self, stream: Stream) -> None:
        """Remembers how many events lie up to the cursor, while the channels can still tell: see `missed`."""
        if all(channel.evicted <= stream.cursor for channel in stream.channels):
            stream.counted = stream.cursor, sum(channel.count_to(stream.cursor) for channel in stream.channels)
