"""One client: its open socket, its cursor, and what the socket has not taken.

A stream has no queue. What it is sent comes as shared buffers from the window; if its socket is full, the rest of the one frame
that was cut is kept, and everything behind it is read from the window again once the socket drains.
"""

from __future__ import annotations

import enum
import socket
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from sse_daemon import sse
from sse_daemon.subscription import Subscription
from sse_daemon.window import Channel, Entry, event_of

MAX_WRITE = 64 * 1024
"""Bytes of one write, unless one event alone is larger: about what SO_SNDBUF takes at once."""
REPEATED = 2
"""How often something was sent in vain that is not merely on its way."""
_TCP_INFO = struct.Struct("=2xB21xI28xI")
"""Of linux/tcp.h's tcp_info: tcpi_retransmits, tcpi_unacked, tcpi_last_ack_recv (ms)."""


class State(enum.Enum):
    """Where a stream stands; the arrows are in TRANSITIONS."""

    BEHIND = "behind"
    """Something is unsent, or its cursor is not at the end: it is pumped when its socket takes more."""
    LIVE = "live"
    """Nothing is unsent, and it has what came up to the end, or is due in the sweep, which writes straight to its socket."""
    FETCHING = "fetching"
    """The window no longer holds what follows its cursor: the backend is being asked."""
    CLOSING = "closing"
    """Its last bytes are on their way; nothing is added."""
    CLOSED = "closed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.BEHIND: frozenset({State.LIVE, State.FETCHING, State.CLOSING, State.CLOSED}),
    State.LIVE: frozenset({State.BEHIND, State.CLOSING, State.CLOSED}),
    State.FETCHING: frozenset({State.BEHIND, State.CLOSING, State.CLOSED}),
    State.CLOSING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}


class Gone(Exception):
    """The client's end of the socket is gone."""


class Wire:
    """How a stream's bytes are laid out: HTTP/1.1 chunks or none (HTTP/1.0), the data alone or the whole event as JSON.

    plain: the window's frames are carried as they are, as nearly always.
    """

    __slots__ = ("chunked", "incarnation", "json", "plain")

    def __init__(self, chunked: bool, json: bool, incarnation: str) -> None:
        self.chunked = chunked
        self.json = json
        self.incarnation = incarnation
        self.plain = chunked and not json

    def frame(self, entry: Entry) -> bytes:
        """`entry` as this wire carries it."""
        if self.json:
            return self.wrap(sse.json_block(event_of(entry), self.incarnation))
        return entry[2] if self.chunked else sse.unchunk(entry[2])

    def wrap(self, block: bytes) -> bytes:
        """A block of the daemon's own."""
        return sse.chunk(block) if self.chunked else block

    @property
    def end(self) -> bytes:
        """What ends the response."""
        return sse.LAST_CHUNK if self.chunked else b""


wire_of = lru_cache(maxsize=16)(Wire)
"""The Wire of these: streams share batches only if they share it."""


class Batch:
    """Consecutive events as one buffer, shared by every stream that stands at `after` and is to get just these.

    too_large: it is more than one write.
    """

    __slots__ = ("after", "buffer", "count", "frames", "last", "positions", "too_large")

    def __init__(self, after: int, positions: Sequence[int], frames: Sequence[bytes]) -> None:
        self.after = after
        self.positions = positions
        self.frames = frames
        self.count = len(positions)
        self.last = positions[-1]
        if self.count == 1:
            self.buffer, self.too_large = frames[0], False
        else:
            self.buffer = b"".join(frames)
            self.too_large = len(self.buffer) > MAX_WRITE

    def cut(self, sent: int) -> tuple[int, int, memoryview]:
        """Where a write of `sent` bytes ended: (events begun, position of the last one begun, the rest of its frame)."""
        begun, position, rest = 0, self.after, memoryview(b"")
        for frame, at in zip(self.frames, self.positions, strict=True):
            if sent <= 0:
                break
            begun, position = begun + 1, at
            rest = memoryview(frame)[sent:]
            sent -= len(frame)
        return begun, position, rest


