"""Who may connect: the answers to ZAP (https://rfc.zeromq.org/spec/27/), which libzmq asks before it lets a CURVE peer in.

The handler lives in the loop. libzmq's own thread asks, and the handshake waits there, so that nothing can wait for itself; a loop
that stands still lets nobody in until the handshake times out. That nobody answers is not a gap either: the sockets demand a
handler (ZAP_ENFORCE_DOMAIN). docs/decisions/0016-producers-curve.md has the alternatives.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import zmq
from zmq.utils import z85

from sse_daemon.curve_key import KeyPair, generate
from sse_daemon.errors import KeyCheckDead
from sse_daemon.log import Sometimes
from sse_daemon.producer_keys import Authorized, ProducerKeys
from sse_daemon.rights import Rights

ENDPOINT = "inproc://zeromq.zap.01"
"""Where libzmq looks for the handler of a context; the name is the specification's."""
DOMAIN = "sse-daemon.producers"
VERSION = b"1.0"
PROBE = b"probe"
"""The request id of our own questions; libzmq's is 1."""
PROBE_EVERY = 1.0
"""Seconds between two of them. The second that finds the one before unanswered means that it is dead: a loop that stood still for a
while has had its turns between two, a handler that is gone has not.
"""
_FRAMES = 7
"""Frames of a request before the credentials, the asker's address and the empty frame included."""

_log = logging.getLogger("sse_daemon.ingest")


class KeyCheck:
    """Lets in whose key is authorised. The sockets it guards are of `context`; one a context, by ZAP's design."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: ProducerKeys, loop: asyncio.AbstractEventLoop) -> None:
        self._own: KeyPair = keys.own
        self._authorized: Authorized = keys.authorized
        self._read_again = keys.read_again
        self._loop = loop
        self._context = context
        self._handler = context.socket(zmq.ROUTER)
        self._asker = context.socket(zmq.DEALER)
        self._fd = int(self._handler.getsockopt(zmq.FD))
        self._complain = Sometimes(_log, loop.time)
        self._open = False

    def open(self) -> None:
        """Begins to answer. Raises KeyCheckDead."""
        try:
            self._handler.bind(ENDPOINT)
            self._asker.connect(ENDPOINT)
        except zmq.ZMQError as error:
            raise KeyCheckDead(f"the handler of ZAP cannot be bound: {error}") from None
        self._open = True
        self._loop.add_reader(self._fd, self._answer)

    def guard(self, socket: zmq.Socket[bytes]) -> None:
        """What is bound on `socket` from here on needs CURVE and an authorised key, and a handler that says so."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._own.secret.encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN.encode())
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def who(self, frame: zmq.Frame) -> Rights | None:
        """The rights that whoever sent `frame` has now; None if it has none, or none any more."""
        try:
            return self._authorized.get(str(frame.get("User-Id")))
        except zmq.ZMQError:
            return None  # no peer comes in without; should one ever, it is nobody

    def reload(self) -> bool:
        """False if there are mistakes. Exactly those whose files are valid now may publish from here on, on open connections too.

        A mistake in one file must not keep alive what another's removal was to end.
        """
        before = self._authorized
        self._authorized, mistakes = self._read_again()
        for mistake in mistakes:
            _log.error("a producer's key is not authorized", extra={"mistake": mistake})
        added = _names(self._authorized, before)
        removed = _names(before, self._authorized)
        _log.info("producers' keys read", extra={"authorized": len(self._authorized), "added": added, "removed": removed})
        return not mistakes

    async def prove(self, patience: float = 5.0) -> None:
        """Asks, as libzmq will, for a key that nobody has and for one that is authorised. Raises KeyCheckDead."""
        stranger = generate().public
        questions = [(stranger, b"400"), *((key, b"200") for key in list(self._authorized)[:1])]
        for key, expected in questions:
            self._ask(key)
            try:
                async with asyncio.timeout(patience):
                    while (status := self._status()) is None:
                        await asyncio.sleep(0.001)
            except TimeoutError:
                raise KeyCheckDead(f"the handler of ZAP has not answered for {patience:g} s") from None
            if status != expected:
                raise KeyCheckDead(f"the handler of ZAP answers {status.decode()} where it has to answer {expected.decode()}")

    async def watch(self, lost: Callable[[], object]) -> None:
        """Asks for ever whether it still answers, and answers right; calls `lost`, once, when not."""
        missed = 0
        while missed < 2:
            self._ask(generate().public)
            await asyncio.sleep(PROBE_EVERY)
            missed = 0 if self._status() == b"400" else missed + 1
        lost()

    def close(self) -> None:
        """Answers nothing more: from here on nobody comes in."""
        if self._open:
            self._loop.remove_reader(self._fd)
        self._open = False
        self._handler.close(linger=0)
        self._asker.close(linger=0)

    def _ask(self, key: str) -> None:
        request = (b"", VERSION, PROBE, DOMAIN.encode(), b"", b"", b"CURVE", z85.decode(key))
        try:
            self._asker.send_multipart(request, zmq.NOBLOCK)
        except zmq.ZMQError:
            return  # nobody is there; no answer says so too

    def _status(self) -> bytes | None:
        """The status in the last answer to us; None if there was none."""
        status = None
        try:
            while True:
                status = self._asker.recv_multipart(zmq.NOBLOCK)[3]
        except zmq.ZMQError:
            return status

    def _answer(self) -> None:
        """Answers all that was asked. The descriptor is edge-triggered: read to the end, also after a send."""
        try:
            while True:
                asker, *request = self._handler.recv_multipart(zmq.NOBLOCK)
                user = self._user(request)
                status = (b"200", b"OK", user.encode()) if user else (b"400", b"not authorized", b"")
                reply = (asker, b"", VERSION, request[2] if len(request) > 2 else b"", *status, b"")
                self._handler.send_multipart(reply, zmq.NOBLOCK)
        except zmq.ZMQError:
            return  # EAGAIN: all is answered. Anything else is the end of the handler, which `watch` finds out

    def _user(self, request: Sequence[bytes]) -> str | None:
        """The key that is let in, or None; whatever is not exactly the question of a CURVE peer of ours is not."""
        if len(request) != _FRAMES + 1 or request[1] != VERSION or request[3] != DOMAIN.encode():
            return None
        if request[6] != b"CURVE" or len(request[7]) != 32:
            return None
        key = z85.encode(request[7]).decode()
        if key in self._authorized:
            return key
        if request[2] != PROBE:
            wrong = "a producer was turned away: its key is not authorized"
            self._complain.warning("stranger", wrong, key=key[:8], address=request[4].decode(errors="replace"))
        return None


def _names(those: Authorized, without: Authorized) -> str:
    """The names of those that are not among the others."""
    return ",".join(sorted(those[key].name for key in those.keys() - without.keys()))
