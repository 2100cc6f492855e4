"""The daemon's ZeroMQ sockets: SUB for whoever publishes and forgets, ROUTER for whoever wants to be told.

With the `zmq_` modules the only part of the daemon that knows ZeroMQ: zmq_binding.py makes the sockets, zmq_reader.py reads them,
zmq_zap.py says who may come in, zmq_peers.py keeps what they can make libzmq hold bounded.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence

import zmq

from sse_daemon import sse
from sse_daemon.appender import Appender, Job, Outcome
from sse_daemon.backend import Stored
from sse_daemon.census import Census, Origin
from sse_daemon.envelope import Parsed, origins, parse
from sse_daemon.errors import Refusal
from sse_daemon.event import Cursor
from sse_daemon.log import Sometimes
from sse_daemon.producer_keys import ProducerKeys
from sse_daemon.rights import Rights
from sse_daemon.zmq_binding import FRAME_FACTOR, Binding
from sse_daemon.zmq_peers import Peers
from sse_daemon.zmq_reader import Reader, Take
from sse_daemon.zmq_zap import ENDPOINT, KeyCheck

MAX_REQUEST_ID = 64
SLACK = 65_536
"""What a connection may bring beyond the longest message that is allowed: framing, handshake, heartbeats."""

_NOBODY = Rights("", runs=())
"""The rights of whoever has none: what it says of itself counts for nothing."""

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
        keys: ProducerKeys | None,
        max_connections: int,
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
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        # Where libzmq's thread shares a core with the loop it would interrupt it for nearly every message. As a batch thread it
        # runs when the loop waits or has had its share: 5 of 34 us less an event, measured on one core.
        self._context.set(zmq.THREAD_SCHED_POLICY, os.SCHED_BATCH)
        self.key_check = None if keys is None else KeyCheck(self._context, keys, loop)
        self.fault: str | None = None
        """Why nobody from other machines can publish any more."""
        bounds = appender.bounds
        self._binding = Binding(self._context, bounds.max_frame, self.key_check)
        allowance = max(FRAME_FACTOR * bounds.max_frame, bounds.max_message) + SLACK
        self.peers = Peers(self._context, loop, max_connections, allowance, self._binding.addresses)
        self._sockets: list[Reader] = []
        self._subs: list[Reader] = []
        self._guarded: list[Reader] = []
        self._complain = Sometimes(_log, loop.time)

    @property
    def addresses(self) -> list[str]:
        """Where the sockets are bound, with the ports that the kernel chose."""
        return self._binding.addresses

    async def bind(self, pubsub: Sequence[str], acked: Sequence[str]) -> None:
        """Binds all addresses. Raises AddressError for the first that cannot be; KeyCheckDead, before any, if keys cannot be checked."""
        if self.key_check is not None:
            self.key_check.open()
            await self.key_check.prove()
        self._binding.bind(zmq.SUB, pubsub, self._made_sub)
        self._binding.bind(zmq.ROUTER, acked, self._made_router)

    def _made_sub(self, socket: zmq.Socket[bytes], check: KeyCheck | None) -> None:
        take = self._published if check is None else self._published_by
        self._subs.append(self._reader(socket, check, take, lambda: not self._appender.full))

    def _made_router(self, socket: zmq.Socket[bytes], check: KeyCheck | None) -> None:
        self._reader(socket, check, self._requested if check is None else self._requested_by, lambda: True)

    def _reader(self, socket: zmq.Socket[bytes], check: KeyCheck | None, take: Take, willing: Callable[[], bool]) -> Reader:
        reader = Reader(socket, self._loop, take, willing)
        self.peers.watch(reader)
        self._sockets.append(reader)
        if check is not None:
            self._guarded.append(reader)
        return reader

    def start(self) -> None:
        """Begins to read."""
        for reader in self._sockets:
            reader.start()

    async def watch(self) -> None:
        """Watches for ever whether those that come from outside are still asked for their keys; to be cancelled."""
        if self.key_check is not None:
            await self.key_check.watch(self._check_lost)
            await asyncio.Event().wait()

    def _check_lost(self) -> None:
        """Without anybody who knows the keys nobody may come in: libzmq turns all away, and those who are in are put out."""
        self.fault = "producers' keys cannot be checked any more"
        _log.critical("the check of producers' keys does not answer: their sockets are closed", extra={"zap": ENDPOINT})
        for reader in self._guarded:
            self._drop(reader)
        self._guarded.clear()

    def _drop(self, reader: Reader) -> None:
        self.peers.forget(reader)
        self._sockets.remove(reader)
        if reader in self._subs:
            self._subs.remove(reader)
        reader.abandon()

    def reload_keys(self) -> bool:
        """Reads the folder of producers' keys again; False if something in it was not taken."""
        return self.key_check is None or self.key_check.reload()

    def room(self) -> None:
        """The append queue has room: reads on where reading had stopped for want of it."""
        for reader in self._sockets:
            reader.welcome()

    def drain(self) -> None:
        """Takes nothing more: requests are answered `draining`, PUB/SUB is closed behind what has arrived.

        Closed, because a publisher that is connected to nobody keeps what it publishes meanwhile, and our successor gets it.
        """
        for reader in self._subs:
            self.peers.forget(reader)
            self._sockets.remove(reader)
            if reader in self._guarded:
                self._guarded.remove(reader)
            reader.finish()
        self._subs.clear()
        self.draining = True

    def close(self) -> None:
        """Closes the sockets; answers that were handed to libzmq get half a second to leave."""
        self.peers.close()
        if self.key_check is not None:
            self.key_check.close()
        for reader in self._sockets:
            reader.close()
        self._context.destroy(linger=500)
        self._binding.close()

    def submit(
        self, frames: Sequence[bytes], answer: Answer | None, rights: Rights | None = None, last: zmq.Frame | None = None
    ) -> None:
        """One message, from wherever: parsed, queued, and `answer` called once with what became of it.

        Without `answer` nobody will know: what is refused is then lost. rights: what its producer may publish; None: everything.
        last: as the reader has it, to say in the log where a refused message came from.
        """
        try:
            if self.draining:
                raise Refusal("draining", "this daemon is going away; another one, or its successor, takes it")
            parsed = parse(frames, self._appender.bounds)
            if rights is not None:
                rights.check(parsed)
        except Refusal as refusal:
            self._refuse(refusal, frames, answer, rights, last)
            return
        job = Job(parsed, len(frames[0]) if len(frames) == 1 else sum(map(len, frames)), answer)
        if not self._appender.offer(job):
            self._appender.settle([(job, Refusal("overloaded", "the append queue is full; try again in a moment"))])

    def settled(self, outcomes: Sequence[tuple[Job, Outcome]]) -> None:
        """Counts what became of messages; the appender's hook."""
        now = self._wall()
        for job, outcome in outcomes:
            if isinstance(outcome, Refusal):
                self._refused(outcome, job, now)
            elif job.only is not None and job.only.sender is None and outcome[0][0] > self._newest:
                self._census.accepted += 1  # as `_count` comes to, in one step
                self._newest = outcome[0][0]
            else:
                self._count(job.parsed, outcome, now)

    def encode(self, outcome: Outcome) -> bytes:
        """An outcome as the JSON that producers are answered with."""
        if isinstance(outcome, Stored):
            return sse.dumps({"ok": True, "ids": [str(Cursor(self._incarnation, p)) for p in outcome.positions]})
        answer: dict[str, object] = {"ok": False, "code": outcome.code, "detail": outcome.detail}
        if outcome.index is not None:
            answer["index"] = outcome.index
        return sse.dumps(answer)

    def _published(self, reader: Reader, frames: list[bytes], last: zmq.Frame) -> None:
        self.submit(frames, None, None, last)

    def _published_by(self, reader: Reader, frames: list[bytes], last: zmq.Frame) -> None:
        self._submit_by(last, frames, None)

    def _requested(self, reader: Reader, frames: list[bytes], last: zmq.Frame) -> None:
        if (request := self._request(reader, frames)) is not None:
            self.submit(*request, None, last)

    def _requested_by(self, reader: Reader, frames: list[bytes], last: zmq.Frame) -> None:
        if (request := self._request(reader, frames)) is not None:
            self._submit_by(last, *request)

    def _request(self, reader: Reader, frames: list[bytes]) -> tuple[list[bytes], Answer] | None:
        """[identity, (empty,) request id, frames...]: a REQ's empty frame and the request id are given back as they came."""
        at = 3 if len(frames) > 1 and not frames[1] else 2
        envelope, frames = frames[:at], frames[at:]
        if len(envelope) < at or not 1 <= len(envelope[-1]) <= MAX_REQUEST_ID:
            envelope[-1] = envelope[-1][:MAX_REQUEST_ID]
            refusal = Refusal("bad_request_id", f"a request begins with its id, 1 to {MAX_REQUEST_ID} bytes")
            self._refuse(refusal, frames, lambda outcome: self._answer(reader, envelope, outcome), _NOBODY, None)
            return None
        return frames, lambda outcome: self._answer(reader, envelope, outcome)

    def _submit_by(self, last: zmq.Frame, frames: list[bytes], answer: Answer | None) -> None:
        """As `submit`, by whoever sent the frame `last`: it may have lost its right since it came in."""
        rights = None if self.key_check is None else self.key_check.who(last)
        if rights is None:
            refusal = Refusal("not_authorized", "this producer's key is not authorized, or no longer")
            self._refuse(refusal, frames, answer, _NOBODY, last)
        else:
            self.submit(frames, answer, rights, last)

    def _refuse(
        self, refusal: Refusal, frames: Sequence[bytes], answer: Answer | None, rights: Rights | None, last: zmq.Frame | None
    ) -> None:
        """Refuses a message that has not become items, and counts its events for whom they are of, as far as they say."""
        events, named = origins(frames, 0 if rights is _NOBODY else self._appender.bounds.max_frames)
        if rights is not None:  # in the name of another nobody is refused either
            named = [origin if rights.may_be(origin[0]) else (None, None) for origin in named]
        self._census.refuse(refusal.code, events, named, self._wall(), lost=answer is None)
        self._tell(refusal, named, None if rights is None else rights.name or None, _address(last))
        if answer is not None:
            answer(refusal)

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
        named = [(item.sender, item.n) for item in job.parsed]
        self._census.refuse(refusal.code, len(named), named, now, lost=job.answer is None)
        self._tell(refusal, named, None, None)

    def _tell(self, refusal: Refusal, named: Sequence[Origin], producer: str | None, address: str | None) -> None:
        """Says in the log what was refused and whose it was: the first bad event's, or the first one's."""
        at = refusal.index or 0
        sender, n = named[at] if at < len(named) else (None, None)
        facts = {"from": sender, "n": n, "producer": producer, "address": address}
        self._complain.warning(
            refusal.code, "message refused", code=refusal.code, detail=refusal.detail, index=refusal.index, **facts
        )


def _address(last: zmq.Frame | None) -> str | None:
    """Where a message came from, as libzmq says it: a host without a port."""
    if last is None:
        return None
    try:
        return str(last.get("Peer-Address")) or None
    except zmq.ZMQError:
        return None  # a transport that has no addresses
