"""Listening HTTP sockets: opened with what every accepted socket is to inherit, and accepted from at a bounded pace."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import math
import os
import resource
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from sse_daemon.errors import AddressError
from sse_daemon.log import Sometimes

ACCEPTS_A_TURN = 16
"""Connections taken before the loop gets a turn: 128, Tornado's number, held it for 60 ms."""
BACKLOG = 4096
KEPT_BACK = 256
"""Open files that connections of clients never take, or a quarter of them where that is less: 200 producers, 32 operators and 16 questions
to an application fit. It has to hold: a connection that waits for libzmq, which finds no file for it, keeps its thread spinning."""
PAUSE = 0.5
"""Seconds without accepting when there are no more files to be had: what waits stays in the kernel's queue."""
DEFER = 1
"""Seconds for which the kernel keeps a connection to itself that has not said anything; what is accepted then brings its request."""
USER_TIMEOUT_AFTER = 10.0
"""Seconds beyond the stall timeout after which the kernel gives up a peer that acknowledges nothing; keepalive alone does not
cover sent data. Not before it: Linux counts a closed receive window too, and whoever merely does not read is the hub's to judge."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PASSING = {errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.EPERM, errno.ENETDOWN}

_log = logging.getLogger("sse_daemon.listener")

Accepted = Callable[[socket.socket, Any], None]


class Listener:
    """Accepts from one listening socket: accepted(socket, the kernel's name of the peer) for each connection.

    kept_back: how many of the files that this process may open are not for these connections.
    """

    def __init__(
        self, listening: socket.socket, loop: asyncio.AbstractEventLoop, send_buffer: int, accepted: Accepted, kept_back: int = 0
    ) -> None:
        self.socket = listening
        self._loop = loop
        self._send_buffer = send_buffer
        self._accepted = accepted
        self._kept_back = kept_back
        self._complain = Sometimes(_log, loop.time)
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Accepts from now on."""
        self._pause = None
        self._loop.add_reader(self.socket.fileno(), self._accept)

    def stop(self) -> None:
        """Accepts no more; the socket stays open, and with it the kernel's queue."""
        if self._pause is not None:
            self._pause.cancel()
        if self.socket.fileno() >= 0:
            self._loop.remove_reader(self.socket.fileno())

    def _accept(self) -> None:
        end = self._end()
        if self._kept_back and lowest_free(self.socket.fileno()) >= end:
            self._wait("the limit of open files is near")
            return
        for _ in range(ACCEPTS_A_TURN):
            try:
                connection, peer = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _PASSING:
                    continue
                self._exhausted(error)
                return
            connection.setblocking(False)
            if self.socket.family == socket.AF_UNIX:  # these do not inherit it
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
            number = connection.fileno()
            self._accepted(connection, peer)
            if number >= end - 1:
                return  # the next turn looks whether there is another

    def _end(self) -> int:
        """Connections get numbers below this. The kernel gives the lowest that is free, so counting them is not needed."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return files - min(self._kept_back, files // 4)

    def _exhausted(self, error: OSError) -> None:
        if error.errno not in _EXHAUSTED:
            raise error
        self._wait(error.strerror or str(error))

    def _wait(self, why: str) -> None:
        self._complain.warning("exhausted", "cannot accept connections, pausing", error=why)
        self._loop.remove_reader(self.socket.fileno())
        self._pause = self._loop.call_later(PAUSE, self.start)


def lowest_free(file: int) -> float:
    """The number that the next file of this process gets; infinite if it can open none. file: any that is open."""
    try:
        found = os.dup(file)
    except OSError:
        return math.inf
    os.close(found)
    return found


def listen(address: str, send_buffer: int, stall_timeout: float) -> tuple[socket.socket, TextIO | None]:
    """A listening socket for `address`, "host:port" or "unix:/path", and the lock that keeps a path ours. Raises AddressError."""
    try:
        if address.startswith("unix:"):
            return listen_unix(Path(address.removeprefix("unix:")), 0o660)
        return _listen_tcp(address, send_buffer, stall_timeout), None
    except OSError as error:
        raise _refused(address, error) from None


def listen_together(address: str, count: int, send_buffer: int, stall_timeout: float) -> list[socket.socket]:
    """`count` sockets that listen on one TCP address; the kernel spreads the connections among them. Raises AddressError."""
    found: list[socket.socket] = []
    try:
        # Alone first: SO_REUSEPORT would join whatever process of this user listens there already, and take half of its clients.
        with _listen_tcp(address, send_buffer, stall_timeout) as alone:
            host, port = alone.getsockname()[:2]
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        for _ in range(count):
            found.append(_listen_tcp(where, send_buffer, stall_timeout, reuse_port=True))
    except OSError as error:
        for listening in found:
            listening.close()
        raise _refused(address, error) from None
    return found


def _refused(address: str, error: OSError) -> AddressError:
    reason = "it is in use by another process" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
    return AddressError(address, reason)


def listen_unix(path: Path, mode: int) -> tuple[socket.socket, TextIO]:
    """A Unix socket at `path`: a dead one there is removed, a live one is never stolen. Raises AddressError, OSError.

    Whoever holds the lock beside it is alive, for the kernel releases it with the process.
    """
    lock = path.with_name(path.name + ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise AddressError(f"unix:{path}", "another daemon listens there") from None
    try:
        remove_dead(path)
        return _bind_unix(path, mode), lock
    except BaseException:
        lock.close()
        raise


def remove_dead(path: Path) -> None:
    """Removes the Unix socket that a process which is gone left at `path`. Raises AddressError for anything else that is there."""
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise AddressError(f"unix:{path}", "there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        # Dead is only what the kernel calls so: a listener with a full queue, or one that is not ours to talk to, is alive.
        if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
            raise AddressError(f"unix:{path}", "another process listens there")
    path.unlink()


def _bind_unix(path: Path, mode: int) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    umask = os.umask(0o777 & ~mode)
    try:
        listening.bind(str(path))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(umask)
    listening.setblocking(False)
    return listening


def _listen_tcp(address: str, send_buffer: int, stall_timeout: float, *, reuse_port: bool = False) -> socket.socket:
    host, _, port = address.rpartition(":")
    family, kind, proto, _, where = socket.getaddrinfo(
        host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, proto)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        tune(listening, send_buffer, stall_timeout)
        listening.bind(where)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


def tune(listening: socket.socket, send_buffer: int, stall_timeout: float) -> None:
    """Sets on a listening TCP socket what Linux hands down to the sockets accepted from it: no system call a connection.

    TCP_NODELAY: without it p99 was 49 ms instead of 15. The send buffer: the kernel would hide up to 3.9 MB a slow client.
    TCP_DEFER_ACCEPT, the listener's own, spares waiting for what the lean door needs: a request that is there (web_lean.py).
    """
    if listening.family == socket.AF_UNIX:
        return
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_NODELAY, 1),
        (socket.TCP_DEFER_ACCEPT, DEFER),
        (socket.TCP_KEEPIDLE, 30),
        (socket.TCP_KEEPINTVL, 10),
        (socket.TCP_KEEPCNT, 3),
        (socket.TCP_USER_TIMEOUT, min(round(1000 * (stall_timeout + USER_TIMEOUT_AFTER)), 2**31 - 1)),
    ):
        listening.setsockopt(socket.IPPROTO_TCP, option, value)


def name_of(listening: socket.socket) -> str:
    """The address of a listening socket as it stands in configuration and logs."""
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def peer_name(peer: Any) -> str:
    """The address of a peer as it stands in listings and logs."""
    if isinstance(peer, tuple) and len(peer) >= 2:  # a Unix peer has no name, or an empty one
        return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
    return "unix"
