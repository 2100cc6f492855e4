"""Between the sockets and the log: a queue bounded in bytes, and the one task that appends what stands in it, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from sse_daemon.backend import Stored
from sse_daemon.directory import Directory
from sse_daemon.envelope import Bounds, Parsed, Unresolved, as_repeat, resolve
from sse_daemon.errors import BackendError, Refusal
from sse_daemon.event import Draft, Record

Outcome: TypeAlias = Stored | Refusal

MAX_RECORDS = 1000
"""Records of one append: what a backend commits together."""
MAX_BYTES = 4 * 1024 * 1024
"""Bytes of one append, unless one record alone is larger."""
MAX_RECIPIENTS = 20_000
"""Recipients of one append, unless one record alone has more: a short frame to a group is a thousand of them. A million in one
append held the loop for 250 ms and took 100 MB.
"""
UNWEIGHED = MAX_RECIPIENTS + 1
"""The weight of a job that is to be looked at by itself."""
ITEM_BYTES = 700
"""What an item that waits costs beside the bytes of its frame: tuples, strings, who is to be answered (tracemalloc)."""


class Job:
    """One message on its way into the log.

    size: the bytes of its frames. cost: the memory that it takes while it waits. answer: called once with what became of it; None where nobody waits for that.
    only: its one item, if nothing in that hangs on the moment, as in nearly every message. weight: for how many channels that is.
    """

    __slots__ = ("answer", "cost", "only", "parsed", "size", "weight")

    def __init__(self, parsed: tuple[Parsed, ...], size: int, answer: Callable[[Outcome], None] | None) -> None:
        self.parsed = parsed
        self.size = size
        self.cost = size + ITEM_BYTES * len(parsed)
        self.answer = answer
        self.only: Draft | None = None
        self.weight = UNWEIGHED
        first = parsed[0]
        if type(first) is Draft and len(parsed) == 1:
            self.only, self.weight = first, len(first[0])


class Log(Protocol):
    """What the appender needs of a log."""

    async def append(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """As `Backend.append`; where the streams are elsewhere it waits first until they are not too far behind."""


class Appender:
    """Appends jobs in the order in which they were offered.

    limit: bytes of memory that may wait, those being appended included; it is exceeded by one message at most, so that whoever
    reads only while there is room never holds one that finds none. room: called whenever an append has made room. settled: called
    with every job and what became of it, once, before its `answer` is.
    """

    def __init__(
        self,
        backend: Log,
        directory: Directory,
        bounds: Bounds,
        limit: int,
        wall: Callable[[], float],
        room: Callable[[], None],
        settled: Callable[[Sequence[tuple[Job, Outcome]]], None],
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
        self._settled = settled
        self._jobs: deque[Job] = deque()
        self._weight = 0
        """Of all that stand in the queue."""
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
        self._weight += job.weight
        self.bytes += job.cost
        if len(self._jobs) == 1:
            self._wake.set()
        return True

    async def run(self) -> None:
        """Appends for ever; to be cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._jobs:
                await self._append(self._take())
                if self._jobs:
                    await asyncio.sleep(0)  # a backend that never waits must not keep the loop from everybody else

    def _take(self) -> list[Job]:
        """The next jobs that go into one append; one that changes a group ends it, so that later ones see it in force."""
        jobs: list[Job] = []
        if self._weight <= MAX_RECIPIENTS and len(self._jobs) <= MAX_RECORDS and self.bytes <= MAX_BYTES:
            jobs.extend(self._jobs)  # nearly always: all of them, and nothing in them that changes a group
            self._jobs.clear()
            self._weight = 0
            return jobs
        size = recipients = 0
        while self._jobs and len(jobs) < MAX_RECORDS:
            job = self._jobs[0]
            size += job.size
            count, last = self._weigh(job.parsed)
            recipients += count
            if jobs and (size > MAX_BYTES or recipients > MAX_RECIPIENTS):
                break
            jobs.append(self._jobs.popleft())
            self._weight -= job.weight
            if last:
                break
        return jobs

    def _weigh(self, parsed: Sequence[Parsed]) -> tuple[int, bool]:
        """How many channels these will be for, by the groups in force: about the work that they are; and whether they change a group."""
        recipients, changes = 0, False
        for item in parsed:
            if isinstance(item, Draft):
                recipients += len(item.channels)
            elif isinstance(item, Unresolved):
                recipients += len(item.draft.channels) + len(self._directory.groups.get(item.group or "", ()))
            else:
                changes = True
        return recipients, changes

    async def _append(self, jobs: Sequence[Job]) -> None:
        records: list[Record] = []
        resolved: list[Job] = []
        now = self._wall()
        for job in jobs:
            if job.only is None:
                try:
                    records.append(self._resolve(job.parsed, now))
                except Refusal as refusal:
                    self.settle([(job, refusal)])
                    continue
            else:
                records.append((job.only,))
            resolved.append(job)
        self.settle(list(zip(resolved, await self._store(records), strict=True)))
        self.bytes -= sum([job.cost for job in jobs])
        self._room()

    def settle(self, outcomes: Sequence[tuple[Job, Outcome]]) -> None:
        """Tells everybody concerned what became of these jobs."""
        self._settled(outcomes)
        for job, outcome in outcomes:
            if job.answer is not None:
                job.answer(outcome)

    def _resolve(self, parsed: tuple[Parsed, ...], now: float) -> Record:
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
