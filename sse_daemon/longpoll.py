"""The same events for clients that ask again and again: one JSON answer a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from sse_daemon import sse
from sse_daemon.backend import Backend, Gap, Snapshots
from sse_daemon.catchup import CatchUp
from sse_daemon.event import Cursor, Event
from sse_daemon.hub import Hub
from sse_daemon.stream import Profile, Stream
from sse_daemon.waiter import Waiter


class Answer(NamedTuple):
    """events: JSON objects as `sse.event_object` makes them; cursor: everything up to it is in here or not for the client."""

    events: list[dict[str, Any]]
    cursor: str

    def body(self) -> bytes:
        """The answer as JSON."""
        return sse.dumps({"events": self.events, "cursor": self.cursor})


class Poll:
    """A long-poll under way. kicked: an operator has ended it, and it is to be given nothing."""

    __slots__ = ("kicked", "profile", "waiter")

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.kicked = False
        self.waiter: Waiter | None = None


class Held:
    """The ids of open streams and of long-polls under way: each of them takes a place."""

    def __init__(self, streams: Mapping[str, Stream], polls: Mapping[str, Poll]) -> None:
        self._streams, self._polls = streams, polls

    def __contains__(self, id: object) -> bool:
        return id in self._streams or id in self._polls

    def __len__(self) -> int:
        return len(self._streams) + len(self._polls)


class LongPoll:
    """Answers long-polls from the window, the backend, or when something comes.

    polls: those that are not answered yet, by the client's id.
    """

    def __init__(self, hub: Hub, catchup: CatchUp, backend: Backend, loop: asyncio.AbstractEventLoop) -> None:
        self.polls: dict[str, Poll] = {}
        self._ended = False
        self._hub = hub
        self._catchup = catchup
        self._backend = backend
        self._loop = loop

    @contextmanager
    def open(self, profile: Profile) -> Iterator[Poll]:
        """A long-poll, from here on seen by `kick` and counted."""
        poll = self.polls[profile.id] = Poll(profile)
        try:
            yield poll
        finally:
            del self.polls[profile.id]

    async def present(self, profile: Profile, resync: str | None = None) -> Answer:
        """The snapshots and the position they represent; behind a `resync` for this reason, if there is one."""
        snapshots = await self._backend.retained(profile.subscription.channels)
        first = []
        if resync is not None:
            self._catchup.resyncs[resync] += 1
            first = [self._resync(resync)]
        return Answer(first + self._snapshots(snapshots, profile), self._cursor(snapshots.at))

    async def after(self, poll: Poll, position: int, wait: float, limit: int) -> Answer:
        """At most `limit` events after `position`, as soon as there are any, or none after `wait` seconds.

        Whoever is kicked, or whose time is over, gets none, and keeps its position: it asks again, and is judged anew.
        Raises BackendError. Cancelling it leaves nothing behind.
        """
        profile, begun = poll.profile, position
        deadline = self._loop.time() + wait
        if profile.expires is not None:
            deadline = min(deadline, profile.expires)
        while True:
            waiter = poll.waiter = Waiter(profile, self._loop)
            self._hub.wait(waiter)
            try:
                events, position, gap = await self._scan(poll, position, limit)
                if self._over(poll):
                    return Answer([], self._cursor(begun))
                if gap is not None:
                    return await self.present(profile, gap.reason)
                if events or self._ended or not await self._woken(waiter, deadline):
                    return Answer([sse.event_object(e, self._hub.incarnation) for e in events], self._cursor(position))
            finally:
                poll.waiter = None
                self._hub.leave(waiter)

    def kick(self, whose: Callable[[Profile], bool]) -> list[str]:
        """Ends these, which get nothing more, at once if they wait. Gives the clients' ids."""
        hit = [poll for poll in self.polls.values() if whose(poll.profile)]
        for poll in hit:
            poll.kicked = True
            if poll.waiter is not None:
                poll.waiter.wake()
        return [poll.profile.id for poll in hit]

    def end(self) -> None:
        """Answers everybody who waits now with what there is, and from now on nobody waits: the daemon is going away."""
        self._ended = True
        for poll in self.polls.values():
            if poll.waiter is not None:
                poll.waiter.wake()

    def _over(self, poll: Poll) -> bool:
        expires = poll.profile.expires
        return poll.kicked or (expires is not None and self._loop.time() >= expires)

    async def _scan(self, poll: Poll, position: int, limit: int) -> tuple[list[Event], int, Gap | None]:
        """Reads on from `position` until something passes the filter, the end is reached, or it is over."""
        wanted = poll.profile.subscription.filter
        while True:
            page = await self._catchup.read(poll.profile, position, limit)
            if isinstance(page, Gap):
                return [], position, page
            events = [e for e in page.events if self._hub.alive(e) and (wanted is None or wanted.passes(e))]
            position = page.through
            if events or position >= self._hub.end or self._over(poll):
                return events, position, None
            await asyncio.sleep(0)  # neither the window nor a log in memory waits: a filter may skip all that they hold

    async def _woken(self, waiter: Waiter, deadline: float) -> bool:
        try:
            async with asyncio.timeout_at(deadline):
                await waiter.woken
        except TimeoutError:
            return False
        return True

    def _resync(self, reason: str) -> dict[str, Any]:
        data = {"reason": reason, "missed": None}
        return {"id": None, "type": "resync", "topic": None, "attrs": {}, "data": sse.dumps(data).decode()}

    def _snapshots(self, snapshots: Snapshots, profile: Profile) -> list[dict[str, Any]]:
        wanted = profile.subscription.filter
        return [sse.event_object(e, None) for e in snapshots.events if wanted is None or wanted.passes(e)]

    def _cursor(self, position: int) -> str:
        return str(Cursor(self._hub.incarnation, position))
