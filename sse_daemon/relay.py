"""The owner's side of the workers' logs: pushes what the log holds to everyone who follows it, and answers their questions.

At the other end of each link is a `BrokerBackend` (backends/broker.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from sse_daemon import codec
from sse_daemon.backend import Backend, Gap, Stored
from sse_daemon.errors import BackendUnavailable, Refusal
from sse_daemon.event import Logged, Record
from sse_daemon.link import QUEUE_BYTES, Link, posted

ROOM = QUEUE_BYTES // 4
"""Bytes that a follower has not taken, above which its questions wait: answers may be large, and must not cost it the link."""
LOOK_AGAIN = 0.005
"""Seconds until whoever waits for room looks again."""
PACE = 1024 * 1024
"""Bytes that a follower has not taken, above which appending waits for it: as it waits for the fan-out where all is one process."""
PATIENCE = 0.5
"""Seconds without taking anything after which a follower is not waited for: it hangs, and must not hold up the others."""


class Relay:
    """The log of `backend` for processes that have none. `deliver` is to be called with what the backend delivers.

    topics: the topics declared so far.
    """

    def __init__(self, backend: Backend, incarnation: str, head: int, topics: Callable[[], Iterable[str]]) -> None:
        self.head = head
        self._backend = backend
        self._incarnation = incarnation
        self._topics = topics
        self._links: dict[Link, None] = {}

    def attach(self, link: Link) -> None:
        """Answers what the process at the other end asks; it gets batches from when it opens the log on."""
        follower = Follower(link, self._backend)
        link.calls |= {
            "append": follower.append,
            "check": follower.check,
            "head": self._head,
            "open": lambda: self._open(link),
            "read": follower.read,
            "retained": follower.retained,
        }

    def detach(self, link: Link) -> None:
        """Forgets it."""
        self._links.pop(link, None)

    def deliver(self, batch: Sequence[Logged], after: int, last: int) -> None:
        """Pushes a batch to all who follow, encoded once."""
        self.head = last
        if self._links:
            frame = posted("batch", codec.plain_items(batch), after, last)
            for link in tuple(self._links):
                link.push(frame)

    async def append(self, records: Sequence[Record]) -> Sequence[Stored | Refusal]:
        """Appends to the backend once those who follow are not too far behind; a follower that hangs is not waited for."""
        while self._busy():
            await asyncio.sleep(LOOK_AGAIN)
        return await self._backend.append(records)

    def _busy(self) -> bool:
        now = asyncio.get_running_loop().time()
        return any(link.unsent > PACE and now - link.moved < PATIENCE for link in self._links)

    async def _open(self, link: Link) -> tuple[str, int, list[str]]:
        # No await from here to the answer's way out: no batch can come between the head and the first one that is pushed.
        self._links[link] = None
        return self._incarnation, self.head, list(self._topics())

    async def _head(self) -> int:
        return self.head


class Follower:
    """The questions of one process."""

    def __init__(self, link: Link, backend: Backend) -> None:
        self._link = link
        self._backend = backend

    async def append(self, plain: Iterable[Sequence[codec.Plain]]) -> list[codec.Plain]:
        answers = await self._backend.append(codec.records(plain))
        return [(True, *a) if isinstance(a, Stored) else (False, a.code, a.detail, a.index) for a in answers]

    async def read(self, channels: Collection[str], after: int, limit: int) -> Any:
        await self._room()
        page = await self._backend.read(channels, after, limit)
        return page.reason if isinstance(page, Gap) else (codec.plain_items(page.events), page.through)

    async def retained(self, channels: Collection[str] | None) -> Any:
        await self._room()
        snapshots = await self._backend.retained(channels)
        return codec.plain_items(snapshots.events), snapshots.at

    async def check(self) -> None:
        await self._backend.check()

    async def _room(self) -> None:
        while self._link.unsent > ROOM:
            if self._link.over:
                raise BackendUnavailable("the process that asked is gone")
            await asyncio.sleep(LOOK_AGAIN)
