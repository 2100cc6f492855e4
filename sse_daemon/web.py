"""The clients' side: HTTP requests in, open streams, JSON answers or refusals out. A handler authorises and decides; it never
stays with a stream: once the response's head is known, the socket leaves Tornado and belongs to the hub.
"""

from __future__ import annotations

import asyncio
import math
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

from tornado.http1connection import HTTP1Connection
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler

from sse_daemon import sse
from sse_daemon.auth import Authenticator, Grant
from sse_daemon.backend import Backend
from sse_daemon.catchup import CatchUp, preamble, resync_blocks
from sse_daemon.config import Config
from sse_daemon.directory import Directory
from sse_daemon.door import Door
from sse_daemon.errors import BackendError, RequestRefused
from sse_daemon.event import Cursor
from sse_daemon.hub import Hub
from sse_daemon.listener import peer_name
from sse_daemon.liveness import Liveness
from sse_daemon.log import logger
from sse_daemon.longpoll import LongPoll
from sse_daemon.participant import short
from sse_daemon.request import Request, fill
from sse_daemon.stream import Profile, Stream, Wire
from sse_daemon.subscription import narrowed

MAX_REQUEST_BODY = 64 * 1024
READ_BUFFER = 128 * 1024
"""Bytes of a request that Tornado may hold; a response is never in an IOStream for longer than one write."""
METHODS = "GET, HEAD, OPTIONS"

_PLACE = re.compile(r"\{(\w+)\}")
_log = logger("web")


class Site(NamedTuple):
    """What the handlers work with. `ready`: why the daemon is not ready, or None; `wall`: Unix time."""

    config: Callable[[], Config]
    hub: Hub
    catchup: CatchUp
    longpoll: LongPoll
    liveness: Liveness
    backend: Backend
    directory: Directory
    authenticator: Authenticator
    door: Door
    ready: Callable[[], str | None]
    wall: Callable[[], float]


def server(site: Site) -> HTTPServer:
    """The HTTP server for clients; it listens on nothing, connections are handed to it by `serve`."""
    http = site.config().http
    return HTTPServer(
        application(site),
        idle_connection_timeout=http.header_timeout,
        body_timeout=http.body_timeout,
        max_header_size=http.max_header,
        max_body_size=MAX_REQUEST_BODY,
        decompress_request=False,
    )


def serve(http: HTTPServer, connection: socket.socket, peer: Any) -> None:
    """Lets `http` read requests from an accepted connection."""
    http.handle_stream(IOStream(connection, max_buffer_size=READ_BUFFER, max_write_buffer_size=None), peer or ())


def application(site: Site) -> Application:
    """The routes: the built-in ones and every `[[stream]]`."""
    handlers: list[Any] = [(r"/healthz", Health, {"site": site}), (r"/readyz", Ready, {"site": site})]
    for route in site.config().routes:
        handlers.append((_pattern(route.path), Events, {"site": site, "path": route.path}))
    return Application(handlers, default_handler_class=Nothing, default_handler_args={"site": site}, log_function=lambda _: None)


def _pattern(path: str) -> str:
    """The regular expression of a route's path: a {name} is one segment that is not empty."""
    parts = _PLACE.split(path)
    return "".join(re.escape(part) if i % 2 == 0 else f"(?P<{part}>[^/]+)" for i, part in enumerate(parts))


