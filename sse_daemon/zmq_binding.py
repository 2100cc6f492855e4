"""The daemon's ZeroMQ sockets: their options, and the addresses that they are bound to."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import zmq

from sse_daemon.errors import AddressError
from sse_daemon.listener import remove_dead
from sse_daemon.zmq_reader import RECEIVE_HWM
from sse_daemon.zmq_zap import KeyCheck

FRAME_FACTOR = 4
"""A frame somewhat longer than allowed is answered as such; one that is so many times as long costs its sender the connection."""
HEARTBEAT_MS = 5_000
HEARTBEAT_TIMEOUT_MS = 15_000

Made = Callable[[zmq.Socket[bytes], KeyCheck | None], None]


class Binding:
    """Makes sockets and binds them. check: if there is one, every tcp:// address needs it; ipc:// is the file system's to guard.

    What is guarded and what is not never share a socket: where a message came in says whether it has to have a producer.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], max_frame: int, check: KeyCheck | None) -> None:
        self.addresses: list[str] = []
        """Where the sockets are bound, with the ports that the kernel chose."""
        self._context = context
        self._max_frame = max_frame
        self._check = check
        self._paths: list[Path] = []
        self._locks: list[TextIO] = []

    def bind(self, kind: int, addresses: Sequence[str], made: Made) -> None:
        """Binds sockets of this kind to all these addresses. Raises AddressError for the first that cannot be.

        made: called with each socket that it takes, and the check that it is behind, before anybody can reach it.
        """
        sockets: dict[bool, zmq.Socket[bytes]] = {}
        for address in addresses:
            guarded = self._check is not None and address.startswith("tcp://")
            if guarded not in sockets:
                sockets[guarded] = self._socket(kind, guarded)
                made(sockets[guarded], self._check if guarded else None)
            self._bind(sockets[guarded], address)

    def close(self) -> None:
        """Removes the paths and lets their locks go; the sockets are closed."""
        for path in self._paths:
            path.unlink(missing_ok=True)  # libzmq leaves them; while the lock is held they are ours
        for lock in self._locks:
            lock.close()

    def _socket(self, kind: int, guarded: bool) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.MAXMSGSIZE, FRAME_FACTOR * self._max_frame)
        socket.setsockopt(zmq.RCVHWM, RECEIVE_HWM)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HEARTBEAT_MS)
        if kind == zmq.SUB:
            socket.setsockopt(zmq.SUBSCRIBE, b"")
        else:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            # As many answers as there may be requests: libzmq's thread may be late, and what it has no room for is lost.
            socket.setsockopt(zmq.SNDHWM, RECEIVE_HWM)
        if guarded and self._check is not None:
            self._check.guard(socket)
        return socket

    def _bind(self, socket: zmq.Socket[bytes], address: str) -> None:
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
