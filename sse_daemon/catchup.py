"""Streams whose cursor the window no longer holds: pages of the backend's log, or a `resync` where that has a hole too.

No queue here either: what a page holds beyond what the socket takes is thrown away and read again once the socket drains, so
that a thousand stalled clients cost no memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sse_daemon import sse
from sse_daemon.backend import PAGE_BYTES, Backend, Gap, Page, Snapshots
from sse_daemon.batches import within
from sse_daemon.buckets import origin
from sse_daemon.errors import BackendError
from sse_daemon.event import Cursor
from sse_daemon.hub import PAGE, Hub
from sse_daemon.stream import Gone, Profile, State, Stream
from sse_daemon.window import Entry, Overtaken, entry_of, event_of

READERS = 16
"""Streams and long-polls that read from the backend at the same time; the others wait for their turn."""
READERS_EACH = 4
"""Of these, those of one participant, or of one address where there is none: whoever comes back with many streams waits for itself."""
OUTRUN = 3
"""How often eviction may overtake a stream that is reading at the backend's pace before it is told `lagged`."""

_log = logging.getLogger("sse_daemon.catchup")


class _Turns:
    """The turns of one participant; wanted: by how many streams."""

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(READERS_EACH)
        self.wanted = 0


class CatchUp:
    """Brings streams from the backend back to the window. `fetch` is what the hub calls."""

    def __init__(self, backend: Backend, loop: asyncio.AbstractEventLoop, retry_ms: Callable[[], int]) -> None:
        self.resyncs: Counter[str] = Counter()
        self._backend = backend
        self._loop = loop
        self._retry_ms = retry_ms
        self._readers = asyncio.Semaphore(READERS)
        self._own: dict[str, _Turns] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.hub: Hub
        """Set by whoever makes both, before the first stream."""

    def fetch(self, stream: Stream) -> None:
        """Takes a FETCHING stream; it is BEHIND again, or on its way out, when this is done with it."""
        task = self._loop.create_task(self._run(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancels what is still reading."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def read(self, profile: Profile, after: int, limit: int) -> Page | Gap:
        """What a long-poll's channels hold after `after`: from the window where it can, else, in its turn, a page of the backend.

        The channels must be watched in the window. Raises BackendError.
        """
        names, window = profile.subscription.channels, self.hub.window
        channels = [window.channels[name] for name in names]
        try:
            entries = window.read(channels, after, self.hub.end, limit)
        except Overtaken:
            # A turn for each page: whoever scans a long log for next to nothing stands in line again behind the others.
            async with self._turn(profile):
                return await self._backend.read(names, after, limit)
        part = within(entries, PAGE_BYTES)  # as the backend's: who asks holds all of it at once
        through = self.hub.end if len(part) == len(entries) < limit else part[-1][0]
        return Page([event_of(entry) for entry in part], max(through, after))

    @asynccontextmanager
    async def _turn(self, profile: Profile) -> AsyncIterator[None]:
        """A turn to read. Its own participant's first: nobody holds one of all turns while waiting for one of its own."""
        name = profile.participant or origin(profile.address)
        own = self._own.setdefault(name, _Turns())
        own.wanted += 1
        try:
            async with own.turns, self._readers:
                yield
        finally:
            own.wanted -= 1
            if not own.wanted:
                del self._own[name]

    async def _run(self, stream: Stream) -> None:
        try:
            async with self._turn(stream.profile):
                reason = await self._bring(stream)
                if reason is not None:
                    await self._resync(stream, reason)
        except Gone:
            self.hub.close(stream, "client")
        except BackendError as error:
            # It cannot be served now and must not be lied to: it comes back with its cursor when the backend is well.
            _log.warning("cannot read the log", extra={"id": stream.profile.id, "error": str(error)})
            self.hub.finish(stream, "unavailable", self._retry_ms())
        except Exception:  # noqa: BLE001
            # A defect of ours, met by one stream. Nothing else would ever look at it again: no heartbeat, no stall, no end.
            _log.exception("a stream could not be served", extra={"id": stream.profile.id})
            self.hub.finish(stream, "unavailable", self._retry_ms())

    async def _bring(self, stream: Stream) -> str | None:
        """Reads pages until the window can go on (None), the socket is full (None), or there is a hole: its reason."""
        names = stream.profile.subscription.channels
        while stream.state is State.FETCHING:
            end = self.hub.end
            page = await self._backend.read(names, stream.cursor, PAGE)
            if stream.state is not State.FETCHING:
                return None
            if isinstance(page, Gap):
                return "lagged" if stream.settled else page.reason
            stream.settled = True
            if not self._write(stream, page):
                return None
            if all(channel.evicted <= stream.cursor for channel in stream.channels):
                self._back(stream)
                return None
            if page.through >= end:
                stream.outrun += 1
                if stream.outrun >= OUTRUN:
                    return "lagged"
            # A log in memory never waits, and a filter may let nothing pass: the socket would not stop it either.
            await asyncio.sleep(0)
        return None

    def _write(self, stream: Stream, page: Page) -> bool:
        """Writes what the socket takes; True if that was the whole page."""
        entries: list[Entry] = [entry_of(event, sse.event_frame(event, self.hub.incarnation)) for event in page.events]
        while entries and entries[-1][0] > stream.cursor:
            rest = [entry for entry in entries if entry[0] > stream.cursor]
            if not self.hub.send(stream, rest, self._loop.time()):
                stream.outrun = 0  # the client is slow, not the backend
                stream.enter(State.BEHIND)
                return False
        stream.cursor = max(stream.cursor, page.through)
        return True

    def _back(self, stream: Stream) -> None:
        stream.enter(State.BEHIND)
        self.hub.resume(stream)

    async def _resync(self, stream: Stream, reason: str) -> None:
        profile = stream.profile
        snapshots = await self._backend.retained(profile.subscription.channels)
        if stream.state is not State.FETCHING:
            return
        missed = self.hub.missed(stream, snapshots.at)
        stream.add(profile.wire.wrap(resync_blocks(reason, missed, snapshots, profile)))
        stream.cursor = stream.announced = max(snapshots.at, stream.cursor)
        stream.settled = True
        stream.outrun = 0
        self.resyncs[reason] += 1
        _log.info("stream resynced", extra={"id": profile.id, "reason": reason, "missed": missed})
        self._back(stream)


def resync_blocks(reason: str, missed: int | None, snapshots: Snapshots, profile: Profile) -> bytes:
    """`resync` and the snapshots behind it; the last block carries the position that they represent."""
    return preamble(lambda id: sse.resync(reason, missed, id), snapshots, profile)


def preamble(first: Callable[[str], bytes], snapshots: Snapshots, profile: Profile) -> bytes:
    """first(id), then the snapshots that pass the filter. Only the last of these blocks has an id, the others get "".

    A client cut before it got the last one has no position yet, or keeps its old one, and simply starts over.
    """
    id = str(Cursor(profile.wire.incarnation, snapshots.at))
    wanted = profile.subscription.filter
    events = [event for event in snapshots.events if wanted is None or wanted.passes(event)]
    blocks = [first("" if events else id)]
    for event in events:
        blocks.append(sse.snapshot_block(event, json=profile.wire.json, id=id if event is events[-1] else ""))
    return b"".join(blocks)