class Base(RequestHandler):
    """What all answers share: CORS by an exact list, errors as JSON, nothing of the request in a header."""

    route_headers: tuple[str, ...] = ()

    def initialize(self, site: Site) -> None:
        self.site = site

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        for name, value in self.cors():
            self.set_header(name, value)

    def cors(self) -> list[tuple[str, str]]:
        """The CORS headers for this request: for a listed origin its own name, from the list."""
        site: Site | None = getattr(self, "site", None)  # Tornado sets default headers before it calls initialize
        origins = site.config().http.cors_origins if site else ()
        if not origins:
            return []
        headers = [("Vary", "Origin")]
        asked = self.request.headers.get_list("Origin")
        for origin in origins:
            if asked == [origin]:
                headers += [("Access-Control-Allow-Origin", origin), ("Access-Control-Allow-Credentials", "true")]
        return headers

    def prepare(self) -> None:
        self.set_default_headers()

    def options(self, **_: str) -> None:
        """A preflight, or a plain question what is allowed."""
        self.set_status(204)
        self.set_header("Allow", METHODS)
        if "Access-Control-Allow-Origin" in self._headers:
            self.set_header("Access-Control-Allow-Methods", METHODS)
            allowed = ("Last-Event-ID", "Cache-Control", "Authorization", *self.route_headers)
            self.set_header("Access-Control-Allow-Headers", ", ".join(allowed))
            self.set_header("Access-Control-Max-Age", "600")

    def refuse(self, refused: RequestRefused, retry_after: int | None = None) -> None:
        """Answers with the refusal and ends the connection: what follows on it was meant for another answer."""
        self.set_status(refused.status)
        self.set_header("Content-Type", "application/json")
        if retry_after is not None:
            self.set_header("Retry-After", str(retry_after))
        self.finish_and_close(sse.dumps({"error": refused.code, "detail": refused.detail}))

    def finish_and_close(self, body: bytes) -> None:
        """Sends the answer and ends the connection. Tornado looks at the request's Connection header only, not at the answer's."""
        self.set_header("Connection", "close")
        connection = cast(HTTP1Connection, self.request.connection)
        self.finish(body).add_done_callback(lambda _: connection.close())

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if status_code == 405:  # RFC 9110, 15.5.6: it says what is allowed
            self.set_header("Allow", METHODS)
        self.refuse(RequestRefused(status_code, *_ERRORS.get(status_code, ("error", "the request cannot be answered"))))

    def compute_etag(self) -> None:
        """No answer has a tag: none of them is ever asked for again to see whether it changed, and a 304 would be no JSON."""

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        if not isinstance(value, HTTPError):
            _log.error("request failed", exc_info=value)


_ERRORS = {
    400: ("bad_request", "the request is malformed"),
    404: ("not_found", "there is no such route"),
    405: ("method_not_allowed", "this route answers GET, HEAD and OPTIONS"),
    500: ("internal", "a defect of the daemon; it is in its log"),
}


class Nothing(Base):
    """Every path that is no route."""

    def prepare(self) -> None:
        super().prepare()
        self.refuse(RequestRefused(404, *_ERRORS[404]))


class Health(Base):
    """GET /healthz: the process is alive and its loop turns."""

    def get(self) -> None:
        self.finish({"alive": True})

    head = get


class Ready(Base):
    """GET /readyz: it accepts streams and its backend answers; else 503 with the reason."""

    def get(self) -> None:
        why = self.site.ready()
        if why is None:
            self.finish({"ready": True})
        else:
            self.refuse(RequestRefused(503, "not_ready", why))

    head = get


class Asked(NamedTuple):
    """A request for events, understood. topic: the route's; resync: why the cursor that was sent is no use, or None."""

    request: Request
    topic: str | None
    profile: Profile
    cursor: Cursor | None
    resync: str | None


