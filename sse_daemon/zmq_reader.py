"""One of the daemon's ZeroMQ sockets, read from the loop.

A socket's file descriptor is edge-triggered: after any receive *or send* the socket has to be read until it says EAGAIN, or a
message waits until the next one comes.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable

import zmq

MESSAGES_A_TURN = 256
"""Messages read from one socket before the loop gets a turn: about 4 ms of parsing."""
TURN = 0.008
"""Seconds after which it gets one in any case: a message full of keys that were never seen takes far longer than others."""
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
            if not self._take_one():
                break
        self.abandon()

    def abandon(self) -> None:
        """Closes the socket with all its connections; what has arrived is not looked at."""
        self.close()
        self.socket.close(linger=0)

    def shed(self) -> None:
        """Takes some of what is there though it is not welcome, so that it does not pile up in libzmq."""
        for _ in range(MESSAGES_A_TURN):
            if self._closed or not self._take_any():
                return

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
            self.unwilling = True
            return False
        return self._take_any()

    def _take_any(self) -> bool:
        try:
            frame = self.socket.recv(zmq.NOBLOCK, False)  # not copied: as a Frame it knows whether more follow: cheaper than asking
        except zmq.Again:
            self.dried += 1
            return False
        frames = [frame.bytes]
        while frame.more:
            frame = self.socket.recv(zmq.NOBLOCK, False)  # a message arrives whole
            frames.append(frame.bytes)
        try:
            if self.seen is not None:
                self.seen.add(int(frame.get(zmq.SRCFD)))
            self._take(self, frames, frame)
        except Exception:  # noqa: BLE001
            # A defect of ours, met by one message. Whoever sent it must not be able to end the reading of everybody's.
            _log.exception("a message could not be handled")
        return True
