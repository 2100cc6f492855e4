"""Cursors that come back as Last-Event-ID: one of this log, none, or a reason for a resync; never another place."""

from __future__ import annotations

from collections.abc import Sequence

from sse_daemon.config import EVENTS
from sse_daemon.errors import InvalidCursor, RequestRefused
from sse_daemon.event import Cursor
from sse_daemon.request import Request

LOG = "0123456789ab"
HEAD = 10
NAMES = ("Last-Event-ID", "last_event_id", "lastEventId")
"""Where a cursor may stand: in the header, and in two query parameters."""


def check_parse(text: str) -> bool:
    """Whatever is read as a cursor is spelled exactly so."""
    try:
        cursor = Cursor.parse(text)
    except InvalidCursor as error:
        assert str(error) == "not a cursor of this daemon"
        return False
    assert str(cursor) == text and len(text) <= 64
    assert 0 <= cursor.position < 10**18
    return True


def check_coming_back(headers: Sequence[str], first: Sequence[str], second: Sequence[str]) -> bool:
    """What a request makes of cursors in the header and in both parameters."""
    named = dict(zip(NAMES, (headers, first, second), strict=True))
    request = asked(lambda name: named[name])
    values = [v for v in headers if v] or [v for v in (*first, *second) if v]
    try:
        cursor, reason = request.cursor(LOG, HEAD)
    except RequestRefused as refused:
        assert (refused.status, refused.code) == (400, "ambiguous_cursor") and len(values) > 1
        return False
    assert len(values) <= 1
    assert (cursor is not None) + (reason is not None) == len(values)
    if cursor is None:
        assert reason in (None, "unknown_cursor", "backend_reset")
        assert not values or not is_here(values[0])
        return False
    assert [str(cursor)] == values and is_here(values[0])
    return True


def asked(values: object) -> Request:
    """A request whose headers and parameters have these values. The fields that say more are of no use for a cursor."""
    fields = {"route": EVENTS, "header": values, "query": values, "parameters": NAMES, "places": {}, "address": "peer"}
    return Request(**{name: fields.get(name) for name in Request._fields})  # type: ignore[arg-type]


def is_here(text: str) -> bool:
    """Whether it is a place of the log, without a parser: there are eleven of them."""
    return text in {f"{LOG}-{position}" for position in range(HEAD + 1)}


def check_bytes(data: bytes) -> bool:
    """Lines: the first is the header's value, or its values if it has commas; then those of the two parameters."""
    headers, first, second = ([*line.split(",")] if line else [] for line in (data.decode("latin-1") + "\n\n").split("\n")[:3])
    for text in (*headers, *first, *second):
        check_parse(text)
    return check_coming_back(headers, first, second)