class Profile(NamedTuple):
    """What a stream was opened as. id: the client id; opened: Unix seconds; heartbeat_event: the heartbeat is an event."""

    id: str
    participant: str | None
    route: str
    address: str
    opened: float
    subscription: Subscription
    wire: Wire
    heartbeat_event: bool
    expires: float | None
    """On the loop's clock: when this stream is to end, or None."""


class Stream:
    """One open response. It is driven by the hub: nothing here waits, and only `send` of a full socket keeps bytes.

    cursor: everything up to it was written or is not for this stream; while LIVE and not in the sweep's plan, the hub's end stands for it.
    wire, wanted: its profile's, where the sweep is quick to find them. announced: the last position that the client was told.
    progress: when the socket last took something; opened: when it came (loop's clock, which is the same in all processes).
    """

    __slots__ = (
        "announced", "channels", "counted", "cursor", "delivered", "opened", "outrun", "profile", "progress", "reason", "rest",
        "settled", "sock", "start", "state", "wanted", "wire", "written",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, profile: Profile, opening: bytes, cursor: int, announced: int, now: float) -> None:
        self.sock = sock
        self.profile = profile
        self.wire = profile.wire
        self.wanted = profile.subscription.filter
        self.state = State.BEHIND
        self.channels: tuple[Channel, ...] = ()
        self.start = self.cursor = cursor
        self.announced = announced
        self.rest = memoryview(opening)
        self.opened = self.progress = self.written = now
        self.delivered = 0
        self.settled = False
        """What follows its cursor was there while it was open: if that is gone one day, the stream lagged."""
        self.outrun = 0
        """How often eviction overtook it while its socket was willing."""
        self.counted: tuple[int, int] | None = None
        """A cursor, and how many events its channels had up to there."""
        self.reason = ""

    def enter(self, state: State) -> None:
        """Moves to `state`; raises ValueError, changing nothing, where TRANSITIONS has no such arrow."""
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"a stream that is {self.state.value} cannot become {state.value}")
        self.state = state

    def write(self, batch: Batch, now: float) -> bool:
        """Sends `batch`; True if the socket took all of it. Nothing may be unsent. Raises Gone."""
        try:
            sent = self.sock.send(batch.buffer)  # not by `_send`: this is where most of the daemon's time goes
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise Gone from error
        if sent == len(batch.buffer):
            self.cursor = self.announced = batch.last
            self.delivered += batch.count
            self.written = self.progress = now
            return True
        begun, position, self.rest = batch.cut(sent)
        self.cursor = position
        self.delivered += begun
        self.written = now
        if begun:
            self.announced = position
            self.progress = now
        return False

    def flush(self, now: float) -> bool:
        """Sends what is unsent; True if nothing is left. Raises Gone."""
        while self.rest:
            sent = self._send(self.rest)
            if not sent:
                return False
            self.rest = self.rest[sent:]
            self.written = self.progress = now
        return True

    def add(self, block: bytes) -> None:
        """Puts the daemon's own bytes behind what is unsent."""
        self.rest = memoryview(b"".join((self.rest, block)))

    def discard_input(self) -> int:
        """Reads what the client sent, which is nothing in a proper stream: the number of bytes, or -1 at its end."""
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return 0
        except OSError:
            return -1
        return len(data) or -1

    def unheard(self) -> float:
        """Seconds for which the other end's kernel has said nothing at all, although it was sent something again and again; else 0.

        An end that is there but does not read closes its window, and then nothing is on its way to it. 0 where there is no knowing.
        """
        try:
            info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        except OSError:
            return 0.0  # a Unix socket, whose ends do not vanish; or one that is closed
        repeated, unacknowledged, milliseconds = _TCP_INFO.unpack(info)
        return milliseconds / 1000 if unacknowledged and repeated >= REPEATED else 0.0

    def shut(self) -> None:
        """Closes the socket. Input is consumed first: closing over unread input sends a reset that can eat our last bytes."""
        self.discard_input()
        self.sock.close()
        self.rest = memoryview(b"")

    def _send(self, buffer: bytes | memoryview) -> int:
        try:
            return self.sock.send(buffer)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Gone from error
