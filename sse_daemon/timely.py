"""A backend whose questions end: what a log does not answer in time counts as unavailable, and nobody waits for it for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from typing import TypeVar

from sse_daemon.backend import Backend, Deliver, Gap, Opened, Page, Snapshots, Stored
from sse_daemon.errors import BackendUnavailable, Refusal
from sse_daemon.event import Record

PATIENCE = 10.0
"""Seconds for one answer: a page or the snapshots. A healthy log needs milliseconds."""

T = TypeVar("T")


class Timely:
    """`backend`, whose read, retained and check raise BackendUnavailable after `patience` seconds.

    append is not cut off: what it was given may be stored all the same, and its producers are answered when that is known.
    `silent_for` tells how long it has kept them waiting.
    """

    def __init__(self, backend: Backend, patience: float = PATIENCE) -> None:
        self.durable = backend.durable
        self.shared = backend.shared
        self._backend = backend
        self._patience = patience
        self._appending: dict[int, float] = {}
        self._count = 0

    def silent_for(self) -> float:
        """Seconds since the oldest append was begun that has not been answered; 0.0 if there is none."""
        since = next(iter(self._appending.values()), None)
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    async def open(self, deliver: Deliver) -> Opened:
        """As the backend does it."""
        return await self._backend.open(deliver)

    async def append(self, records: Sequence[Record]) -> Sequence[Stored | Refusal]:
        """As the backend does it."""
        self._count += 1
        number = self._count
        self._appending[number] = asyncio.get_running_loop().time()
        try:
            return await self._backend.append(records)
        finally:
            del self._appending[number]

    async def read(self, channels: Collection[str], after: int, limit: int) -> Page | Gap:
        """As the backend does it, in time."""
        return await self._in_time(self._backend.read(channels, after, limit))

    async def retained(self, channels: Collection[str] | None) -> Snapshots:
        """As the backend does it, in time."""
        return await self._in_time(self._backend.retained(channels))

    async def check(self) -> None:
        """As the backend does it, in time."""
        await self._in_time(self._backend.check())

    async def close(self) -> None:
        """As the backend does it."""
        await self._backend.close()

    async def _in_time(self, answer: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._patience):
                return await answer
        except TimeoutError:
            raise BackendUnavailable(f"it has not answered for {self._patience:g} s") from None