class Events(Base):
    """GET of a route: a stream, or a long-poll answer."""

    def initialize(self, site: Site, path: str) -> None:  # type: ignore[override]
        super().initialize(site)
        self.route = next(r for r in site.config().routes if r.path == path)
        self.route_headers = (self.route.header,)
        self._waiting: asyncio.Task[Any] | None = None

    async def get(self, **places: str) -> None:
        try:
            await self._answer(places)
        except RequestRefused as refused:
            self._note("request refused", code=refused.code)
            self.refuse(refused)
        except BackendError as error:
            _log.warning("the backend failed a request", extra={"error": str(error)})
            self.refuse(RequestRefused(503, "unavailable", "the log does not answer; try again"), retry_after=2)

    head = get

    def on_connection_close(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    async def _answer(self, places: Mapping[str, str]) -> None:
        asked = await self._understand(places)
        if self.request.method == "HEAD":
            self._head_only()
        elif asked.request.wants_json():
            await self._long_poll(asked)
        elif (reason := self.site.door.obstacle()) is not None:
            self._turn_away(asked, reason)
        else:
            await self._open(asked)

    async def _understand(self, places: Mapping[str, str]) -> Asked:
        headers, query = self.request.headers.get_list, partial(self.get_query_arguments, strip=False)
        request = Request(self.route, headers, query, self.request.query_arguments, places, self.address)
        topic = request.topic()
        grant = await self.site.authenticator.admit(request.asking(topic))
        self.site.door.check_barred(grant.participant)
        hub = self.site.hub
        cursor, resync = request.cursor(hub.incarnation, hub.window.head)
        asked = Asked(request, topic, self._profile(request, grant, topic), cursor, resync)
        if self.route.unknown_topic == "404" and topic is not None:
            await self._check_known(topic, asked.profile)
        return asked

    def _profile(self, request: Request, grant: Grant, topic: str | None) -> Profile:
        # A topic's channel holds that topic only; a participant's holds every topic, and the route wants one.
        wanted = request.filter(topic if grant.participant is not None else None, self.site.config().streams.max_filters)
        return Profile(
            id=secrets.token_hex(6),
            participant=grant.participant,
            route=self.route.path,
            address=self.address,
            opened=self.site.wall(),
            subscription=narrowed(grant.channels, wanted),
            wire=Wire(self.request.version != "HTTP/1.0", self.route.format == "json", self.site.hub.incarnation),
            heartbeat_event=request.heartbeat_is_event(),
            expires=self._expiry(grant),
        )

    @property
    def address(self) -> str:
        """The peer of this connection."""
        return peer_name(getattr(self.request.connection.context, "address", None))  # type: ignore[union-attr]

    def _expiry(self, grant: Grant) -> float | None:
        settings = self.site.config().streams
        until = [] if grant.until is None else [grant.until]
        if settings.lifetime:
            jitter = 1 + settings.lifetime_jitter * (2 * secrets.randbelow(1000) / 1000 - 1)
            until.append(asyncio.get_running_loop().time() + settings.lifetime * jitter)
        return min(until, default=None)

    async def _check_known(self, topic: str, profile: Profile) -> None:
        if topic in self.site.directory.topics:
            return
        snapshots = await self.site.backend.retained(profile.subscription.channels)
        if not any(event.topic == topic for event in snapshots.events):
            raise RequestRefused(404, "unknown_topic", "there is no such topic")

    # Answering it.

    def _stream_headers(self) -> list[tuple[str, str]]:
        return [
            ("Content-Type", "text/event-stream; charset=utf-8"),
            ("Cache-Control", "no-store"),
            ("X-Accel-Buffering", "no"),
            ("X-Content-Type-Options", "nosniff"),
            *self.cors(),
        ]

    def _head_only(self) -> None:
        for name, value in self._stream_headers():
            self.set_header(name, value)
        self.finish()

    async def _long_poll(self, asked: Asked) -> None:
        settings = self.site.config().streams
        wait = asked.request.number("wait", settings.wait, settings.max_wait)
        limit = max(1, int(asked.request.number("limit", settings.limit, settings.limit)))
        if self.site.door.closed_for is not None:
            raise RequestRefused(503, "draining", "this daemon is going away; its successor takes it")
        if asked.cursor is None:
            answer = await self.site.longpoll.present(asked.profile, asked.resync)
        else:
            after = self.site.longpoll.after(asked.profile, asked.cursor.position, wait, limit)
            self._waiting = asyncio.ensure_future(after)
            try:
                answer = await self._waiting
            except asyncio.CancelledError:
                return  # the client has gone
            finally:
                self._waiting = None
        self.site.door.check_barred(asked.profile.participant)  # again: it may have been kicked while it waited
        self.set_header("Content-Type", "application/json")
        self.finish(answer.body())

    def _turn_away(self, asked: Asked, reason: str) -> None:
        """A browser's EventSource gives up at any status but 200: it gets an empty stream that sends it away for a while."""
        browser = asked.request.accepts("text/event-stream")
        retry = self.site.door.turn_away(self.request.remote_ip or "", asked.profile.participant) if browser else None
        self._note("stream turned away", reason=reason)
        if retry is None:
            refused = RequestRefused(503, "overloaded", "no more streams just now; come back later")
            self.refuse(refused, retry_after=math.ceil(self.site.door.bye_ms() / 1000))
            return
        for name, value in self._stream_headers():
            self.set_header(name, value)
        self.finish_and_close(sse.bye(reason, retry))

    async def _open(self, asked: Asked) -> None:
        profile = asked.profile
        if asked.cursor is not None:
            position = asked.cursor.position
            opening = self._first(asked, str(asked.cursor))
        else:
            snapshots = await self.site.backend.retained(profile.subscription.channels)
            position = snapshots.at
            if asked.resync is None:
                opening = preamble(lambda id: self._first(asked, id), snapshots, profile)
            else:
                opening = self._first(asked, "") + resync_blocks(asked.resync, None, snapshots, profile)
        head = self._stream_headers() + ([("Transfer-Encoding", "chunked")] if profile.wire.chunked else [])
        response = sse.head("200 OK", [*head, ("Connection", "close")]) + profile.wire.wrap(opening)
        # Again: the log was waited for, and meanwhile an operator may have acted, or a crowd have come in by the same way.
        self.site.door.check_barred(profile.participant)
        if (reason := self.site.door.obstacle()) is not None:
            self._turn_away(asked, reason)
            return
        if asked.resync is not None:
            self.site.catchup.resyncs[asked.resync] += 1
        if (connection := self._take_socket()) is not None:
            stream = Stream(connection, profile, response, position, position, asyncio.get_running_loop().time())
            stream.settled = asked.cursor is None
            self._join(stream)

    def _join(self, stream: Stream) -> None:
        # From here to the hub there is no await: nothing can come between the position and the stream.
        self.site.hub.join(stream)
        self.site.liveness.watch(stream)
        self._note("stream opened", id=stream.profile.id, route=stream.profile.route)

    def _first(self, asked: Asked, id: str) -> bytes:
        """The stream's first block: it sets the reconnection time, and names the client where the route has it so."""
        retry, profile = self.site.door.retry_ms(), asked.profile
        if not self.route.first:
            return sse.retry(retry, id)
        if self.route.first_data is None:
            data = sse.dumps({"client_id": profile.id, "participant": profile.participant})
        else:
            values = {"client_id": profile.id, "participant": profile.participant or "", "topic": asked.topic or ""}
            data = fill(self.route.first_data, {**asked.request.places, **values})
        return sse.block(data, type=self.route.first_event, id=id, retry=retry)

    def _take_socket(self) -> socket.socket | None:
        """The connection as a bare socket; None if the client has gone, or has said more than its request, or files have run out."""
        iostream = self.detach()
        if iostream is None or iostream.closed():
            return None
        # What IOStream has read already would be invisible to us.
        more = asyncio.ensure_future(iostream.read_bytes(1, partial=True))
        try:
            return None if more.done() else socket.socket(fileno=_duplicate(iostream))
        except OSError as error:
            # The client finds its connection closed without an answer: a browser's EventSource too then comes back.
            self._note("stream not opened", error=error.strerror)
            return None
        finally:
            more.add_done_callback(_ignore_closed)
            iostream.close()

    def _note(self, message: str, **facts: Any) -> None:
        participant = self.get_query_arguments(self.route.query) or self.request.headers.get_list(self.route.header)
        key = short(participant[0]) if len(participant) == 1 else None
        _log.info(message, extra={**facts, "participant": key, "address": self.address})


def _duplicate(iostream: IOStream) -> int:
    """A second descriptor of the connection: the first one goes with the IOStream, which has no way to let go of it."""
    return iostream.socket.dup().detach()


def _ignore_closed(future: asyncio.Future[bytes]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None and not isinstance(error, StreamClosedError):
        raise error
