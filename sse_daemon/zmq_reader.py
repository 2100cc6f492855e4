"""One of the daemon's ZeroMQ sockets, read from the loop.

A socket's file descriptor is edge-triggered: after any receive *or send* the socket has to be read until it says EAGAIN, or a
message waits until the next one comes.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from collections.abc import Callable

import zmq

MESSAGES_A_TURN = 256
"""Messages read from one socket before the loop gets a turn: about 4 ms of parsing."""
TURN = 0.008
"""Seconds after which it gets one in any case: a message full of keys that were never seen takes far longer than others."""
FETCH = 32
"""Messages fetched from libzmq before the first of them is looked at. The processor's first cache holds libzmq's code or ours, not both:
an event to one costs 4 to 5 % less than with a look at each as it comes."""
FETCH_BYTES = 65_536
"""Bytes after which no further message is begun."""
RECEIVE_HWM = 10_000
"""Messages that libzmq holds for us a peer; beyond that PUB drops and DEALER waits."""

Take = Callable[["Reader", list[bytes], zmq.Frame], None]

_log = logging.getLogger("sse_daemon.ingest")


class Reader:
    """One socket: take(self, frames, last) for each message, as long as `willing` says so.

    last: the message's last frame as libzmq has it, which knows who sent it.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        loop: asyncio.AbstractEventLoop,
        take: Take,
        willing: Callable[[], bool],
    ) -> None:
        self.socket = socket
        self._loop = loop
        self._take = take
        self._willing = willing
        self._handle: asyncio.Handle | None = None
        self._fetched: deque[tuple[list[bytes], zmq.Frame]] = deque()
        """Messages that have not been handed on yet; where nothing is welcome they wait here."""
        self._closed = False
        self.unwilling = False
        """It does not read, because nothing is welcome."""
        self.seen: set[int] | None = None
        """If it is a set, the file descriptors of the connections that a message has come from are put into it."""
        self.dried = 0
        """How often it was read to its end."""
        self._fd = int(socket.getsockopt(zmq.FD))

    def start(self) -> None:
        """Reads from now on."""
        self._loop.add_reader(self._fd, self._readable)
        self.resume()

    def welcome(self) -> None:
        """Reads on, if it had stopped because nothing was welcome."""
        if self.unwilling:
            self.unwilling = False
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
            self.socket.send_multipart(frames, zmq.NOBLOCK)
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
            if not self._willing() or not self._is_there():
                break
            self._hand_on()
        self.abandon()

    def abandon(self) -> None:
        """Closes the socket with all its connections; what has arrived is not looked at."""
        self.close()
        self.socket.close(linger=0)

    def shed(self) -> None:
        """Takes some of what is there though it is not welcome, so that it does not pile up in libzmq."""
        for _ in range(MESSAGES_A_TURN):
            if self._closed or not self._is_there():
                return
            self._hand_on()

    def _readable(self) -> None:
        if self._handle is None:  # else it reads in this turn anyway
            self._drain()

    def _drain(self) -> None:
        self._handle = None
        until = self._loop.time() + TURN
        for _ in range(MESSAGES_A_TURN):
            if not self._willing():
                self.unwilling = True  # `welcome` resumes
                return
            if not self._is_there():
                return  # the descriptor will tell
            self._hand_on()
            if self._loop.time() > until:
                break
        self.resume()

    def _is_there(self) -> bool:
        """Whether a message is there to be handed on."""
        return bool(self._fetched) or self._fetch()

    def _fetch(self) -> bool:
        """Takes what is there from libzmq, not too much at a time; False if nothing is."""
        size = 0
        try:
            while size < FETCH_BYTES and len(self._fetched) < FETCH:
                # Not copied, for as a Frame it knows whether more follow, which is cheaper than asking.
                frame = self.socket.recv(zmq.NOBLOCK, False)
                frames = [frame.bytes]
                size += len(frames[0])
                while frame.more:
                    frame = self.socket.recv(zmq.NOBLOCK, False)  # a message arrives whole
                    frames.append(frame.bytes)
                    size += len(frames[-1])
                self._fetched.append((frames, frame))
                if self.seen is not None:
                    self.seen.add(int(frame.get(zmq.SRCFD)))
        except zmq.Again:
            self.dried += 1
        return bool(self._fetched)

    def _hand_on(self) -> None:
        """The first of the messages that were fetched."""
        frames, last = self._fetched.popleft()
        try:
            self._take(self, frames, last)
        except Exception:  # noqa: BLE001
            # A defect of ours, met by one message. Whoever sent it must not be able to end the reading of everybody's.
            _log.exception("a message could not be handled")
