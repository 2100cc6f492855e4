"""A producer's socket, and what the sockets of all producers share. Used by producer.py and async_producer.py only."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import zmq

from sse_daemon.curve_key import Curve
from sse_daemon.errors import ProducerClosed, PublishRefused, PublishTimeout
from sse_daemon.publishing import Control, Data, Envelope, Item, Run

PUBSUB = "tcp://127.0.0.1:5556"
ACKED = "tcp://127.0.0.1:5557"

One = TypeVar("One")
Many = TypeVar("Many")

_COMMON: Mapping[int, int] = {
    zmq.IPV6: 1,
    zmq.RECONNECT_IVL: 100,
    zmq.RECONNECT_IVL_MAX: 2000,
    # A peer that vanished without a word (cut network, suspended machine) is noticed after 15 s instead of never.
    zmq.HEARTBEAT_IVL: 5000,
    zmq.HEARTBEAT_TIMEOUT: 15000,
}


class Publishing(ABC, Generic[One, Many]):
    """The methods of every producer. One, Many: what publishing one item, or a batch of them, comes to."""

    run: Run
    """The producer's own, made with it."""

    @property
    def sender(self) -> str:
        """What stands in `from`: the name and something new in each run."""
        return self.run.sender

    def publish(
        self,
        data: Data,
        *,
        to: Sequence[str] = (),
        group: str | None = None,
        type: str | None = None,
        topic: str | None = None,
        attrs: Mapping[str, str | Sequence[str]] | None = None,
        retain: bool = False,
        ttl: float | None = None,
    ) -> One:
        """Publishes one event; acked: returns its id. `to` is a list of keys, or "*" for everybody; see `Envelope`."""
        return self._send_one(Envelope(data, to=to, group=group, type=type, topic=topic, attrs=attrs, retain=retain, ttl=ttl))

    def publish_batch(self, envelopes: Iterable[Envelope]) -> Many:
        """Publishes all of them as one message, stored whole or refused whole; acked: returns their ids, in order."""
        return self._send(tuple(envelopes))

    def set_group(self, name: str, members: Sequence[str]) -> One:
        """From here on the group `name` stands for `members`; an empty list removes it. Acked: returns the change's id."""
        return self._send_one(Control.group(name, members))

    def declare_topic(self, name: str, known: bool = True) -> One:
        """Makes `name` a known topic, or with known=False forgets it. Acked: returns the change's id."""
        return self._send_one(Control.topic(name, known))

    @abstractmethod
    def _send(self, items: tuple[Item, ...]) -> Many: ...

    @abstractmethod
    def _send_one(self, item: Item) -> One: ...


class Link:
    """One connected socket, used without blocking by one thread at a time.

    It has a context of its own, so that `close` can wait for exactly what this producer still has queued: a shared context
    ends with the process, and takes the last events with it.
    """

    def __init__(self, address: str, kind: int, options: Mapping[int, int], curve: Curve | None) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(kind)
        try:
            for option, value in (*_COMMON.items(), *options.items()):
                self.socket.setsockopt(option, value)
            if curve is not None:
                self.socket.setsockopt(zmq.CURVE_SERVERKEY, curve.server.encode())
                self.socket.setsockopt(zmq.CURVE_PUBLICKEY, curve.own.public.encode())
                self.socket.setsockopt(zmq.CURVE_SECRETKEY, curve.own.secret.encode())
            self.socket.connect(address)
        except zmq.ZMQError as error:
            self.context.destroy(linger=0)
            raise ValueError(f"cannot connect to {address!r}: {error}") from error

    def try_send(self, frames: Sequence[bytes]) -> bool:
        """Hands all frames over as one message, or none of them: nobody is connected, or the queue is full."""
        try:
            self.socket.send_multipart(frames, flags=zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def received(self) -> Iterator[list[bytes]]:
        """What has arrived. To be read to its end after every send too: the socket's descriptor signals edges only."""
        while True:
            try:
                yield self.socket.recv_multipart(flags=zmq.NOBLOCK)
            except zmq.Again:
                return

    def close(self, linger: float) -> None:
        """Closes; blocks for at most `linger` seconds while what was published is still on its way. Twice is fine."""
        self.context.destroy(linger=int(linger * 1000))


class PubLink(Link):
    """The PUB side: an XPUB socket, because that shows whether the daemon has subscribed.

    A PUB socket drops what is published before the subscription has arrived, silently. Once it has, the queue of `hwm` messages
    outlives a restart of the daemon (which IMMEDIATE would end, so it is not set). `dropped` counts events that found the
    queue full; their numbers show the daemon the gap.
    """

    def __init__(self, address: str, hwm: int, curve: Curve | None) -> None:
        super().__init__(address, zmq.XPUB, {zmq.SNDHWM: hwm, zmq.XPUB_NODROP: 1}, curve)
        self.subscribed = False
        self.dropped = 0

    def refresh(self) -> bool:
        """Takes in what the daemon said since the last call: whether it has subscribed."""
        for frames in self.received():
            self.subscribed = frames[0].startswith(b"\x01")
        return self.subscribed

    def hand_over(self, frames: Sequence[bytes]) -> None:
        """One message to ZeroMQ, or to nobody."""
        if not self.try_send(frames):
            self.dropped += len(frames)


class Looped:
    """A link that belongs to one event loop: the first use ties it there. `arrived` is called when there may be something."""

    def __init__(self, link: Link, arrived: Callable[[], object]) -> None:
        self._link, self._arrived = link, arrived
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Future[None] | None = None
        self.closed = False

    def enter(self, run: Run) -> None:
        """To be called first by every operation. Raises ProducerClosed; RuntimeError on another loop than before."""
        run.check_process()
        if self.closed:
            raise ProducerClosed("the producer is closed")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            loop.add_reader(self._link.socket.FD, self._arrived)
            self._arrived()  # an edge from before the reader was there is not signalled again
        elif self._loop is not loop:
            raise RuntimeError("a producer is used on one event loop; make one for each")

    async def close(self, linger: float) -> None:
        """Closes the link, off the loop because that waits for up to `linger` seconds. Twice, and cancelled, is fine."""
        self.closed = True
        if self._ending is None:
            if self._loop is not None:
                self._loop.remove_reader(self._link.socket.FD)
            self._ending = asyncio.ensure_future(asyncio.to_thread(self._link.close, linger))
        await asyncio.shield(self._ending)


def nobody(address: str, timeout: float) -> PublishTimeout:
    """What to raise, and to do, when no daemon subscribes."""
    return PublishTimeout(
        f"nothing was sent: after {timeout:.3g} s nobody is subscribed at {address}. "
        "Is sse-daemon running, and is this one of its [ingest] pubsub addresses (not an acked one)? "
        "With CURVE: does it have this key, and know ours?"
    )


def unanswered(address: str, timeout: float, refusal: PublishRefused | None) -> PublishTimeout:
    """What to raise, and to do, when no daemon answers, or only ever with a `refusal` that may pass."""
    missing = f"no final answer from {address} within {timeout:.3g} s; "
    if refusal is not None:
        # It was reached: where it is and which keys it has is not what is wrong.
        return PublishTimeout(f"{missing}last answer: {refusal}. The event may or may not be stored", refusal)
    return PublishTimeout(
        f"{missing}the event may or may not be stored. "
        "Is sse-daemon running, and is this one of its [ingest] acked addresses (not a pubsub one)? "
        "With CURVE: does it have this key, and know ours?"
    )
