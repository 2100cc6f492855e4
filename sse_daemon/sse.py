"""What goes over the wire: Server-Sent Events, and the HTTP/1.1 chunks that they travel in. Pure bytes.

A *block* is one event as the WHATWG standard parses it (https://html.spec.whatwg.org/multipage/server-sent-events.html): field
lines and the empty line that ends them. A *frame* is a block in a chunk of its own (RFC 9112, 7.1), so that frames concatenate
and no block is ever split over two chunks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ujson

from sse_daemon.event import Event

KEEPALIVE = b": keepalive\n\n"
LAST_CHUNK = b"0\r\n\r\n"

_LF = ord("\n")
"""As a number: Python 3.11 takes bytes that are sought in bytes for a number first, and fails, for six times the time."""


def chunk(block: bytes) -> bytes:
    """`block` in its own HTTP/1.1 chunk."""
    return b"%x\r\n%b\r\n" % (len(block), block)


def unchunk(frame: bytes) -> bytes:
    """The block in `frame`, for HTTP/1.0, which has no chunks."""
    return frame[frame.index(b"\r\n") + 2 : -2]


def block(data: bytes, *, type: str = "message", id: str = "", retry: int | None = None) -> bytes:
    """One event. data: UTF-8 with LF line ends; type, id: checked names; retry: milliseconds; order: retry, id, event, data.

    Every line of data gets its `data: ` and its one space: a parser takes exactly one away, so leading spaces of the data stay.
    """
    head = _fields(type, id, retry)
    if _LF in data:
        data = data.replace(b"\n", b"\ndata: ")
    return b"%bdata: %b\n\n" % (head, data)


def _fields(type: str, id: str, retry: int | None) -> bytes:
    text = "" if retry is None else f"retry: {retry}\n"
    if id:
        text += f"id: {id}\n"
    if type != "message":
        text += f"event: {type}\n"
    return text.encode()


def event_frame(event: Event, incarnation: str) -> bytes:
    """`event` in its chunk, with its cursor as id: `chunk(block(...))` in one step, for this is done for every event."""
    position, _, type, _, _, data, _ = event
    if _LF in data:
        data = data.replace(b"\n", b"\ndata: ")
    id = f"id: {incarnation}-{position}\n"
    head = (id if type == "message" else f"{id}event: {type}\n").encode()
    return b"%x\r\n%bdata: %b\n\n\r\n" % (len(head) + len(data) + 8, head, data)


def event_object(event: Event, incarnation: str | None) -> dict[str, Any]:
    """The event as JSON clients see it, in long-poll answers and on routes of format "json". incarnation None: without an id."""
    return {
        "id": None if incarnation is None else f"{incarnation}-{event.position}",
        "type": event.type,
        "topic": event.topic,
        "attrs": {name: value if isinstance(value, str) else list(value) for name, value in event.attrs},
        "data": event.data.decode(),
    }


def json_block(event: Event, incarnation: str) -> bytes:
    """`event` for a route of format "json": the same id and event name, the whole event as its data."""
    return block(dumps(event_object(event, incarnation)), type=event.type, id=f"{incarnation}-{event.position}")


def snapshot_block(event: Event, *, json: bool, id: str = "") -> bytes:
    """A retained event in a preamble: only the preamble's last block carries an id, the position that it all represents."""
    data = dumps(event_object(event, None)) if json else event.data
    return block(data, type=event.type, id=id)


def position(id: str) -> bytes:
    """A block that only moves the client's last event id; no client sees an event."""
    return f"id: {id}\n\n".encode()


def retry(milliseconds: int, id: str = "") -> bytes:
    """A block that only sets the client's reconnection time, and its last event id if one is given."""
    return _fields("message", id, milliseconds) + b"\n"


def heartbeat(timestamp: int, id: str = "") -> bytes:
    """The heartbeat as an event that pages can see."""
    return block(dumps({"timestamp": timestamp}), type="heartbeat", id=id)


def resync(reason: str, missed: int | None, id: str = "") -> bytes:
    """Continuity is broken here. id: only when no snapshot follows that would carry it."""
    return block(dumps({"reason": reason, "missed": missed}), type="resync", id=id)


def bye(reason: str, retry_ms: int, id: str = "") -> bytes:
    """The daemon ends this stream; come back after about `retry_ms`."""
    return block(dumps({"reason": reason}), type="bye", id=id, retry=retry_ms)


def dumps(value: Any) -> bytes:
    """Compact JSON as UTF-8."""
    return ujson.dumps(value, ensure_ascii=False, escape_forward_slashes=False, allow_nan=False).encode()


def head(status: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """An HTTP/1.1 response head. status: such as "200 OK"; names and values are the daemon's own, never a client's."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1")
