"""Who comes in on the operators' socket: the daemon's user, root, and the socket's group; so many at a time.

The kernel lets nobody else open it, by the file's mode. It is asked once more here, for a mode that was widened by mistake.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Collection
from contextlib import suppress
from typing import Any, NamedTuple

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream

from sse_daemon.log import Sometimes, logger

MOST = 32
"""Connections of operators at a time: a person, a dashboard and some `tail`s. The newest beyond it is closed."""
TIMEOUT = 10.0
"""Seconds for a head, for a body, and between two requests."""
UNREAD = 60.0
"""Seconds after which an answer that is not taken is given up, with its connection."""
HEAD = 16 * 1024
READ_BUFFER = 128 * 1024
SO_PEERGROUPS = 59
"""The supplementary groups of a peer, as many 32-bit numbers (Linux 4.13, asm-generic/socket.h)."""
MOST_GROUPS = 256
"""Python asks the kernel for no more. Of a peer that is in more of them the first one counts alone."""

_log = logger("admin")


def _refusal(status: str, error: str, detail: str) -> bytes:
    body = json.dumps({"error": error, "detail": detail}).encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


_STRANGER = _refusal("403 Forbidden", "forbidden", "operators are root, the daemon's user, and the group of its socket")
_FULL = _refusal(
    "503 Service Unavailable", "overloaded", f"{MOST} operators' connections are open, and there may be no more: end a `tail`"
)


class Operator(NamedTuple):
    """A process on the other end. In a user namespace the kernel gives uids that are not mapped there as 65534."""

    pid: int
    uid: int
    gid: int

    def named(self) -> dict[str, int]:
        """What of it stands in the log, where it did something."""
        return {"uid": self.uid, "pid": self.pid}


def operator(connection: socket.socket) -> Operator:
    """Who connected."""
    return Operator(*struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))


def groups(connection: socket.socket) -> tuple[int, ...]:
    """The supplementary groups of whoever connected."""
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * MOST_GROUPS)
    except OSError:
        return ()  # too many, or a kernel that does not tell
    return struct.unpack(f"{len(found) // 4}I", found)


def entitled(peer: Operator, others: Collection[int], own: int, group: int) -> bool:
    """Whether it is root, this user (`own`), or in `group` by its first one or its others."""
    return peer.uid in (0, own) or group in (peer.gid, *others)


class Server(HTTPServer):
    """Tornado's server for operators. group: the socket's."""

    group = -1

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        kwargs.update(idle_connection_timeout=TIMEOUT, body_timeout=TIMEOUT, max_header_size=HEAD, decompress_request=False)
        super().initialize(*args, **kwargs)
        self._count = 0
        self._complain = Sometimes(_log, asyncio.get_running_loop().time)

    def serve(self, connection: socket.socket) -> None:
        """Reads requests from an accepted connection, if its peer may come in and there is room."""
        wrong = None
        peer = operator(connection)
        if not entitled(peer, groups(connection), os.geteuid(), self.group):
            wrong, said = "somebody who is no operator was turned away", _STRANGER
        elif self._count >= MOST:
            wrong, said = "too many operators' connections: the newest was closed", _FULL
        if wrong is not None:
            self._complain.warning(wrong, wrong, **peer.named())
            with connection, suppress(OSError):
                connection.send(said)
            return
        self.handle_stream(IOStream(connection, max_buffer_size=READ_BUFFER, max_write_buffer_size=None), ())

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        self._count += 1
        super().handle_stream(stream, address)

    def on_close(self, server_conn: Any) -> None:
        super().on_close(server_conn)
        self._count -= 1


def give_up_unread(stream: IOStream) -> None:
    """Closes a connection whose peer has not taken its answer by then."""
    if stream.writing():
        asyncio.get_running_loop().call_later(UNREAD, _close_unread, stream)


def _close_unread(stream: IOStream) -> None:
    if stream.writing():
        _log.warning("an operator did not take an answer", extra={"seconds": UNREAD})
        stream.close()
