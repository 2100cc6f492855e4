"""Events as rows of the SQLite log, and back; imported as sse_daemon.backends.sqlite_rows, never under the bare name."""

from __future__ import annotations

from hashlib import blake2b
from typing import TypeAlias
from zlib import crc32

import ujson

from sse_daemon.errors import BackendUnavailable
from sse_daemon.event import Attrs, Draft, Event

Body: TypeAlias = tuple[str, bytes, int]
"""(head, data, checksum): an event but for its position. head: JSON of everything but the data, short lists by place."""

ROW_BYTES = 100
"""What an event's row costs in the file beside its texts and data."""
PLACE_BYTES = 24
"""What each of its channels costs in the index."""


def channel_key(name: str) -> int:
    """The 64 bits under which a channel's events are indexed. Readers compare the names too: two channels may share a key."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def body_of(position: int, draft: Draft) -> Body:
    """The row of `draft` at `position`."""
    head = ujson.dumps(
        [draft.channels, draft.type, draft.topic, draft.attrs, draft.expires], ensure_ascii=False, escape_forward_slashes=False
    )
    return head, draft.data, _checksum(position, head, draft.data)


def event_of(position: int, head: str, data: bytes, checksum: int) -> Event:
    """The event of a row. Raises BackendUnavailable if the row is not what was written."""
    if _checksum(position, head, data) != checksum:
        raise BackendUnavailable(f"the event at position {position} is damaged on the disk; restore the file from a backup")
    channels, type, topic, attrs, expires = ujson.loads(head)
    return Event(position, tuple(channels), type, topic, _attrs(attrs), data, expires)


def cost_of(body: Body, channels: int) -> int:
    """Bytes that the event takes in the file, roughly."""
    return ROW_BYTES + PLACE_BYTES * channels + len(body[0]) + len(body[1])


def channels_of(head: str) -> list[str]:
    """The channels of a row."""
    channels: list[str] = ujson.loads(head)[0]
    return channels


def _attrs(pairs: list[tuple[str, str | list[str]]]) -> Attrs:
    return tuple([(name, value if isinstance(value, str) else tuple(value)) for name, value in pairs])


def _checksum(position: int, head: str, data: bytes) -> int:
    return crc32(data, crc32(head.encode(), position & 0xFFFFFFFF))
