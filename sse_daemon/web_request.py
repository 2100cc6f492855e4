"""What a request asks for, whichever door it came by: from Tornado's parsed head to what may be read and how."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from tornado.escape import url_unescape
from tornado.httputil import HTTPHeaders

from sse_daemon.auth import Grant, Message
from sse_daemon.config_tables import Config
from sse_daemon.errors import RequestRefused
from sse_daemon.event import Cursor
from sse_daemon.forwarded import client
from sse_daemon.gate import gate
from sse_daemon.request import Request, Values
from sse_daemon.stream import Profile, wire_of
from sse_daemon.subscription import narrowed
from sse_daemon.web_site import Site

_PLACE = re.compile(r"\{(\w+)\}")


class Asked(NamedTuple):
    """A request for events, understood. topic: the route's; resync: why the cursor that was sent is no use, or None."""

    request: Request
    topic: str | None
    profile: Profile
    cursor: Cursor | None
    resync: str | None


@cache
def pattern(path: str) -> re.Pattern[str]:
    """The regular expression of a route's path: a {name} is one segment that is not empty."""
    parts = _PLACE.split(path)
    return re.compile("".join(re.escape(part) if i % 2 == 0 else f"(?P<{part}>[^/]+)" for i, part in enumerate(parts)))


def request_of(
    config: Config, method: str, target: str, headers: HTTPHeaders, arguments: Mapping[str, Sequence[bytes]], peer: str
) -> Request:
    """The request in the terms of its route. target: path and query; arguments: the query; peer: who is connected.

    Raises RequestRefused.
    """
    path, _, query = target.partition("?")
    for route in config.routes:
        if (found := pattern(route.path).fullmatch(path)) is not None:
            places = {name: _text(url_unescape(part, encoding=None, plus=False)) for name, part in found.groupdict().items()}
            message = Message(method, path, query, headers.get_list)
            address = address_of(config, headers, peer)
            return Request(route, headers.get_list, _values(arguments), arguments, places, peer, address, message)
    raise RequestRefused(404, "not_found", "there is no such route")


def address_of(config: Config, headers: HTTPHeaders, peer: str) -> str:
    """The address of whose request it is: the peer's, or of whom that speaks for where it is believed."""
    return client(peer, headers.get_list("X-Forwarded-For"), proxies) if (proxies := config.proxies) else peer


def _values(arguments: Mapping[str, Sequence[bytes]]) -> Values:
    return lambda name: [_text(value) for value in arguments.get(name, ())]


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise RequestRefused(400, "bad_request", "the request is malformed") from None


def check(site: Site, header: Values) -> None:
    """Whether a request may ask here at all. header: every value of a header of it. Raises RequestRefused."""
    http = site.config().http
    gate(http.hosts, http.cors_origins).check(header)


async def understand(site: Site, request: Request, *, chunked: bool) -> Asked:
    """Who asks, for what, and from where on. chunked: HTTP/1.1. Raises RequestRefused, BackendError."""
    topic = request.topic()
    grant = await site.authenticator.admit(request.asking(topic))
    site.door.check_barred(grant.participant)
    cursor, resync = request.cursor(site.hub.incarnation, site.hub.window.head)
    if resync == "unknown_cursor" and site.reach is not None:
        # It may have its cursor from another process of this daemon, which was a moment ahead.
        await site.reach()
        cursor, resync = request.cursor(site.hub.incarnation, site.hub.window.head)
    asked = Asked(request, topic, _profile(site, request, grant, topic, chunked), cursor, resync)
    if request.route.unknown_topic == "404" and topic is not None:
        await _check_known(site, topic, asked.profile)
    return asked


def _profile(site: Site, request: Request, grant: Grant, topic: str | None, chunked: bool) -> Profile:
    # A topic's channel holds that topic only; a participant's holds every topic, and the route wants one.
    wanted = request.filter(topic if grant.participant is not None else None, site.config().streams.max_filters)
    return Profile(
        id=f"{site.name}{random.getrandbits(48):012x}",  # a name and no secret: it need not cost a system call
        participant=grant.participant,
        route=request.route.path,
        address=request.address,
        opened=site.wall(),
        subscription=narrowed(grant.channels, wanted),
        wire=wire_of(chunked, request.route.format == "json", site.hub.incarnation),
        heartbeat_event=request.heartbeat_is_event(),
        expires=_expiry(site, grant),
    )


def _expiry(site: Site, grant: Grant) -> float | None:
    settings = site.config().streams
    until = [] if grant.until is None else [grant.until]
    if settings.lifetime:
        jitter = 1 + settings.lifetime_jitter * random.uniform(-1, 1)
        until.append(asyncio.get_running_loop().time() + settings.lifetime * jitter)
    return min(until, default=None)


async def _check_known(site: Site, topic: str, profile: Profile) -> None:
    if topic in site.directory.topics:
        return
    snapshots = await site.backend.retained(profile.subscription.channels)
    if not any(event.topic == topic for event in snapshots.events):
        raise RequestRefused(404, "unknown_topic", "there is no such topic")
