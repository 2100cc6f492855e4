"""The producers for asyncio. Users import them from sse_daemon.producer, whose head says what they promise."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

import zmq

from sse_daemon.curve_key import Curve
from sse_daemon.errors import ProducerClosed, PublishError
from sse_daemon.publish_link import ACKED, PUBSUB, Link, Looped, PubLink, Publishing, nobody, unanswered
from sse_daemon.publishing import Answer, Item, Retries, Run, parse_answer


class _AsyncClosing(ABC):
    """`async with` for a producer; leaving it closes."""

    @abstractmethod
    async def close(self) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        await self.close()


class AsyncProducer(Publishing[Coroutine[Any, Any, None], Coroutine[Any, Any, None]], _AsyncClosing):
    """As `Producer`, on one event loop. A cancelled publish has sent nothing: it is cancelled only while it waits."""

    def __init__(
        self,
        address: str = PUBSUB,
        *,
        name: str,
        connect_timeout: float = 5.0,
        hwm: int = 10_000,
        linger: float = 1.0,
        curve: Curve | None = None,
    ) -> None:
        self.run = Run(name)
        self._link = PubLink(address, hwm, curve)
        self._looped = Looped(self._link, self._refresh)
        self._change = asyncio.Event()
        self._address, self._connect_timeout, self._linger = address, connect_timeout, linger

    @property
    def dropped(self) -> int:
        """Events that found the queue full. The daemon reports them as gaps."""
        return self._link.dropped

    async def wait_subscribed(self, timeout: float | None = None) -> None:
        """Returns once the daemon is subscribed. timeout: seconds, `connect_timeout` by default. Raises PublishTimeout."""
        timeout = self._connect_timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(timeout):
                while not self._subscribed():
                    await self._change.wait()
        except TimeoutError:
            raise nobody(self._address, timeout) from None

    async def close(self) -> None:
        """Sends what is queued, for up to `linger` seconds. Twice is fine. Calls that wait raise ProducerClosed."""
        if self.run.forked:
            return
        self._looped.closed = True
        self._change.set()
        await self._looped.close(self._linger)

    async def _send_one(self, item: Item) -> None:
        await self._send((item,))

    async def _send(self, items: tuple[Item, ...]) -> None:
        if not self._subscribed() and items:
            await self.wait_subscribed()
        # From here to the end nothing is awaited: the number and its place on the wire belong together.
        if items:
            self._link.hand_over(self.run.number(items))
            self._refresh()

    def _subscribed(self) -> bool:
        self._looped.enter(self.run)
        self._refresh()
        return self._link.subscribed

    def _refresh(self) -> None:
        if self._link.refresh():
            self._change.set()
        else:
            self._change.clear()


class AsyncAckedProducer(Publishing[Coroutine[Any, Any, str], Coroutine[Any, Any, list[str]]], _AsyncClosing):
    """Publishes with acknowledgement, on one event loop, from any number of tasks: returns when the events are stored.

    A request without an answer is sent again with the same numbers, so that it is stored once; so is one that the daemon
    refuses for the time being (`overloaded`, `storage_full`, `unavailable`, `draining`), all until `timeout` seconds have
    passed in total: then PublishTimeout, and the event may or may not be stored. Any other refusal raises PublishRefused.
    At most `max_in_flight` requests are under way, further ones wait their turn, inside their timeout.

    Requests that are awaited one after another are stored in that order; those in flight together in any order. A cancelled
    or timed out one may be stored, and may leave a gap in the numbers.
    """

    def __init__(
        self,
        address: str = ACKED,
        *,
        name: str,
        timeout: float = 10.0,
        answer_timeout: float = 1.0,
        max_in_flight: int = 64,
        curve: Curve | None = None,
    ) -> None:
        if max_in_flight < 1:
            raise ValueError("max_in_flight is at least 1")
        self.run = Run(name)
        # IMMEDIATE: nothing is queued for a daemon that is away, so retries do not pile up for its return.
        self._link = Link(address, zmq.DEALER, {zmq.IMMEDIATE: 1, zmq.SNDHWM: max_in_flight * 4}, curve)
        self._looped = Looped(self._link, self._read)
        self._slots = asyncio.Semaphore(max_in_flight)
        self._answers: dict[bytes, asyncio.Queue[Answer]] = {}
        self._requests = 0
        self._address, self._timeout, self._answer_timeout = address, timeout, answer_timeout

    async def close(self) -> None:
        """Ends; requests under way or waiting raise ProducerClosed and may be stored. Twice is fine."""
        if self.run.forked:
            return
        self._looped.closed = True
        for answers in self._answers.values():
            answers.put_nowait(ProducerClosed("the producer was closed; the event may be stored"))
        await self._looped.close(0)

    async def _send_one(self, item: Item) -> str:
        return (await self._send((item,)))[0]

    async def _send(self, items: tuple[Item, ...]) -> list[str]:
        self._looped.enter(self.run)
        if not items:
            return []
        retries = Retries(self._answer_timeout)
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                self._looped.enter(self.run)  # it may have been closed meanwhile; the next in the queue then learns it too
                ids = await self._exchange(self.run.number(items), retries)
        except TimeoutError:
            raise unanswered(self._address, self._timeout, retries.refusal) from None
        if len(ids) != len(items):
            raise PublishError(f"the daemon answered {len(items)} events with {len(ids)} ids")
        return ids

    async def _exchange(self, frames: Sequence[bytes], retries: Retries) -> list[str]:
        """Sends one request until it is answered for good. The caller limits the time."""
        self._requests += 1
        request = b"%x" % self._requests
        answers = self._answers[request] = asyncio.Queue[Answer]()
        try:
            while True:
                self._looped.enter(self.run)
                wait = retries.after_send(self._link.try_send([request, *frames]))
                self._read()
                # An answer to an earlier attempt counts as well: all attempts carry the same id and the same numbers.
                while (answer := await _next_answer(answers, wait)) is not None:
                    if isinstance(answer, list):
                        return answer
                    wait = retries.after_refusal(answer)
        finally:
            del self._answers[request]

    def _read(self) -> None:
        if self._looped.closed:
            return
        for frames in self._link.received():
            parsed = parse_answer(frames)
            # None, or an answer whose request is over: late, repeated, or not of our protocol. Nobody waits for it.
            if parsed is not None and parsed[0] in self._answers:
                self._answers[parsed[0]].put_nowait(parsed[1])


async def _next_answer(answers: asyncio.Queue[Answer], wait: float) -> Answer | None:
    try:
        async with asyncio.timeout(wait):
            return await answers.get()
    except TimeoutError:
        return None
