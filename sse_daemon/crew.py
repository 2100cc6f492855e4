"""The workers of a daemon: processes that hold its streams, started, watched, replaced, and asked as if they were one.

A worker is a process of its own (`worker.py`), not a fork: it is born with a link to this one and the sockets it accepts from. It
says once a second how it is. One that is gone, that does not read, or that says nothing for SILENCE is replaced; its clients come
back with their cursors, to whichever worker the kernel gives them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Sequence
from types import MappingProxyType
from typing import Any

from sse_daemon.auth import UNASKED
from sse_daemon.auth_hook import WAITING
from sse_daemon.auth_link import Answers
from sse_daemon.bars import Bars
from sse_daemon.config import Config
from sse_daemon.config_plain import plain, share
from sse_daemon.desk import DRAINED, Drained, Readers, Row
from sse_daemon.errors import BackendError, WorkerFailed
from sse_daemon.event import Event, Logged
from sse_daemon.link import Link
from sse_daemon.log import logger
from sse_daemon.loop_lag import LoopLag
from sse_daemon.metrics import Values
from sse_daemon.relay import Relay
from sse_daemon.tally import Tally

COMMAND = (sys.executable, "-P", "-m", "sse_daemon.cli.worker")
TICK = 1.0
"""Seconds between two words of a worker, and two of ours to it."""
LOOK = 0.1
"""Seconds between two looks at what the workers are to be told, and how they are."""
SILENCE = 10.0
"""Seconds without a word after which a worker is stuck: it is killed, so that its clients get another one."""
STARTING = 60.0
"""The same for its first word: many that start at once, or a machine that is busy, take their time."""
ANSWER = 2.0
"""Seconds for a worker's answer to an operator; without it the others' answers have to do."""
SETTLED = 10.0
"""Seconds that a worker has to live for its end to be an accident. One that ends sooner is replaced more and more slowly."""
MAX_DELAY = 10.0
FIRST_DELAY = 0.1
LEAVE = 2.0
"""Seconds that a worker has for ending by itself."""

_log = logger("crew")


class Worker:
    """One process, from its start to its end. values: its metrics, as it last said them; mute: its latest question had no answer."""

    def __init__(self, name: str, config: Config, sockets: Sequence[socket.socket], loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.values: dict[str, Any] = {}
        self.streams = 0
        """How many it had when it ended."""
        self.mute = False
        self.born = self.heard = loop.time()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.gone = asyncio.Event()
        ours, theirs = socket.socketpair()
        self.link = Link(ours, loop)
        with theirs:
            kept = [theirs.fileno(), *(each.fileno() for each in sockets)]
            command = [*COMMAND, name, *map(str, kept)]
            # The same modules as ours, wherever they come from: -P alone would lose the folder that this process was started in.
            environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            try:
                # A group of its own: what Ctrl-C does to all of them is for the owner to say.
                self.process = subprocess.Popen(command, pass_fds=kept, env=environ, stdin=subprocess.DEVNULL, process_group=0)
            except OSError:
                self.link.close()
                raise

    @property
    def is_ready(self) -> bool:
        return self.ready.done() and not self.link.over

    async def ask(self, name: str, *arguments: Any, patience: float = ANSWER) -> Any:
        """Its answer, or None if there is none in time."""
        try:
            async with asyncio.timeout(patience):
                answer = await self.link.call(name, *arguments)
        except TimeoutError:
            self.mute = True
            _log.warning("a worker does not answer", extra={"worker": self.name, "question": name})
        except BackendError:
            pass  # it is gone; that is noticed and said elsewhere
        else:
            self.mute = False
            return answer
        return None


class Crew:
    """All workers. ready: why the daemon is not ready, or None; keep: runs what must not end as long as the daemon runs.

    answers: what they may ask beside what the relay and this answer.
    """

    def __init__(
        self,
        config: Config,
        relay: Relay,
        ready: Callable[[], str | None],
        keep: Callable[[Coroutine[Any, Any, None]], None],
        answers: Answers = MappingProxyType({}),
    ) -> None:
        self.config = config
        self.taps: dict[Callable[[Sequence[Event]], None], None] = {}
        self._relay = relay
        self._ready = ready
        self._loop = asyncio.get_running_loop()
        self.bars = Bars(self._loop.time)
        self._workers: dict[int, Worker] = {}
        self._tally = Tally()
        self._drained = False
        self._leaving = False
        self._told: tuple[str | None, float] = "starting", 0.0
        """What the workers know of our readiness, and since when."""
        self._loop_lag = LoopLag(self._loop)
        self._keep = keep
        self._answers = answers
        self._sets: Sequence[Sequence[socket.socket]] = ()

    # The log's side.

    def deliver(self, batch: Sequence[Logged], after: int, last: int) -> None:
        """Takes what the log holds after `after` through `last`."""
        self._relay.deliver(batch, after, last)
        if self.taps:
            events = [item for item in batch if isinstance(item, Event)]
            for tap in tuple(self.taps):
                tap(events)

    # Their life.

    async def start(self, sockets: Sequence[Sequence[socket.socket]]) -> None:
        """Starts a worker for each set of sockets; returns when all of them accept. Raises WorkerFailed if one ends instead."""
        self._sets = sockets
        try:
            for number in range(len(sockets)):
                self._spawn(number)
        except OSError as error:
            raise WorkerFailed(f"a worker cannot be started: {error.strerror}") from None
        self._keep(self._tick())
        await asyncio.gather(*(worker.ready for worker in self._workers.values()))
        for number in range(len(sockets)):
            self._keep(self._watch(number))

    def _spawn(self, number: int) -> Worker:
        worker = Worker(f"w{number + 1}", self.config, self._sets[number], self._loop)
        self._workers[number] = worker
        link = worker.link
        self._relay.attach(link)
        link.calls |= {"hello": self._hello, **self._answers}
        link.posts["tick"] = lambda values: self._heard(worker, values)
        link.posts["ready"] = lambda: self._greeted(worker)
        link.closed = lambda: self._gone(worker)
        link.start()
        return worker

    async def _hello(self) -> tuple[Any, ...]:
        """What a worker needs to know before anything else."""
        return plain(share(self.config, len(self._sets))), *self._standing(), self._ready() or ""

    def _standing(self) -> tuple[dict[str, float], bool]:
        """What operators did that holds for workers to come: who is shut out for how long, and whether all are sent away."""
        return self.bars.left(), self._drained

    def _heard(self, worker: Worker, values: dict[str, Any]) -> None:
        worker.heard, worker.values = self._loop.time(), values

    def _greeted(self, worker: Worker) -> None:
        worker.heard = self._loop.time()
        worker.link.post("standing", *self._standing())  # again: it was not asked while it started
        if not worker.ready.done():
            worker.ready.set_result(None)

    def _gone(self, worker: Worker) -> None:
        self._relay.detach(worker.link)
        if not worker.ready.done():
            worker.ready.set_exception(WorkerFailed(f"{worker.name} ended while it started; its reason is in the log"))
            worker.ready.exception()  # looked at: while the daemon runs nobody waits for it
        # Whoever cannot be heard any more must not go on serving.
        if not self._leaving:
            worker.process.kill()
        worker.gone.set()
        self._tally.bury(worker.values)
        worker.streams = worker.values.get("streams", 0)
        worker.values = {}

    async def _watch(self, number: int) -> None:
        """Replaces whoever has the number, as often as it takes."""
        delay = 0.0
        while True:
            worker = self._workers[number]
            await worker.gone.wait()
            if self._leaving:
                return
            await _reaped(worker.process)
            lived = self._loop.time() - worker.born
            delay = 0.0 if lived > SETTLED else min(MAX_DELAY, max(FIRST_DELAY, 2 * delay))
            facts = {"worker": worker.name, **_end_of(worker.process), "streams": worker.streams}
            _log.error("a worker is gone, another one takes its place", extra={**facts, "lived": lived, "again_in": delay})
            self._tally.replaced += 1
            await asyncio.sleep(delay)
            # The daemon may have begun to end meanwhile: then the sockets are closed, and nobody is to take this one's place.
            while not self._leaving and not self._try_spawn(number):
                await asyncio.sleep(MAX_DELAY)

    def _try_spawn(self, number: int) -> bool:
        try:
            self._spawn(number)
        except OSError as error:
            # No memory, no files, no processes: the others go on, and one day there is room.
            _log.error("a worker could not be started", extra={"error": error.strerror, "again_in": MAX_DELAY})
            return False
        return True

    async def _tick(self) -> None:
        """Tells the workers how we are, and ends whoever says nothing."""
        before = self._loop.time()
        while True:
            self._tell_if_changed()
            now = self._loop.time()
            self._excuse(now - before, now)
            before = now
            for worker in self._workers.values():
                patience = SILENCE if worker.values else STARTING
                if not worker.link.over and now - worker.heard > patience:
                    _log.error(
                        "a worker has gone silent and is killed", extra={"worker": worker.name, "seconds": now - worker.heard}
                    )
                    worker.process.kill()
            await asyncio.sleep(LOOK)

    def _excuse(self, passed: float, now: float) -> None:
        """Time in which we stood still ourselves is not the workers' silence: where the machine paused, they did too."""
        if passed > TICK:
            for worker in self._workers.values():
                worker.heard = min(now, worker.heard + passed)

    def _tell_if_changed(self) -> None:
        if self._told[0] != self._ready() or self._loop.time() - self._told[1] > TICK:
            self.tell_ready()

    def tell_ready(self) -> None:
        """Tells all of them whether the daemon is ready."""
        self._told = self._ready(), self._loop.time()
        self._post("owner", self._told[0] or "")

    @property
    def why_not_ready(self) -> str | None:
        """Why nobody can be served, or None."""
        if self._drained:
            return DRAINED
        ready = [worker for worker in self._workers.values() if worker.is_ready]
        if not ready:
            return "no worker is there"
        return WAITING if all(worker.values.get("hook_waiting") for worker in ready) else None

    def _post(self, name: str, *arguments: Any) -> None:
        for worker in self._workers.values():
            worker.link.post(name, *arguments)

    # Change and end.

    def apply(self, config: Config) -> None:
        """Puts what can change while it runs in force, everywhere."""
        self.config = config
        self._post("config", plain(share(config, len(self._sets))))

    def stop_listening(self) -> None:
        """Nobody is accepted any more."""
        self._leaving = True
        self._post("stop_listening")

    async def end(self, seconds: float) -> None:
        """Lets the streams take their `bye`, for at most so long."""
        await self._ask_all("end", seconds, patience=seconds + ANSWER)

    async def close(self) -> None:
        """Ends all of them: they are told, and killed if they do not go."""
        self._leaving = True
        self._loop_lag.close()
        workers = tuple(self._workers.values())
        for worker in workers:
            worker.link.post("leave")
            worker.link.close()
        await asyncio.gather(*(_left(worker) for worker in workers))

    # As one.

    @property
    def silent(self) -> Sequence[str]:
        return [worker.name for worker in self._workers.values() if worker.mute and not worker.link.over]

    async def clients(self, participant: str | None, closed: bool) -> list[Row]:
        rows = [row for rows in await self._ask_all("clients", participant, closed) for row in rows]
        return sorted(rows, key=lambda row: -row["closed"] if closed else row["opened"])

    async def kick(self, client: str | None, participant: str | None, seconds: float | None) -> list[str]:
        if participant is not None and seconds is not None:
            self.bars.put(participant, seconds)
        return [id for ids in await self._ask_all("kick", client, participant, seconds) for id in ids]

    async def let_in(self, participant: str) -> bool:
        shut_out = self.bars.lift(participant)
        return any([shut_out, *await self._ask_all("let_in", participant)])

    async def readers(self, position: int, before: float) -> Readers:
        answers = [Readers(*answer) for answer in await self._ask_all("readers", position, before)]
        return Readers([row for answer in answers for row in answer.rows], all(answer.served for answer in answers))

    async def drain(self, over: float) -> Drained:
        self._drained = True
        workers = [worker for worker in self._workers.values() if worker.is_ready]
        places = [place / len(workers) for place in range(len(workers))]
        asked = [w.ask("drain", over, place, patience=over + ANSWER) for w, place in zip(workers, places, strict=True)]
        answers = [Drained(*answer) for answer in await asyncio.gather(*asked) if answer is not None]
        return Drained(sum(answer.closed for answer in answers), sum(answer.open for answer in answers))

    async def values(self) -> Values:
        await asyncio.gather(*(self._refresh(worker) for worker in self._workers.values()))
        workers = [worker for worker in self._workers.values() if worker.is_ready]
        total = self._tally.total([worker.values for worker in self._workers.values()], len(workers), self._relay.head)
        return {**UNASKED, **total, "loop_lag_seconds": max(total["loop_lag_seconds"], self._loop_lag.worst)}

    async def _refresh(self, worker: Worker) -> None:
        if worker.is_ready and (values := await worker.ask("values")) is not None and not worker.link.over:
            worker.values = values

    async def _ask_all(self, name: str, *arguments: Any, patience: float = ANSWER) -> list[Any]:
        """The answers of those who answered."""
        asked = [worker.ask(name, *arguments, patience=patience) for worker in self._workers.values() if worker.is_ready]
        return [answer for answer in await asyncio.gather(*asked) if answer is not None]


def _end_of(process: subprocess.Popen[bytes]) -> dict[str, int | str]:
    """How a process ended, as a fact for the log: its exit status, or the signal that it died of."""
    status = process.returncode
    if status >= 0:
        return {"status": status}
    try:
        return {"signal": signal.Signals(-status).name}
    except ValueError:  # the real-time signals have numbers only
        return {"signal": -status}


async def _reaped(process: subprocess.Popen[bytes]) -> None:
    """Waits for a process that is ending, or has been killed."""
    while process.poll() is None:
        await asyncio.sleep(0.01)


async def _left(worker: Worker) -> None:
    try:
        async with asyncio.timeout(LEAVE):
            await _reaped(worker.process)
    except TimeoutError:
        _log.warning("a worker does not end and is killed", extra={"worker": worker.name})
        worker.process.kill()
        await _reaped(worker.process)
