"""The same events for clients that ask again and again: one JSON answer a request."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from sse_daemon import sse
from sse_daemon.backend import Backend, Gap, Snapshots
from sse_daemon.catchup import CatchUp
from sse_daemon.event import Cursor, Event
from sse_daemon.hub import Hub
from sse_daemon.stream import Profile
from sse_daemon.waiter import Waiter


class Answer(NamedTuple):
    """events: JSON objects as `sse.event_object` makes them; cursor: everything up to it is in here or not for the client."""

    events: list[dict[str, Any]]
    cursor: str

    def body(self) -> bytes:
        """The answer as JSON."""
        return sse.dumps({"events": self.events, "cursor": self.cursor})


class LongPoll:
    """Answers long-polls from the window, the backend, or when something comes."""

    def __init__(self, hub: Hub, catchup: CatchUp, backend: Backend, loop: asyncio.AbstractEventLoop) -> None:
        self._ended = False
        self._waiting: set[Waiter] = set()
        self._hub = hub
        self._catchup = catchup
        self._backend = backend
        self._loop = loop

    async def present(self, profile: Profile, resync: str | None = None) -> Answer:
        """The snapshots and the position they represent; behind a `resync` for this reason, if there is one."""
        snapshots = await self._backend.retained(profile.subscription.channels)
        first = [] if resync is None else [self._resync(resync)]
        return Answer(first + self._snapshots(snapshots, profile), self._cursor(snapshots.at))

    async def after(self, profile: Profile, position: int, wait: float, limit: int) -> Answer:
        """At most `limit` events after `position`, as soon as there are any, or none after `wait` seconds.

        Raises BackendError. Cancelling it leaves nothing behind.
        """
        deadline = self._loop.time() + wait
        while True:
            waiter = Waiter(profile, self._loop)
            self._waiting.add(waiter)
            self._hub.wait(waiter)
            try:
                events, position, gap = await self._scan(profile, position, limit)
                if gap is not None:
                    return await self.present(profile, gap.reason)
                if events or self._ended or not await self._woken(waiter, deadline):
                    return Answer([sse.event_object(e, self._hub.incarnation) for e in events], self._cursor(position))
            finally:
                self._waiting.discard(waiter)
                self._hub.leave(waiter)

    def end(self) -> None:
        """Answers everybody who waits now with what there is, and from now on nobody waits: the daemon is going away."""
        self._ended = True
        for waiter in self._waiting:
            waiter.wake()

    async def _scan(self, profile: Profile, position: int, limit: int) -> tuple[list[Event], int, Gap | None]:
        """Reads on from `position` until something passes the filter or the end is reached."""
        names, wanted = profile.subscription
        while True:
            page = await self._catchup.read(names, self._hub.window, position, limit)
            if isinstance(page, Gap):
                return [], position, page
            events = [e for e in page.events if self._hub.alive(e) and (wanted is None or wanted.passes(e))]
            position = page.through
            if events or position >= self._hub.end:
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
