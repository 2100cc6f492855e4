"""Who is connected to the daemon's ZeroMQ sockets, and how much libzmq holds of what each has sent.

libzmq bounds messages (RCVHWM) and frames (MAXMSGSIZE), but not the frames of a message: those of one that never ends grow its
memory for ever, and nobody sees them, for a message is handed over whole. Two bytes on the wire are 64 in memory. What can be
seen is the connection: libzmq tells its file descriptor (socket monitor), the kernel how many bytes have come in on it
(TCP_INFO), and each message from which descriptor it came (SRCFD). Who has sent too much since its last message is cut off, and
libzmq then frees what it held.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import zmq

from sse_daemon.log import Sometimes
from sse_daemon.zmq_reader import Reader

LOOK_EVERY = 0.1
"""Seconds between two looks at the connections, about 2 us each. The fastest peer of the same machine brought 35 MB, or 3 MB of
two-byte frames, between two.
"""
MAX_LOOKS = 10
"""Looks after which a message would have been read even from a socket that never runs dry: it is read in turn with the others'."""
_BYTES_RECEIVED = 128
"""Where tcpi_bytes_received stands in the kernel's tcp_info (linux/tcp.h), which only ever grows at its end."""
_INFO_SIZE = 136
_FAILURES: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "unfinished",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "protocol",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "key",
}
_MISTAKES: dict[int, str] = {
    int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH): "one side uses CURVE and the other does not",
    int(zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC): "it does not use this daemon's public key",
}
"""What a producer can have done wrong, by what libzmq says of it."""
_LEFT = "it left during the handshake, as one does that uses no CURVE"
"""Both sides see that they do not agree; nearly always it is the producer that hangs up first."""
_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED

_log = logging.getLogger("sse_daemon.ingest")


@dataclass(slots=True)
class _Peer:
    """One connection. name: both its ends, which tell it from a later one with the same descriptor.

    mark: bytes received when its messages began to be looked for, or when it was known to have sent one. since: how often its
    socket had been read to its end by then; None: its messages are not looked for. looks: how often we looked since.
    """

    reader: Reader
    name: tuple[object, object]
    mark: int = 0
    since: int | None = None
    looks: int = 0


