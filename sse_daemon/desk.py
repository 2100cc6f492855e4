"""What operators ask about streams and do to them, for one process: plain values in, plain values out.

The operators' API (`admin.py`) asks this where the streams are in its own process, and all workers, as one, where they are not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from sse_daemon.auth import Authenticator
from sse_daemon.bars import Bars
from sse_daemon.catchup import CatchUp
from sse_daemon.door import Door
from sse_daemon.event import Event
from sse_daemon.hub import Closed, Hub
from sse_daemon.liveness import Liveness
from sse_daemon.longpoll import LongPoll
from sse_daemon.loop_lag import LoopLag
from sse_daemon.metrics import Values
from sse_daemon.stream import Profile, State, Stream

LAST_WORDS = 0.1
"""Seconds in which requests that had been accepted when the drain began still get an answer."""

DRAINED = "draining: an operator sends the clients away, until the daemon is restarted"
"""Why a daemon that was told to drain is not ready."""

Row = dict[str, Any]


class Readers(NamedTuple):
    """Who is to get an event; served: everything up to its position has been written to live streams."""

    rows: list[Row]
    served: bool


class Drained(NamedTuple):
    """How many streams there were, and how many of them have not been told yet."""

    closed: int
    open: int


class Streams(Protocol):
    """The streams, wherever they are."""

    async def clients(self, participant: str | None, closed: bool) -> list[Row]:
        """Open streams, or recently closed ones, the latest first; of one participant, if given."""

    async def kick(self, client: str | None, participant: str | None, seconds: float | None) -> list[str]:
        """Closes the streams, and ends the long-polls, of a client or participant; gives their ids.

        seconds: keeps the participant out for so long.
        """

    async def let_in(self, participant: str) -> bool:
        """Ends what a `kick` for a time began; False if the participant is not shut out."""

    async def readers(self, position: int, before: float) -> Readers:
        """Who is to get the event at `position`, of the streams that were open at the time `before` (loop's clock)."""

    async def drain(self, over: float) -> Drained:
        """Sends new streams away from now on, and ends the others evenly over so many seconds."""

    async def values(self) -> Values:
        """The metrics of the streams."""

    @property
    def silent(self) -> Sequence[str]:
        """Which processes left their latest question without an answer: what they hold is in no answer of these."""

    @property
    def bars(self) -> Bars:
        """Who is shut out by a `kick`."""

    @property
    def taps(self) -> dict[Callable[[Sequence[Event]], None], None]:
        """Whoever looks on; called with every batch of events."""


class Desk(NamedTuple):
    """The streams of this process, and the mode that knows whose they are."""

    hub: Hub
    door: Door
    catchup: CatchUp
    liveness: Liveness
    longpoll: LongPoll
    loop_lag: LoopLag
    authenticator: Authenticator
    wall: Callable[[], float]

    @property
    def silent(self) -> Sequence[str]:
        return ()

    @property
    def bars(self) -> Bars:
        return self.door.bars

    @property
    def taps(self) -> dict[Callable[[Sequence[Event]], None], None]:
        return self.hub.taps

    async def clients(self, participant: str | None, closed: bool) -> list[Row]:
        if closed:
            rows = [_closed_row(each) for each in reversed(self.hub.closed)]
        else:
            now = self.wall()
            rows = [_row(self.hub, stream, now) for stream in self.hub.streams.values()]
        return [row for row in rows if participant is None or row["participant"] == participant]

    async def kick(self, client: str | None, participant: str | None, seconds: float | None) -> list[str]:
        if participant is not None:
            self.authenticator.forget(participant)
            if seconds is not None:
                self.door.bars.put(participant, seconds)

        def whose(profile: Profile) -> bool:
            return profile.participant == participant if client is None else profile.id == client

        hit = [stream for stream in self.hub.streams.values() if whose(stream.profile)]
        for stream in hit:
            self.hub.finish(stream, "kicked", self.door.bye_ms())
        return [*(stream.profile.id for stream in hit), *self.longpoll.kick(whose)]

    async def let_in(self, participant: str) -> bool:
        return self.door.bars.lift(participant)

    async def readers(self, position: int, before: float) -> Readers:
        event = self.hub.event_at(position)
        rows = [] if event is None else [self._reader(stream, position) for stream in self._reading(event, before)]
        return Readers(rows, self.hub.served >= position)

    def _reading(self, event: Event, before: float) -> list[Stream]:
        return [
            stream
            for stream in self.hub.streams.values()
            if stream.opened <= before and stream.start < event.position and stream.profile.subscription.reads(event)
        ]

    def _reader(self, stream: Stream, position: int) -> Row:
        return {
            "id": stream.profile.id,
            "participant": stream.profile.participant,
            "written": self.hub.position(stream) >= position,
            "state": stream.state.value,
        }

    async def drain(self, over: float, place: float = 0.0) -> Drained:
        """place: where this process stands among others that drain at the same time, as a fraction."""
        loop = asyncio.get_running_loop()
        self.door.closed_for = "drain"
        self.longpoll.end()
        streams = list(self.hub.streams.values())
        begun = loop.time()
        for number, stream in enumerate(streams):
            due = begun + over * (number + place) / len(streams)
            if number % 64 == 63 or due > loop.time():
                await asyncio.sleep(max(0.0, due - loop.time()))
            self.hub.finish(stream, "drain", self.door.bye_ms())
        left = [stream for stream in self.hub.streams.values() if stream.state is not State.CLOSING]
        return Drained(len(streams), len(left))

    async def end(self, seconds: float) -> None:
        """The process ends: the streams take their `bye`, for at most so long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        self.door.ending = True
        await self.drain(0.0)
        await asyncio.sleep(min(LAST_WORDS, seconds))
        while self.hub.streams and loop.time() < deadline:
            await asyncio.sleep(0.01)

    async def values(self) -> Values:
        return self.counted()

    def counted(self) -> dict[str, Any]:
        """The metrics of the streams."""
        hub, window = self.hub, self.hub.window
        return {
            "streams": len(hub.streams),
            "streams_blocked": len(hub.blocked),
            "streams_opened_total": hub.opened,
            "streams_closed_total": dict(hub.closings),
            "streams_turned_away_total": self.door.turned_away,
            "resyncs_total": dict(self.catchup.resyncs),
            "deliveries_total": hub.delivered + sum(stream.delivered for stream in hub.streams.values()),
            "heartbeats_total": self.liveness.heartbeats,
            "window_bytes": window.bytes,
            "window_events": len(window),
            "window_channels": len(window.channels),
            "pinned_bytes": hub.pinned(),
            "sweep_position": hub.served,
            "loop_lag_seconds": self.loop_lag.worst,
            "shedding": float(self.door.overrun()),
            **self.authenticator.values(),
            "workers": 0,
            "workers_replaced_total": 0,
        }

    def answers(self) -> dict[str, Callable[..., Awaitable[Any]]]:
        """The same for a link: what `crew.py` asks."""
        return {
            "clients": self.clients,
            "kick": self.kick,
            "let_in": self.let_in,
            "readers": lambda *asked: _plain(self.readers(*asked)),
            "drain": lambda *asked: _plain(self.drain(*asked)),
            "end": self.end,
            "values": self.values,
        }


async def _plain(answer: Awaitable[Readers | Drained]) -> tuple[Any, ...]:
    return tuple(await answer)


def _who(profile: Profile) -> Row:
    """What every row says of a stream, open or not."""
    return {
        "id": profile.id,
        "participant": profile.participant,
        "route": profile.route,
        "address": profile.address,
        "opened": profile.opened,
    }


def _row(hub: Hub, stream: Stream, now: float) -> Row:
    return {
        **_who(stream.profile),
        "age": max(0.0, now - stream.profile.opened),
        "delivered": stream.delivered,
        "lag": hub.window.head - hub.position(stream),
        "unsent": len(stream.rest),
        "state": stream.state.value,
    }


def _closed_row(closed: Closed) -> Row:
    return {
        **_who(closed.profile),
        "closed": closed.at,
        "delivered": closed.delivered,
        "reason": closed.reason,
    }
