"""The daemon's ZeroMQ sockets: SUB for whoever publishes and forgets, ROUTER for whoever wants to be told.

The only module of the daemon that knows ZeroMQ. A socket's file descriptor is edge-triggered: after any receive *or send* the
socket has to be read until it says EAGAIN, or a message waits until the next one comes.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import zmq

from sse_daemon import sse
from sse_daemon.appender import Appender, Job, Outcome
from sse_daemon.backend import Stored
from sse_daemon.census import Census
from sse_daemon.envelope import Parsed, parse
from sse_daemon.errors import AddressError, Refusal
from sse_daemon.event import Cursor
from sse_daemon.listener import remove_dead
from sse_daemon.log import Sometimes

MESSAGES_A_TURN = 256
"""Messages read from one socket before the loop gets a turn: about 4 ms of parsing."""
TURN = 0.008
"""Seconds after which it gets one in any case: a message full of keys that were never seen takes far longer than others."""
RECEIVE_HWM = 10_000
"""Messages that libzmq holds for us a peer; beyond that PUB drops and DEALER waits."""
MAX_REQUEST_ID = 64
HEARTBEAT_MS = 5_000
HEARTBEAT_TIMEOUT_MS = 15_000

_log = logging.getLogger("sse_daemon.ingest")

Answer = Callable[[Outcome], None]


class Ingest:
    """Binds, reads, hands over, answers. head: the log's last position, what is stored from here on is beyond it.

    Nothing is read before `start`, and from then on at once: a bound SUB that is not polled loses first messages.
    """

    def __init__(
        self,
        appender: Appender,
        census: Census,
        incarnation: str,
        head: int,
        loop: asyncio.AbstractEventLoop,
        wall: Callable[[], float],
    ) -> None:
        self.draining = False
        self.unanswered = 0
        """Answers that had nowhere to go: their producer had gone."""
        self._appender = appender
        self._census = census
        self._incarnation = incarnation
        self._newest = head
        self._loop = loop
        self._wall = wall
        self._context = zmq.Context()
        # Where libzmq's thread shares a core with the loop it would interrupt it for nearly every message. As a batch thread it
        # runs when the loop waits or has had its share: 5 of 34 us less an event, measured on one core.
        self._context.set(zmq.THREAD_SCHED_POLICY, os.SCHED_BATCH)
        self.addresses: list[str] = []
        """Where the sockets are bound, with the ports that the kernel chose."""
        self._sockets: list[Reader] = []
        self._sub: Reader | None = None
        self._paths: list[Path] = []
        self._locks: list[TextIO] = []
        self._complain = Sometimes(_log, loop.time)

    def bind(self, pubsub: Sequence[str], acked: Sequence[str]) -> None:
        """Binds all addresses. Raises AddressError for the first that cannot be."""
        if pubsub:
            sub = self._socket(zmq.SUB)
            sub.setsockopt(zmq.SUBSCRIBE, b"")
            self._bind(sub, pubsub)
            self._sub = Reader(sub, self._loop, self._published, lambda: not self._appender.full)
            self._sockets.append(self._sub)
        if acked:
            router = self._socket(zmq.ROUTER)
            router.setsockopt(zmq.ROUTER_MANDATORY, 1)
            self._bind(router, acked)
            self._sockets.append(Reader(router, self._loop, self._requested, lambda: True))

    def start(self) -> None:
        """Begins to read."""
        for reader in self._sockets:
            reader.start()

    def room(self) -> None:
        """The append queue has room: reads on where reading had stopped for want of it."""
        for reader in self._sockets:
            reader.welcome()

    def drain(self) -> None:
        """Takes nothing more: requests are answered `draining`, PUB/SUB is closed behind what has arrived.

        Closed, because a publisher that is connected to nobody keeps what it publishes meanwhile, and our successor gets it.
        """
        if self._sub is not None:
            self._sockets.remove(self._sub)
            self._sub.finish()
            self._sub = None
        self.draining = True

    def close(self) -> None:
        """Closes the sockets; answers that were handed to libzmq get half a second to leave."""
        for reader in self._sockets:
            reader.close()
        self._context.destroy(linger=500)
        for path in self._paths:
            path.unlink(missing_ok=True)  # libzmq leaves them; while the lock is held they are ours
        for lock in self._locks:
            lock.close()

    def submit(self, frames: Sequence[bytes], answer: Answer | None) -> None:
        """One message, from wherever: parsed, queued, and `answer` called once with what became of it.

        Without `answer` nobody will know: what is refused is then lost.
        """
        try:
            if self.draining:
                raise Refusal("draining", "this daemon is going away; another one, or its successor, takes it")
            parsed = parse(frames, self._appender.bounds)
        except Refusal as refusal:
            self._appender.settle([(Job((), 0, answer), refusal)])
            return
        job = Job(parsed, len(frames[0]) if len(frames) == 1 else sum(map(len, frames)), answer)
        if not self._appender.offer(job):
            self._appender.settle([(job, Refusal("overloaded", "the append queue is full; try again in a moment"))])

    def settled(self, outcomes: Sequence[tuple[Job, Outcome]]) -> None:
        """Counts what became of messages; the appender's hook."""
        now = self._wall()
        for job, outcome in outcomes:
            if isinstance(outcome, Stored):
                self._count(job.parsed, outcome, now)
            else:
                self._refused(outcome, job, now)

    def encode(self, outcome: Outcome) -> bytes:
        """An outcome as the JSON that producers are answered with."""
        if isinstance(outcome, Stored):
            return sse.dumps({"ok": True, "ids": [str(Cursor(self._incarnation, p)) for p in outcome.positions]})
        answer: dict[str, object] = {"ok": False, "code": outcome.code, "detail": outcome.detail}
        if outcome.index is not None:
            answer["index"] = outcome.index
        return sse.dumps(answer)

    def _published(self, reader: Reader, frames: list[bytes]) -> None:
        self.submit(frames, None)

    def _requested(self, reader: Reader, frames: list[bytes]) -> None:
        """[identity, (empty,) request id, frames...]: a REQ's empty frame and the request id are given back as they came."""
        at = 3 if len(frames) > 1 and not frames[1] else 2
        envelope, frames = frames[:at], frames[at:]
        if len(envelope) < at or not 1 <= len(envelope[-1]) <= MAX_REQUEST_ID:
            refusal = Refusal("bad_request_id", f"a request begins with its id, 1 to {MAX_REQUEST_ID} bytes")
            envelope[-1] = envelope[-1][:MAX_REQUEST_ID]
            self._appender.settle([(Job((), 0, lambda outcome: self._answer(reader, envelope, outcome)), refusal)])
            return
        self.submit(frames, lambda outcome: self._answer(reader, envelope, outcome))

    def _answer(self, reader: Reader, envelope: list[bytes], outcome: Outcome) -> None:
        if not reader.send([*envelope, self.encode(outcome)]):
            self.unanswered += 1

    def _count(self, parsed: Sequence[Parsed], outcome: Stored, now: float) -> None:
        """Counts each item by itself: of a batch some may be repeats, which were stored further back than anything new."""
        newest = self._newest
        for item, position in zip(parsed, outcome.positions, strict=True):
            self._census.stored(item.sender, item.n, outcome.repeated or position <= newest, now)
            self._newest = max(self._newest, position)

    def _refused(self, refusal: Refusal, job: Job, now: float) -> None:
        self._census.refused[refusal.code] += 1
        for item in job.parsed:
            self._census.refuse(refusal.code, item.sender, item.n, now, lost=job.answer is None)
        self._complain.warning(refusal.code, "message refused", code=refusal.code, detail=refusal.detail, index=refusal.index)

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        # A frame somewhat too large is answered as such; one that is absurd costs its sender the connection.
        socket.setsockopt(zmq.MAXMSGSIZE, 4 * self._appender.bounds.max_frame)
        socket.setsockopt(zmq.RCVHWM, RECEIVE_HWM)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HEARTBEAT_MS)
        return socket

    def _bind(self, socket: zmq.Socket[bytes], addresses: Sequence[str]) -> None:
        for address in addresses:
            try:
                if address.startswith("ipc://"):
                    self._bind_ipc(socket, address)
                else:
                    socket.setsockopt(zmq.IPV6, "[" in address)  # with it on, an IPv4 address is reported as a mapped one
                    socket.bind(address)
            except zmq.ZMQError as error:
                reason = "it is in use by another process" if error.errno == errno.EADDRINUSE else str(error).lower()
                raise AddressError(address, reason) from None
            self.addresses.append(socket.getsockopt_string(zmq.LAST_ENDPOINT))

    def _bind_ipc(self, socket: zmq.Socket[bytes], address: str) -> None:
        """Binding an ipc path takes it away from whoever listens there: a lock beside it is held first, for our whole life."""
        path = Path(address.removeprefix("ipc://"))
        umask = os.umask(0o117)  # the daemon's user and group may publish, nobody else
        try:
            lock = path.with_name(path.name + ".lock").open("w")
            self._locks.append(lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_dead(path)  # libzmq would remove whatever is there, be it a file that somebody needs
            socket.bind(address)
            self._paths.append(path)
        except BlockingIOError:
            raise AddressError(address, "another daemon listens there") from None
        except AddressError as error:
            raise AddressError(address, error.reason) from None
        except OSError as error:
            raise AddressError(address, (error.strerror or str(error)).lower()) from None
        finally:
            os.umask(umask)


class Reader:
    """One socket, read from the loop: take(self, frames) for each message, as long as `willing` says so."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        loop: asyncio.AbstractEventLoop,
        take: Callable[[Reader, list[bytes]], None],
        willing: Callable[[], bool],
    ) -> None:
        self._socket = socket
        self._loop = loop
        self._take = take
        self._willing = willing
        self._handle: asyncio.Handle | None = None
        self._closed = False
        self._unwilling = False
        self._fd = int(socket.getsockopt(zmq.FD))

    def start(self) -> None:
        """Reads from now on."""
        self._loop.add_reader(self._fd, self._readable)
        self.resume()

    def welcome(self) -> None:
        """Reads on, if it had stopped because nothing was welcome."""
        if self._unwilling:
            self._unwilling = False
            self.resume()

    def resume(self) -> None:
        """Reads in the next turn: something may have come."""
        if self._handle is None and not self._closed:
            self._handle = self._loop.call_soon(self._drain)

    def send(self, frames: list[bytes]) -> bool:
        """Sends without waiting; False if the peer is gone or takes nothing."""
        if self._closed:
            return False
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EAGAIN, errno.EHOSTUNREACH):
                return False
            raise
        finally:
            self.resume()  # sending may have taken the signal that something is there to read
        return True

    def close(self) -> None:
        """Reads no more."""
        self._closed = True
        if self._handle is not None:
            self._handle.cancel()
        self._loop.remove_reader(self._fd)

    def finish(self) -> None:
        """Takes what has arrived, as far as it is welcome, and closes the socket."""
        for _ in range(RECEIVE_HWM):
            if not self._take_one():
                break
        self.close()
        self._socket.close(linger=0)

    def _readable(self) -> None:
        if self._handle is None:  # else it reads in this turn anyway
            self._drain()

    def _drain(self) -> None:
        self._handle = None
        until = self._loop.time() + TURN
        for _ in range(MESSAGES_A_TURN):
            if not self._take_one():
                return
            if self._loop.time() > until:
                break
        self.resume()

    def _take_one(self) -> bool:
        """False if nothing is there, and the descriptor will tell; or nothing is welcome, and `room` resumes."""
        if not self._willing():
            self._unwilling = True
            return False
        try:
            frame = self._socket.recv(zmq.NOBLOCK, copy=False)  # as a Frame it knows whether more follow: cheaper than asking
        except zmq.Again:
            return False
        frames = [frame.bytes]
        while frame.more:
            frame = self._socket.recv(zmq.NOBLOCK, copy=False)  # a message arrives whole
            frames.append(frame.bytes)
        try:
            self._take(self, frames)
        except Exception:  # noqa: BLE001
            # A defect of ours, met by one message. Whoever sent it must not be able to end the reading of everybody's.
            _log.exception("a message could not be handled")
        return True
