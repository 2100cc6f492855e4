"""Between the sockets and the log: a queue bounded in bytes, and the one task that appends what stands in it, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from sse_daemon.backend import Backend, Stored
from sse_daemon.directory import Directory
from sse_daemon.envelope import Bounds, Message, Parsed, as_repeat, resolve
from sse_daemon.errors import BackendError, Refusal
from sse_daemon.event import Record

Outcome: TypeAlias = Stored | Refusal

MAX_RECORDS = 1000
"""Records of one append: what a backend commits together."""
MAX_BYTES = 4 * 1024 * 1024
"""Bytes of one append, unless one record alone is larger."""
MAX_RECIPIENTS = 20_000
"""Recipients of one append, unless one record alone has more: a short frame to a group is a thousand of them. A million in one
append held the loop for 250 ms and took 100 MB.
"""
ITEM_BYTES = 700
"""What an item that waits costs beside the bytes of its frame: tuples, strings, who is to be answered (tracemalloc)."""


class Job(NamedTuple):
    """One message on its way into the log. size: the bytes of its frames; done: called once with what became of it."""

    parsed: Sequence[Parsed]
    size: int
    done: Callable[[Outcome], None]

    @property
    def is_control(self) -> bool:
        """True if it changes a group or a topic."""
        return any(not isinstance(item, Message) for item in self.parsed)

    @property
    def cost(self) -> int:
        """The memory that it takes while it waits: without the items a queue of small events is ten times what it claims."""
        return self.size + ITEM_BYTES * len(self.parsed)


class Appender:
    """Appends jobs in the order in which they were offered.

    limit: bytes of memory that may wait, those being appended included; it is exceeded by one message at most, so that whoever
    reads only while there is room never holds one that finds none. room: called whenever an append has made room.
    """

    def __init__(
        self,
        backend: Backend,
        directory: Directory,
        bounds: Bounds,
        limit: int,
        wall: Callable[[], float],
        room: Callable[[], None],
    ) -> None:
        self.bounds = bounds
        self.bytes = 0
        self.fault: BackendError | None = None
        """Why the last append failed, until one succeeds: what readiness goes by."""
        self._backend = backend
        self._directory = directory
        self._limit = limit
        self._wall = wall
        self._room = room
        self._jobs: deque[Job] = deque()
        self._wake = asyncio.Event()

    @property
    def full(self) -> bool:
        """There is no room: nothing is worth reading, for `offer` would not take it."""
        return self.bytes >= self._limit

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is being appended."""
        return self.bytes == 0

    def offer(self, job: Job) -> bool:
        """Queues a job, of whatever size; False if the queue is full."""
        if self.full:
            return False
        self._jobs.append(job)
        self.bytes += job.cost
        self._wake.set()
        return True

    async def run(self) -> None:
        """Appends for ever; to be cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._jobs:
                await self._append(self._take())
                await asyncio.sleep(0)  # a backend that never waits must not keep the loop from everybody else

    def _take(self) -> list[Job]:
        """The next jobs that go into one append; one that changes a group ends it, so that later ones see it in force."""
        jobs: list[Job] = []
        size = recipients = 0
        while self._jobs and len(jobs) < MAX_RECORDS:
            size += self._jobs[0].size
            recipients += self._recipients(self._jobs[0])
            if jobs and (size > MAX_BYTES or recipients > MAX_RECIPIENTS):
                break
            jobs.append(self._jobs.popleft())
            if jobs[-1].is_control:
                break
        return jobs

    def _recipients(self, job: Job) -> int:
        """How many channels the job's events will be for, by the groups in force: about the work that they are."""
        groups = self._directory.groups
        messages = [item for item in job.parsed if isinstance(item, Message)]
        return sum(len(item.to) + (len(groups.get(item.group, ())) if item.group else 0) for item in messages)

    async def _append(self, jobs: Sequence[Job]) -> None:
        records, resolved = [], []
        now = self._wall()
        for job in jobs:
            try:
                records.append(self._resolve(job, now))
                resolved.append(job)
            except Refusal as refusal:
                job.done(refusal)
        for job, outcome in zip(resolved, await self._store(records), strict=True):
            job.done(outcome)
        self.bytes -= sum(job.cost for job in jobs)
        self._room()

    def _resolve(self, job: Job, now: float) -> Record:
        parsed = job.parsed
        while True:
            try:
                record = resolve(parsed, self._directory.groups, self.bounds, now)
                self._directory.check_room(record)
                return record
            except Refusal as refusal:
                parsed = as_repeat(parsed, refusal)

    async def _store(self, records: Sequence[Record]) -> Sequence[Outcome]:
        if not records:
            return ()
        try:
            outcomes = await self._backend.append(records)
        except BackendError as error:
            self.fault = error
            return [Refusal(error.code, str(error))] * len(records)
        self.fault = None
        return outcomes
