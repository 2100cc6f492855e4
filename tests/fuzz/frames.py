"""What goes out: a client's parser gets from the bytes exactly the events that were put in, however the bytes are cut."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from sse_daemon import sse
from sse_daemon.event import Attrs, Cursor, Draft, Event, is_unsafe, placed
from tests.wire.whatwg import Message, Parser, parse

LOG = "0123456789ab"


def chunks(body: bytes) -> Iterator[bytes]:
    """The chunks of an HTTP/1.1 body, read after RFC 9112, 7.1."""
    while body:
        size, crlf, body = body.partition(b"\r\n")
        assert crlf and re.fullmatch(rb"[0-9a-f]+", size)
        length = int(size, 16)
        assert body[length : length + 2] == b"\r\n"
        yield body[:length]
        body = body[length + 2 :]


def seen(event: Event) -> Message:
    """What a client is to see of an event."""
    return Message(event.type, event.data.decode(), str(Cursor(LOG, event.position)))


def as_object(event: Event, id: str | None) -> dict[str, object]:
    """What a client of a JSON route is to see of an event."""
    held: Attrs = event.attrs
    return {
        "id": id,
        "type": event.type,
        "topic": event.topic,
        "attrs": {k: list(v) if isinstance(v, tuple) else v for k, v in held},
        "data": event.data.decode(),
    }


def check_event(event: Event) -> None:
    """A client gets exactly the event, and nothing beside it."""
    (body,) = chunks(sse.event_frame(event, LOG))
    parser = Parser()
    assert parser.feed(body) == [seen(event)]
    assert (parser.comments, parser.ignored, parser.retry, parser.pending) == ([], [], None, False)


def check_json(event: Event) -> None:
    """On a route of format "json" the whole event is the data."""
    (message,) = parse(sse.json_block(event, LOG))
    id = str(Cursor(LOG, event.position))
    assert (message.type, message.id) == (event.type, id)
    assert json.loads(message.data) == sse.event_object(event, LOG) == as_object(event, id)


def check_batch(batch: Sequence[Event]) -> None:
    """Frames concatenate, and no block is split over two of them."""
    frames = [sse.event_frame(event, LOG) for event in batch]
    parts = list(chunks(b"".join(frames)))
    assert parse(parts) == parse(b"".join(parts)) == [seen(event) for event in batch]
    assert [parse(part) for part in parts] == [[seen(event)] for event in batch]
    assert [sse.unchunk(frame) for frame in frames] == parts


def check_draft(draft: Draft) -> None:
    """What was accepted from a producer reaches clients whole, in both formats."""
    event = placed(draft, 7)
    check_event(event)
    check_json(event)


def check_cut(batch: Sequence[Event], every: int) -> None:
    """A client that gets the bytes in pieces of any size sees the same events."""
    body = b"".join(sse.unchunk(sse.event_frame(event, LOG)) for event in batch)
    pieces = [body[start : start + every] for start in range(0, len(body), every)]
    assert parse(pieces) == [seen(event) for event in batch]


def check_text(text: bytes) -> bool:
    """`text` as an event: its first line the type, which has to be a name; all of it the data, which has to be UTF-8."""
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        return False
    type = decoded.partition("\n")[0][:200] or "message"
    if is_unsafe(type):
        return False
    data = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    event = Event(7, ("public",), type, decoded[:9], (("k", decoded), ("l", (decoded, type))), data)
    # Between others: what one event leaves behind is what the next one suffers from.
    batch = [event._replace(position=6, data=b"before"), event, event._replace(position=8, type="message", data=b"behind")]
    check_event(event)
    check_json(event)
    check_batch(batch)
    check_cut(batch, 1 + len(text) % 7)
    return True
