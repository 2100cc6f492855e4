"""From a request that was understood to a place in the hub, by whichever door it came.

`decide` says what becomes of the request; whoever has the connection then calls `join`, without an await between: nothing may
come between the position that the opening represents and the stream's place in the hub.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
import time
from typing import NamedTuple, TypeAlias

from tornado.iostream import IOStream, StreamClosedError

from sse_daemon import sse
from sse_daemon.catchup import preamble, resync_blocks
from sse_daemon.errors import AuthUnavailable, RequestRefused
from sse_daemon.log import Sparing, logger
from sse_daemon.longpoll import Poll
from sse_daemon.request import Request, fill
from sse_daemon.stream import Stream
from sse_daemon.web_answer import note, stream_head
from sse_daemon.web_request import Asked, understand
from sse_daemon.web_site import Site

_sparing = Sparing(logger("web"), time.monotonic)


class Opening(NamedTuple):
    """A stream that may open: its first blocks, and the position that they represent."""

    asked: Asked
    blocks: bytes
    position: int


class Away(NamedTuple):
    """A stream that cannot be opened now, but later. client: what tells apart who asks from one address; reason: "drain" ...

    refused: what is answered to whoever is no browser.
    """

    request: Request
    client: str | None
    reason: str
    refused: RequestRefused


Decision: TypeAlias = Opening | Away


async def decide(site: Site, request: Request, *, chunked: bool) -> Decision:
    """What becomes of a request for a stream. Raises RequestRefused, BackendError."""
    try:
        asked = await understand(site, request, chunked=chunked)
    except AuthUnavailable as error:
        return Away(request, error.client, "unavailable", error)
    reason = obstacle(site, asked)
    if reason is None and site.guests.too_fast(asked.profile):
        reason = "overload"
    if reason is not None:
        return _no_room(asked, reason)
    opening = await _opening(site, asked)
    # Again: the log was waited for, and meanwhile an operator may have acted, or a crowd have come in by the same way.
    site.door.check_barred(asked.profile.participant)
    return opening if (reason := obstacle(site, asked)) is None else _no_room(asked, reason)


def _no_room(asked: Asked, reason: str) -> Away:
    refused = _draining() if reason == "drain" else RequestRefused(503, "overloaded", "no more streams just now; come back later")
    return Away(asked.request, asked.profile.participant, reason, refused)


def _draining(soon: int | None = None) -> RequestRefused:
    return RequestRefused(503, "draining", "this daemon is going away; its successor takes it", soon)


def obstacle(site: Site, asked: Asked) -> str | None:
    """Why there is no room for this stream: "drain" or "overload"; else None."""
    return site.door.obstacle() or ("overload" if site.guests.too_many(asked.profile) else None)


def check_room(site: Site, asked: Asked) -> None:
    """Whether there is room for this long-poll, by what holds for streams too. Raises RequestRefused: 503, or 429 for this client alone."""
    soon = math.ceil(site.door.bye_ms() / 1000)
    if site.door.closed_for is not None:
        raise _draining(soon)
    if site.door.obstacle() is not None:
        raise RequestRefused(503, "overloaded", "no more requests just now; come back later", soon)
    if site.guests.too_fast(asked.profile):
        raise RequestRefused(429, "too_many_requests", "faster than this client may ask; come back later", soon)
    if site.guests.too_many(asked.profile):
        raise RequestRefused(429, "too_many_streams", "this client has as many streams and waiting requests as it may", soon)


def check_kept(site: Site, poll: Poll) -> None:
    """Whether a long-poll's client may still have the answer. Raises RequestRefused: 403 or, for who may come back at once, 503."""
    site.door.check_barred(poll.profile.participant)
    if poll.kicked:
        raise RequestRefused(503, "kicked", "an operator has ended this request", math.ceil(site.door.bye_ms() / 1000))


async def _opening(site: Site, asked: Asked) -> Opening:
    if asked.cursor is not None:
        return Opening(asked, _first(site, asked, str(asked.cursor)), asked.cursor.position)
    snapshots = await site.backend.retained(asked.profile.subscription.channels)
    if asked.resync is None:
        blocks = preamble(lambda id: _first(site, asked, id), snapshots, asked.profile)
    else:
        blocks = _first(site, asked, "") + resync_blocks(asked.resync, None, snapshots, asked.profile)
    return Opening(asked, blocks, snapshots.at)


def _first(site: Site, asked: Asked, id: str) -> bytes:
    """The stream's first block: it sets the reconnection time, and names the client where the route has it so."""
    retry, profile, route = site.door.retry_ms(), asked.profile, asked.request.route
    if not route.first:
        return sse.retry(retry, id)
    if route.first_data is None:
        data = sse.dumps({"client_id": profile.id, "participant": profile.participant})
    else:
        values = {"client_id": profile.id, "participant": profile.participant or "", "topic": asked.topic or ""}
        data = fill(route.first_data, {**asked.request.places, **values})
    return sse.block(data, type=route.first_event, id=id, retry=retry)


def join(site: Site, opening: Opening, connection: socket.socket) -> None:
    """Writes the head and the opening to the connection, which is the hub's from here on."""
    asked, profile = opening.asked, opening.asked.profile
    wire = profile.wire
    response = stream_head(site, asked.request.header("Origin"), chunked=wire.chunked) + wire.wrap(opening.blocks)
    stream = Stream(connection, profile, response, opening.position, opening.position, asyncio.get_running_loop().time())
    stream.settled = asked.cursor is None
    if asked.resync is not None:
        site.catchup.resyncs[asked.resync] += 1
    site.hub.join(stream)
    site.guests.note(profile)
    site.liveness.watch(stream)
    note(asked.request, profile.participant, "stream opened", id=profile.id, route=profile.route)


def bare(iostream: IOStream) -> socket.socket | None:
    """The connection as a bare socket; None if the client has gone, or has said more than its request, or files have run out."""
    if iostream.closed():
        return None
    # What IOStream has read already would be invisible to us.
    more = asyncio.ensure_future(iostream.read_bytes(1, partial=True))
    try:
        if more.done():
            return None
        # A second descriptor of the connection: the first one goes with the IOStream, which has no way to let go of it.
        second = os.dup(iostream.socket.fileno())
    except OSError as error:
        # The client finds its connection closed without an answer: a browser's EventSource too then comes back.
        _sparing.info("stream not opened", error=error.strerror)
        return None
    finally:
        more.add_done_callback(_ignore_closed)
        iostream.close()
    return socket.socket(fileno=_lowered(second))


def _lowered(file: int) -> int:
    """The same file by the lowest number that is free, if that is lower: high ones are not for clients (`listener.KEPT_BACK`)."""
    try:
        lower = os.dup(file)
    except OSError:  # whatever was freed a moment ago is in use again
        return file
    os.close(max(file, lower))
    return min(file, lower)


def _ignore_closed(future: asyncio.Future[bytes]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None and not isinstance(error, StreamClosedError):
        raise error
