"""A log in an SQLite file, for one daemon; imported as sse_daemon.backends.sqlite, never under the bare name.

It survives kill -9 and power loss: an append returns after its transaction is on the disk. Files beside this one:
sqlite_file.py (whose file it is, faults), sqlite_log.py (the writing thread) with sqlite_changes.py (the tables) and
sqlite_retention.py (what is given up), sqlite_reads.py (the reading thread), sqlite_rows.py (events as rows).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, NamedTuple, TypeVar

from sse_daemon.backend import Deliver, Gap, Limits, Opened, Page, Snapshots, Stored
from sse_daemon.backends.sqlite_file import Identity, fault_of_opening, hold, path_of, warn_if_unsound
from sse_daemon.backends.sqlite_log import Commit, Log
from sse_daemon.backends.sqlite_reads import Reads
from sse_daemon.errors import BackendError, BackendUnavailable, Refusal
from sse_daemon.event import Record

GROUP_RECORDS = 2048
"""Records after which a transaction takes no further append; what is larger still goes alone."""
TIDY_INTERVAL = 10.0
"""Seconds between looks for what has become too old while nothing is appended."""

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Waiting(NamedTuple):
    """An append or a check (`probe`) that waits for its transaction."""

    records: Sequence[Record]
    probe: bool
    answer: asyncio.Future[list[Stored | Refusal]]


class SqliteBackend:
    """A log in the file of sqlite:///absolute/path, bounded by its Limits. `clock` gives Unix seconds.

    Appends that wait are held here without a bound of their own: the daemon bounds them, by its append queue.
    """

    durable: ClassVar[bool] = True
    shared: ClassVar[bool] = False

    def __init__(self, url: str, limits: Limits, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path_of(url)
        self._clock = clock
        identity = Identity(self._path)
        self._log = Log(self._path, identity, limits, clock)
        self._reads = Reads(self._path, identity)
        # No thread begins before it has something to do.
        self._writer = ThreadPoolExecutor(1, "sqlite-writer")
        self._reader = ThreadPoolExecutor(1, "sqlite-reader")
        self._lock: int | None = None
        self._deliver: Deliver | None = None
        self._head = 0
        self._waiting: list[Waiting] = []
        self._writing: asyncio.Task[None] | None = None
        self._followers: list[tuple[int, asyncio.Future[None]]] = []
        self._tidying: asyncio.TimerHandle | None = None
        self._closed = False
        self._ended: asyncio.Task[None] | None = None

    async def open(self, deliver: Deliver) -> Opened:
        """Takes the file for this daemon alone; reads all of it once, to know that it is sound."""
        if self._closed or self._deliver:
            raise BackendUnavailable("a log is opened once")
        warn_if_unsound()
        try:
            opened = await asyncio.get_running_loop().run_in_executor(self._writer, self._open_file)
        except BaseException:
            # Behind the opening, which goes on in its thread if it was only this call that was cancelled.
            self._writer.submit(self._close_file)
            self._shut_down()
            raise
        self._deliver = deliver
        self._head = opened.head
        self._tidy()
        return opened

    async def append(self, records: Sequence[Record]) -> Sequence[Stored | Refusal]:
        """Waits for the transaction that stores the records: the next one, with all else that waits by then."""
        return await self._write(records, probe=False)

    async def read(self, channels: Collection[str], after: int, limit: int) -> Page | Gap:
        """One page; costs as much as it holds, whatever the size of the log."""
        self._following()
        page, head = await self._read(lambda: self._reads.read(channels, after, limit))
        await self._followed(head)
        return page

    async def retained(self, channels: Collection[str] | None) -> Snapshots:
        """What is in the slots, as of the last commit."""
        self._following()
        snapshots = await self._read(lambda: self._reads.retained(channels, self._clock()))
        await self._followed(snapshots.at)
        return snapshots

    async def check(self) -> None:
        """Writes a little through the same queue and to the same disk as an append."""
        await self._write((), probe=True)

    async def close(self) -> None:
        """Lets what waits be stored, then gives the file back."""
        self._closed = True
        if self._deliver is None:
            return
        if self._ended is None:
            self._ended = asyncio.ensure_future(self._end())
        # Whoever gives up waiting does not leave the file half closed.
        await asyncio.shield(self._ended)

    def _following(self) -> Deliver:
        if self._closed or self._deliver is None:
            raise BackendUnavailable("the log is closed")
        return self._deliver

    # On the writing and the reading thread

    def _open_file(self) -> Opened:
        self._lock = hold(self._path)
        try:
            return self._log.open()
        except BaseException as error:
            self._close_file()
            if isinstance(error, sqlite3.Error | OSError):
                raise fault_of_opening(error, self._path) from error
            raise

    def _close_file(self) -> None:
        try:
            self._log.close()
        finally:
            lock, self._lock = self._lock, None
            if lock is not None:
                os.close(lock)

    async def _read(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, job)

    # Group commit: one transaction is on its way to the disk, and what comes meanwhile makes the next one

    async def _write(self, records: Sequence[Record], probe: bool) -> Sequence[Stored | Refusal]:
        self._following()
        answer: asyncio.Future[list[Stored | Refusal]] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(records, probe, answer))
        self._start_writing()
        return await answer

    def _start_writing(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.ensure_future(self._write_all())

    async def _write_all(self) -> None:
        """Transactions until nothing waits and nothing is left to clean up.

        The next is handed over before the last is delivered, so that the disk does not wait for the loop. There is no await
        between the last look at what waits and the end: whoever comes then finds the task done, and starts another.
        """
        group = self._take_group()
        commit = self._hand_over(group)
        while True:
            outcome = await _outcome(commit)
            following = self._take_group()
            more = isinstance(outcome, Commit) and outcome.more
            if not following and not more:
                return self._conclude(group, outcome)
            commit = self._hand_over(following)
            self._conclude(group, outcome)
            group = following

    def _take_group(self) -> list[Waiting]:
        group: list[Waiting] = []
        size = taken = 0
        for waiting in self._waiting:
            size += len(waiting.records)
            if group and size > GROUP_RECORDS:
                break
            taken += 1
            # Whoever has given up before it began is not stored.
            if not waiting.answer.done():
                group.append(waiting)
        del self._waiting[:taken]
        return group

    def _hand_over(self, group: Sequence[Waiting]) -> asyncio.Future[Commit]:
        appends = [waiting.records for waiting in group]
        probe = any(waiting.probe for waiting in group)
        return asyncio.get_running_loop().run_in_executor(self._writer, lambda: self._log.write(appends, probe=probe))

    def _conclude(self, group: Sequence[Waiting], outcome: Commit | BaseException) -> None:
        """Delivers what was stored and answers for it. Without a group a fault is nobody's: the next append meets it again."""
        fault = self._advance(outcome) if isinstance(outcome, Commit) else outcome
        for place, waiting in enumerate(group):
            if waiting.answer.done():
                continue
            if fault is not None:
                waiting.answer.set_exception(fault)
            elif isinstance(outcome, Commit):
                waiting.answer.set_result(outcome.answers[place])

    def _advance(self, commit: Commit) -> Exception | None:
        """Delivers; what `deliver` raises is the daemon's defect, and comes out of the appends as it does where it is called."""
        after, self._head = self._head, commit.head
        try:
            if commit.batch and self._deliver is not None:
                self._deliver(commit.batch, after, commit.head)
        except Exception as error:
            logger.exception("the daemon failed over what its log delivered")
            return error
        finally:
            self._wake_followers()
        return None

    # Reads see a commit before it is delivered; they are answered after

    async def _followed(self, head: int) -> None:
        if head > self._head:
            follower: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._followers.append((head, follower))
            await follower

    def _wake_followers(self, fault: BackendError | None = None) -> None:
        waiting, self._followers = self._followers, []
        for head, follower in waiting:
            if follower.done():
                continue
            if fault is not None:
                follower.set_exception(fault)
            elif head <= self._head:
                follower.set_result(None)
            else:
                self._followers.append((head, follower))

    # What is done without being asked

    def _tidy(self) -> None:
        self._start_writing()
        self._tidying = asyncio.get_running_loop().call_later(TIDY_INTERVAL, self._tidy)

    async def _end(self) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
        if self._writing is not None:
            await self._writing
        self._wake_followers(BackendUnavailable("the log is closed"))
        loop = asyncio.get_running_loop()
        try:
            # The reader first: the last connection to be closed writes to the file, and that is the writer's part.
            await loop.run_in_executor(self._reader, self._reads.close)
            await loop.run_in_executor(self._writer, self._close_file)
        except sqlite3.Error as error:
            # What was answered is on the disk; what was not done is made up for when the file is opened again.
            logger.warning("%s was not closed properly: %s", self._path, error)
        self._shut_down()

    def _shut_down(self) -> None:
        self._writer.shutdown(wait=False)
        self._reader.shutdown(wait=False)


async def _outcome(commit: asyncio.Future[Commit]) -> Commit | BaseException:
    await asyncio.wait([commit])
    return commit.exception() or commit.result()
