"""How a page of the log ends; imported as sse_daemon.backends.pages, never under the bare name."""

from __future__ import annotations

from collections.abc import Iterable

from sse_daemon.backend import PAGE_BYTES, Page
from sse_daemon.event import Event


def page_of(events: Iterable[Event], limit: int, end: int) -> Page:
    """The first of `events`: at most `limit`, none after PAGE_BYTES of data, each position once.

    `events` are in order and are all there is up to `end`; one that is on several channels may come several times in a row.
    """
    taken: list[Event] = []
    size = last = 0
    for event in events:
        if event.position == last:
            continue
        last = event.position
        taken.append(event)
        size += len(event.data)
        if len(taken) == limit or size > PAGE_BYTES:
            return Page(taken, last)
    return Page(taken, end)
