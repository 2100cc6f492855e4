"""A request that waits for something to be there, and is then answered and gone."""

from __future__ import annotations

import asyncio

from sse_daemon.stream import Batch, Profile, State
from sse_daemon.window import Channel


class Waiter:
    """A long-poll: it stands on channels as a stream does, and is told once that there is something for it.

    cursor: a plan's; what the client has is known to whoever waits.
    """

    __slots__ = ("channels", "cursor", "profile", "state", "wanted", "wire", "woken")

    def __init__(self, profile: Profile, loop: asyncio.AbstractEventLoop) -> None:
        self.profile = profile
        self.wire = profile.wire
        self.wanted = profile.subscription.filter
        self.state = State.LIVE
        self.channels: tuple[Channel, ...] = ()
        self.cursor = 0
        self.woken: asyncio.Future[None] = loop.create_future()

    def write(self, batch: Batch, now: float) -> bool:
        """As a stream's; it only wakes, the events themselves are read from the window."""
        self.wake()
        return True

    def wake(self) -> None:
        """Takes note."""
        if not self.woken.done():
            self.woken.set_result(None)