class Peers:
    """All connections of producers: at most `most`, and none with much more than `allowance` bytes since its last message.

    addresses: where the sockets are bound, as far as they are.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        loop: asyncio.AbstractEventLoop,
        most: int,
        allowance: int,
        addresses: Sequence[str],
    ) -> None:
        self.cut: Counter[str] = Counter()
        """Connections that were cut off, by reason."""
        self.failed: Counter[str] = Counter()
        """Handshakes that came to nothing, by reason."""
        self._context = context
        self._loop = loop
        self._most = most
        self._allowance = allowance
        self._addresses = addresses
        self._peers: dict[int, _Peer] = {}
        self._monitors: dict[Reader, zmq.Socket[bytes]] = {}
        # By socket: libzmq says why a handshake failed, and at once afterwards which connection that was the end of.
        self._mistakes: dict[Reader, str] = {}
        self._look: asyncio.TimerHandle | None = None
        self._complain = Sometimes(_log, loop.time)

    def __len__(self) -> int:
        return len(self._peers)

    def watch(self, reader: Reader) -> None:
        """Watches the connections of a socket. To be called before anybody can have connected: what came before is not seen."""
        address = f"inproc://peers-{id(reader)}"
        events = _EVENTS
        for failure in _FAILURES:
            events |= failure
        reader.socket.monitor(address, events)
        monitor = self._context.socket(zmq.PAIR)
        # libzmq waits where there is no room for an event, holding what closing a socket needs: there is always room.
        monitor.setsockopt(zmq.RCVHWM, 0)
        monitor.connect(address)
        self._monitors[reader] = monitor
        self._loop.add_reader(int(monitor.getsockopt(zmq.FD)), self._happened, reader, monitor)
        self._loop.call_soon(self._happened, reader, monitor)

    def forget(self, reader: Reader) -> None:
        """Watches a socket no more; before it is closed."""
        self._mistakes.pop(reader, None)
        monitor = self._monitors.pop(reader, None)
        if monitor is None:
            return
        self._loop.remove_reader(int(monitor.getsockopt(zmq.FD)))
        reader.socket.disable_monitor()
        monitor.close(linger=0)
        self._peers = {fd: peer for fd, peer in self._peers.items() if peer.reader is not reader}

    def close(self) -> None:
        """Watches nothing more."""
        for reader in tuple(self._monitors):
            self.forget(reader)
        if self._look is not None:
            self._look.cancel()

    def _happened(self, reader: Reader, monitor: zmq.Socket[bytes]) -> None:
        while not monitor.closed:
            try:
                content, _ = monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            event, value = struct.unpack("=hi", content)
            self._take(reader, event & 0xFFFF, value)

    def _take(self, reader: Reader, event: int, value: int) -> None:
        """value: of an accepted or ended connection its file descriptor; of what broke the protocol, how."""
        if event == zmq.EVENT_ACCEPTED:
            self._accepted(reader, value)
        elif event == zmq.EVENT_DISCONNECTED:
            self._ended(reader, self._peers.pop(value, None))
        elif event in _FAILURES:
            self.failed[_FAILURES[event]] += 1
            if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                self._mistakes[reader] = _MISTAKES.get(value, "it broke the protocol")
            elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and reader.socket.getsockopt(zmq.MECHANISM) == zmq.CURVE:
                self._mistakes[reader] = _LEFT

    def _ended(self, reader: Reader, peer: _Peer | None) -> None:
        mistake = self._mistakes.pop(reader, None)
        if mistake is not None:
            # Who was gone before we could look has no address: a line without one must not keep back one that has it.
            kind = mistake if peer is None else f"{mistake} (known)"
            address = None if peer is None else _host(peer)
            self._complain.warning(kind, "a producer's handshake failed", reason=mistake, address=address)

    def _accepted(self, reader: Reader, fd: int) -> None:
        with _connection(fd) as connection:
            name = None if connection is None else _name(connection)
        if name is None or not self._ours(name[0]):
            return  # it has ended, and its descriptor may be anybody's by now
        self._peers[fd] = _Peer(reader, name)
        if len(self._peers) > self._most:
            self._cut(fd, "too_many", "too many producers are connected: the newest was turned away")
        if self._look is None:
            self._look = self._loop.call_later(LOOK_EVERY, self._look_at_all)

    def _ours(self, end: object) -> bool:
        """Whether this is an end of a connection to one of our addresses."""
        if isinstance(end, tuple):
            return any(address.endswith(f":{end[1]}") for address in self._addresses)
        return f"ipc://{end}" in self._addresses

    def _look_at_all(self) -> None:
        self._look = None
        for fd, peer in tuple(self._peers.items()):
            self._look_at(fd, peer)
        for reader in self._monitors:
            if not any(peer.since is not None and peer.reader is reader for peer in self._peers.values()):
                reader.seen = None
        if self._peers:
            self._look = self._loop.call_later(LOOK_EVERY, self._look_at_all)

    def _look_at(self, fd: int, peer: _Peer) -> None:
        reader = peer.reader
        received = self._received(fd, peer)
        if received is None:
            return
        if peer.since is None:
            if received - peer.mark > self._allowance // 2:
                self._suspect(peer, received)
            return
        peer.looks += 1
        over = received - peer.mark > self._allowance
        if over and reader.unwilling:
            # Where nothing is welcome some is read all the same: what is refused now would have been dropped by libzmq later.
            reader.shed()
        if reader.seen is not None and fd in reader.seen:
            reader.seen.discard(fd)
            peer.mark, peer.since = received, None
        elif over and self._had_its_turn(peer):
            self._cut(fd, "endless_message", "a producer was cut off: its message does not end")

    def _suspect(self, peer: _Peer, received: int) -> None:
        """From here on its messages are looked for, which costs every message of its socket 0.2 us."""
        reader = peer.reader
        if reader.seen is None:
            reader.seen = set()
        peer.mark, peer.since, peer.looks = received, reader.dried, 0
        reader.resume()  # a message without an end wakes nobody up

    def _had_its_turn(self, peer: _Peer) -> bool:
        """Whether a message of its would have been read by now: it would if the socket was read to its end since."""
        return peer.reader.dried != peer.since or peer.looks > MAX_LOOKS

    def _cut(self, fd: int, reason: str, message: str) -> None:
        """Ends a connection under libzmq's hands, which then closes it as it closes any that broke, and frees what it held."""
        peer = self._peers.pop(fd)
        with _connection(fd) as connection:
            if connection is None or _name(connection) != peer.name:
                return
            try:
                # With a reset: who keeps sending would otherwise not hear of it before its buffers are full.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it ended by itself just now
        self.cut[reason] += 1
        self._complain.warning(reason, message, address=_host(peer), connections=len(self._peers))

    def _received(self, fd: int, peer: _Peer) -> int | None:
        """Bytes that have come in on a connection; None if it has ended, or is no TCP connection, whose bytes nobody counts."""
        with _connection(fd) as connection:
            if connection is None or connection.family == socket.AF_UNIX or _name(connection) != peer.name:
                return None
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
        return int(struct.unpack_from("=Q", info, _BYTES_RECEIVED)[0]) if len(info) == _INFO_SIZE else None


def _host(peer: _Peer) -> str:
    """Where it comes from."""
    end = peer.name[1]
    return str(end[0]) if isinstance(end, tuple) else "ipc"


@contextmanager
def _connection(fd: int) -> Iterator[socket.socket | None]:
    """The connection behind a descriptor that libzmq owns, for a moment; None if it has closed it."""
    try:
        connection = socket.socket(fileno=fd)
    except OSError:
        yield None
        return
    try:
        yield connection
    finally:
        connection.detach()


def _name(connection: socket.socket) -> tuple[object, object] | None:
    try:
        return connection.getsockname(), connection.getpeername()
    except OSError:
        return None
