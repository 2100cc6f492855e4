"""The Python producer's library: publishes events to sse-daemon over ZeroMQ. Needs pyzmq and ujson, imports nothing heavier.

    ==================== ======================== ==========================================================
    class                used from                promise
    ==================== ======================== ==========================================================
    Producer             any threads              at most once; returns when ZeroMQ has the event
    AckedProducer        any threads              stored as the backend promises; returns the events' ids
    AsyncProducer        one event loop           as Producer
    AsyncAckedProducer   one event loop           as AckedProducer
    ==================== ======================== ==========================================================

All four have the same methods; those of the asynchronous ones are awaited. Each numbers its events, so that the daemon stores
repeats once and reports what was lost. `curve=Curve.read(key_file, server_key)` for a daemon whose sockets need CURVE; such a
key has to be authorized there before its producer connects. A producer belongs to the process that made it: after a fork it raises PublishError.
Errors: PublishRefused, PublishTimeout, ProducerClosed (all PublishError); ValueError and TypeError for what cannot be sent.
The asynchronous ones need a loop with `add_reader`, which Windows' proactor loop has not.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from sse_daemon.async_producer import AsyncAckedProducer, AsyncProducer
from sse_daemon.curve_key import Curve
from sse_daemon.errors import ProducerClosed, PublishError, PublishRefused, PublishTimeout
from sse_daemon.publish_link import ACKED, PUBSUB, PubLink, Publishing, nobody
from sse_daemon.publishing import Envelope, Item, Run

__all__ = [
    "AckedProducer",
    "AsyncAckedProducer",
    "AsyncProducer",
    "Curve",
    "Envelope",
    "Producer",
    "ProducerClosed",
    "PublishError",
    "PublishRefused",
    "PublishTimeout",
]


class _SyncClosing(ABC):
    """`with` for a producer; leaving it closes."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class Producer(Publishing[None, None], _SyncClosing):
    """Publishes over PUB/SUB, at most once, from any number of threads; their events are numbered in the order sent.

    Until the daemon has subscribed, `publish` waits up to `connect_timeout` seconds and then raises PublishTimeout: nothing was
    sent. From then on it never waits: up to `hwm` messages queue under pressure and while the daemon restarts; beyond that
    events are dropped and counted in `dropped`. `close` waits up to `linger` seconds for the queue. A lock guards the socket:
    its holder never blocks for long.
    """

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
        self._lock = threading.Lock()
        self._address, self._connect_timeout, self._linger = address, connect_timeout, linger
        self._closed = False

    @property
    def dropped(self) -> int:
        """Events that found the queue full. The daemon reports them as gaps."""
        return self._link.dropped

    def wait_subscribed(self, timeout: float | None = None) -> None:
        """Returns once the daemon is subscribed. timeout: seconds, `connect_timeout` by default. Raises PublishTimeout."""
        timeout = self._connect_timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        while not self._look(max(0.0, min(deadline - time.monotonic(), 0.02))):
            if time.monotonic() >= deadline:
                raise nobody(self._address, timeout)
            time.sleep(0.001)  # locks are not fair: lets another thread have it, which may want to close

    def close(self) -> None:
        """Sends what is queued, for up to `linger` seconds. Twice is fine. Other threads' calls raise ProducerClosed."""
        if self.run.forked:
            return
        with self._lock:
            self._closed = True
            self._link.close(self._linger)

    def _send_one(self, item: Item) -> None:
        self._send((item,))

    def _send(self, items: tuple[Item, ...]) -> None:
        deadline = time.monotonic() + self._connect_timeout
        while not self._sent(items):
            self.wait_subscribed(max(0.0, deadline - time.monotonic()))

    def _sent(self, items: tuple[Item, ...]) -> bool:
        with self._lock:
            self._check()
            if items and not self._link.refresh():
                return False
            if items:
                self._link.hand_over(self.run.number(items))
            return True

    def _look(self, wait: float) -> bool:
        with self._lock:
            self._check()
            if not self._link.refresh():
                self._link.socket.poll(int(wait * 1000))
            return self._link.refresh()

    def _check(self) -> None:
        if self._closed:
            raise ProducerClosed("the producer is closed")
        self.run.check_process()


class AckedProducer(Publishing[str, list[str]], _SyncClosing):
    """As `AsyncAckedProducer`, for any number of threads: each call blocks its own thread until its events are stored.

    One thread owns the socket (ZeroMQ sockets are not thread-safe) and runs the asynchronous producer on a loop of its own.
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
        self._inner = AsyncAckedProducer(
            address, name=name, timeout=timeout, answer_timeout=answer_timeout, max_in_flight=max_in_flight, curve=curve
        )
        self.run = self._inner.run
        self._lock = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"producer {name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends; other threads' calls raise ProducerClosed and their events may be stored. Twice is fine."""
        if self.run.forked:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
        try:
            asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _finish(self) -> None:
        await self._inner.close()
        # The calls that were under way now fail, each in its own task; the loop must not stop before they have.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_default_executor()

    def _send_one(self, item: Item) -> str:
        return self._send((item,))[0]

    def _send(self, items: tuple[Item, ...]) -> list[str]:
        self._inner.run.check_process()  # a forked child has no thread that would answer
        with self._lock:
            if self._closed:
                raise ProducerClosed("the producer is closed")
            future = asyncio.run_coroutine_threadsafe(self._inner._send(items), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # interrupted (Ctrl-C): nobody waits for it any more
            raise
