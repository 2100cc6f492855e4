"""A peer is ready when an event went all the way through it, not when its port is open."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

import zmq

from bench.peers.base import HttpPublish, PeerError, Running, ZmqPublish
from bench.peers.process import Child

READY_WITHIN = 30.0
"""Seconds; the slowest peer takes two on an idle machine."""
ATTEMPT = 1.0
"""Seconds for one subscriber to be sent one of the events that are published meanwhile."""
EVERY = 0.05
"""Seconds between two attempts."""
KEY = "probe"
"""The probe's own key, so that no subscriber of the benchmark is sent it."""
DATA = "probe-of-the-benchmark"
Publisher: TypeAlias = Callable[[str, str], None]
"""Of a key and data."""
SOCKETS = {"pub": zmq.PUB, "push": zmq.PUSH, "dealer": zmq.DEALER}


def when_web_ready(name: str, version: str, port: int, child: Child) -> Running:
    """A peer that is subscribed and published to over HTTP at this port, once it is ready."""
    running = Running(
        name=name,
        version=version,
        pids=(),
        host="127.0.0.1",
        port=port,
        path="/sub?id={key}",
        publish=HttpPublish(host="127.0.0.1", port=port, path="/pub?id={key}"),
        stop=child.stop,
    )
    return when_ready(running, child)


def when_ready(running: Running, *children: Child) -> Running:
    """`running` with the processes of `children`, once a subscriber received a published event; stopped if none does."""
    try:
        _await(running, children)
    except BaseException:
        running.stop()
        raise
    return dataclasses.replace(running, pids=tuple(pid for child in children for pid in child.pids))


def _await(running: Running, children: Sequence[Child]) -> None:
    end = time.monotonic() + READY_WITHIN
    with publisher(running.publish) as publish:
        while time.monotonic() < end:
            for child in children:
                child.check()
            with contextlib.suppress(OSError):  # Not open yet, or closed again: the next attempt or the deadline says it.
                if _received(running, publish):
                    return
            time.sleep(EVERY)
    tails = "\n".join(child.tail() for child in children)
    raise PeerError(f"{running.name}: no event came through within {READY_WITHIN:.0f} s:\n{tails}")


def _received(running: Running, publish: Publisher) -> bool:
    """One attempt; a peer that is half ready may have answered it with an error, or forgotten it."""
    end = time.monotonic() + ATTEMPT
    with socket.create_connection((running.host, running.port)) as subscriber:
        subscriber.settimeout(EVERY)
        subscriber.sendall(running.subscribe(KEY))
        seen = b""
        while DATA.encode() not in seen and time.monotonic() < end:
            publish(KEY, DATA)
            try:
                more = subscriber.recv(65536)
            except TimeoutError:
                continue
            seen += more
            if not more or not seen.startswith(b"HTTP/1.1 200"[: len(seen)]):
                return False
    return DATA.encode() in seen


@contextlib.contextmanager
def publisher(publish: HttpPublish | ZmqPublish) -> Iterator[Publisher]:
    """A function that publishes one event for a key; for a try, not for a load."""
    if isinstance(publish, HttpPublish):
        yield partial(_post, publish)
        return
    with zmq.Context() as context, context.socket(SOCKETS[publish.kind]) as sender:
        sender.setsockopt(zmq.LINGER, 0)
        sender.connect(publish.address)
        yield partial(_send, sender, publish)


def _post(publish: HttpPublish, key: str, data: str) -> None:
    with socket.create_connection((publish.host, publish.port), timeout=READY_WITHIN) as connection:
        connection.sendall(publish.request(key, data))
        status = connection.recv(65536).partition(b"\r\n")[0]
    if not status.startswith(b"HTTP/1.1 2"):
        raise ConnectionError(f"an event was refused: {status!r}")


def _send(sender: zmq.Socket[bytes], publish: ZmqPublish, key: str, data: str) -> None:
    with contextlib.suppress(zmq.Again):  # Not connected yet: the next attempt is soon.
        sender.send_multipart(publish.message(key, data), zmq.DONTWAIT)
