"""Tornado's handlers: every request that is not a plain one for a stream. A handler authorises and decides; it never stays with
a stream: once the response's head is known, the socket leaves Tornado and belongs to the hub.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from tornado.http1connection import HTTP1Connection
from tornado.web import HTTPError, RequestHandler

from sse_daemon.errors import BackendError, RequestRefused
from sse_daemon.listener import peer_name
from sse_daemon.log import logger
from sse_daemon.request import Request
from sse_daemon.web_answer import METHODS, Answer, away, common_headers, explained, failure, refusal, stream_head, unread
from sse_daemon.web_opening import Away, bare, check_kept, check_room, decide, join
from sse_daemon.web_request import Asked, check, request_of, understand
from sse_daemon.web_site import Site

SIGNED_HEADERS = ("X-Public-Key", "Signature-Input", "Signature")
BODILESS = ("GET", "HEAD", "OPTIONS")

_log = logger("web")


class Base(RequestHandler):
    """What all answers share: CORS by an exact list, errors as JSON, nothing of the request in a header."""

    methods = METHODS
    route_headers: tuple[str, ...] = ()

    def initialize(self, site: Site) -> None:
        self.site = site

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        if hasattr(self, "site"):  # Tornado calls this before `initialize`, and again before it writes an error
            for name, value in common_headers(self.site, self.request.headers.get_list("Origin")):
                self.set_header(name, value)

    def prepare(self) -> None:
        self.set_default_headers()
        try:
            check(self.site, self.request.headers.get_list)
            self._check_body()
        except RequestRefused as refused:
            self.answer_and_close(unread(refused, self._peer()))

    def _peer(self) -> str:
        return peer_name(getattr(self.request.connection.context, "address", None))  # type: ignore[union-attr]

    def _check_body(self) -> None:
        """Raises RequestRefused for a body where there can be none: what one program takes for a body, another takes for a request."""
        headers = self.request.headers
        if self.request.method in BODILESS and ("Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0"):
            raise RequestRefused(400, "body_refused", "a request of this method has no body")

    def options(self, **_: str) -> None:
        """A preflight, or a plain question what is allowed."""
        self.set_status(204)
        self.set_header("Allow", self.methods)
        if "Access-Control-Allow-Origin" in self._headers:
            self.set_header("Access-Control-Allow-Methods", self.methods)
            allowed = ("Last-Event-ID", "Cache-Control", "Authorization", *self.route_headers)
            auth = self.site.config().auth
            asked_for = auth.hook_headers if auth.mode == "hook" else SIGNED_HEADERS if self.site.authenticator.proves else ()
            self.set_header("Access-Control-Allow-Headers", ", ".join(dict.fromkeys((*allowed, *asked_for))))
            self.set_header("Access-Control-Max-Age", "600")

    def answer_and_close(self, answer: Answer) -> None:
        """Answers and ends the connection: what follows on it was meant for another answer."""
        self.set_status(answer.status)
        for name, value in answer.headers:
            self.set_header(name, value)
        # Tornado looks at the request's Connection header only, not at the answer's.
        self.set_header("Connection", "close")
        connection = cast(HTTP1Connection, self.request.connection)
        self.finish(answer.body).add_done_callback(lambda _: connection.close())

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if status_code == 405:  # RFC 9110, 15.5.6: it says what is allowed
            self.set_header("Allow", self.methods)
        self.answer_and_close(failure(status_code, self.methods))

    def compute_etag(self) -> None:
        """No answer has a tag: none of them is ever asked for again to see whether it changed, and a 304 would be no JSON."""

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        if not isinstance(value, HTTPError):
            _log.error("request failed", exc_info=value)


class Nothing(Base):
    """Every path that is no route."""

    def prepare(self) -> None:
        super().prepare()
        if not self._finished:
            self.answer_and_close(failure(404))


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
            self.answer_and_close(refusal(RequestRefused(503, "not_ready", why)))

    head = get


class Events(Base):
    """GET of a route: a stream, or a long-poll answer."""

    def initialize(self, site: Site, header: str) -> None:  # type: ignore[override]
        super().initialize(site)
        self.route_headers = (header,)
        self._waiting: asyncio.Task[Any] | None = None

    async def get(self, **_: str) -> None:
        http = self.request
        try:
            method, target = http.method or "", http.uri or ""
            request = request_of(self.site.config(), method, target, http.headers, http.query_arguments, self._peer())
        except RequestRefused as refused:
            self.answer_and_close(refusal(refused))
            return
        try:
            await self._answer(request)
        except (RequestRefused, BackendError) as error:
            self.answer_and_close(explained(request, error))

    head = get

    def on_connection_close(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    @property
    def _chunked(self) -> bool:
        return self.request.version != "HTTP/1.0"

    async def _answer(self, request: Request) -> None:
        if self.request.method == "HEAD":
            await understand(self.site, request, chunked=self._chunked)
            self._head_only()
        elif request.wants_json():
            await self._long_poll(await understand(self.site, request, chunked=self._chunked))
        else:
            await self._stream(request)

    def _head_only(self) -> None:
        """A stream's head as it is: Tornado would add a length, which no stream has."""
        connection = self.detach()
        connection.write(stream_head(self.site, self.request.headers.get_list("Origin"), chunked=self._chunked))
        connection.close()  # a new connection's buffer has taken the head

    async def _stream(self, request: Request) -> None:
        decision = await decide(self.site, request, chunked=self._chunked)
        if isinstance(decision, Away):
            self.answer_and_close(away(self.site, *decision))
        elif (connection := bare(self.detach())) is not None:
            join(self.site, decision, connection)

    async def _long_poll(self, asked: Asked) -> None:
        settings = self.site.config().streams
        wait = asked.request.number("wait", settings.wait, settings.max_wait)
        limit = max(1, int(asked.request.number("limit", settings.limit, settings.limit)))
        check_room(self.site, asked)
        with self.site.longpoll.open(asked.profile) as poll:
            self.site.guests.note(asked.profile)
            if asked.cursor is None:
                answering = self.site.longpoll.present(asked.profile, asked.resync)
            else:
                answering = self.site.longpoll.after(poll, asked.cursor.position, wait, limit)
            self._waiting = asyncio.ensure_future(answering)
            try:
                answer = await self._waiting
            except asyncio.CancelledError:
                return  # the client has gone
            finally:
                self._waiting = None
        check_kept(self.site, poll)
        self.set_header("Content-Type", "application/json")
        self.finish(answer.body())
