"""Heads of HTTP requests: what the lean door takes is plain, and means to it what it means to Tornado's server and its handlers.

Tornado reads from a real socket, with the daemon's settings, and routes to the daemon's handlers; only that they answer with what
they understood instead of opening a stream.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from attrs import evolve
from tornado.httpserver import HTTPServer
from tornado.web import Application

from sse_daemon.config import Config
from sse_daemon.config_route import Route
from sse_daemon.config_tables import HttpConfig
from sse_daemon.errors import RequestRefused
from sse_daemon.request import Request
from sse_daemon.web import MAX_REQUEST_BODY, serve
from sse_daemon.web_answer import Answer
from sse_daemon.web_handlers import Events, Nothing
from sse_daemon.web_lean import LeanDoor
from sse_daemon.web_request import check, pattern

ROUTES = (
    Route(
        path="/chats/{chat}", topic="chat.{chat}", header="X-Key", query="key", filters={"msg_types": "type", "by": "attrs.by"}
    ),
    Route(path="/{a}/of/{b}", participant="optional", heartbeat="event", format="json"),
)
CONFIG = evolve(Config(), stream=ROUTES, http=HttpConfig(hosts=("x",), cors_origins=("http://here",)))
LOG = "0123456789ab"
HEAD = 10
PEER = ("192.0.2.1", 1234)
MAX_FILTERS = 16

_PLAIN = re.compile(
    rb"GET /[\x21-\x7e\x80-\xff]* HTTP/1\.1\r\n"  # a server may be lax about bytes beyond ASCII, and Tornado is
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)+\r\n"
)
"""RFC 9112, 3 and 5, without what a server may also let pass: bare line feeds, folded lines, spaces around the name."""
_BODY = re.compile(rb"^(?:content-length|transfer-encoding|expect|upgrade)[\t ]*:", re.IGNORECASE | re.MULTILINE)
_HOST = re.compile(rb"^host[\t ]*:", re.IGNORECASE | re.MULTILINE)
_NAME = re.compile(rb"^([!#$%&'*+.^_`|~0-9A-Za-z-]+):", re.MULTILINE)


class Recording(Events):
    """Notes the request that came, where its elder opens a stream."""

    got: list[Request]

    async def _answer(self, request: Request) -> None:
        self.got.append(request)
        self.answer_and_close(Answer(200, [], b""))


class Doors:
    """Both doors of one daemon that has no streams. Not for use inside of a running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        site: Any = SimpleNamespace(config=lambda: CONFIG, authenticator=SimpleNamespace(proves=True))
        self._site = site
        self._lean = LeanDoor(site, self._loop)
        self._handler = type("Handler", (Recording,), {"got": []})
        routes = [(pattern(route.path).pattern, self._handler, {"site": site, "header": route.header}) for route in CONFIG.routes]
        self._application = Application(
            routes,  # type: ignore[arg-type]
            default_handler_class=Nothing,
            default_handler_args={"site": site},
            log_function=lambda _: None,
        )

    def close(self) -> None:
        """Ends the loop."""
        self._loop.close()

    def lean(self, head: bytes) -> Request | None:
        """The request if the lean door would take it."""
        return self._lean._plain(head, PEER)

    def check(self, request: Request) -> None:
        """What the lean door looks at before it answers. Raises RequestRefused."""
        check(self._site, request.header)

    def tornado(self, head: bytes) -> tuple[list[Request], bytes]:
        """The requests that the other door understands when a client says this and no more, and what it answers."""
        self._handler.got = []
        answer = self._loop.run_until_complete(self._ask(head))
        return self._handler.got, answer

    async def _ask(self, head: bytes) -> bytes:
        ended = asyncio.Event()
        http = _Server(self._application, max_header_size=CONFIG.http.max_header, max_body_size=MAX_REQUEST_BODY)
        http.ended = ended.set
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            theirs.sendall(head)
            theirs.shutdown(socket.SHUT_WR)
            serve(http, ours, PEER)
            async with asyncio.timeout(5):
                await ended.wait()
                await asyncio.sleep(0)
            return theirs.recv(65536)


class _Server(HTTPServer):
    """Tornado's, which says when it is done with its one connection."""

    ended: Callable[[], None]

    def on_close(self, server_conn: object) -> None:
        super().on_close(server_conn)
        self.ended()


def check_head(doors: Doors, head: bytes) -> bool:
    """The lean door leaves it alone, or it is one plain request that both doors understand alike. Tornado's never fails."""
    taken = doors.lean(head)
    with no_complaints():
        got, answer = doors.tornado(head)
    assert answer[:9] in (b"", b"HTTP/1.1 ") and answer[9:10] in (b"", b"1", b"2", b"4"), "a defect, not a refusal"
    meanings = [meaning(request) for request in got]
    if taken is None:
        return False
    check_plain(head)
    refused = outcome(lambda: doors.check(taken))
    if refused is not None:
        assert not got and answer.startswith(b"HTTP/1.1 %d " % refused[0])
        return False
    said = meaning(taken)
    assert meanings == [said]
    names = {match.decode() for match in _NAME.findall(head)}
    assert all(taken.header(name) == got[0].header(name) for name in names)
    check_written_again(doors, taken, said)
    return True


def check_plain(head: bytes) -> None:
    """A GET of the strict grammar, with one Host and nothing behind it or to come."""
    assert _PLAIN.fullmatch(head), "not of the strict grammar"
    assert len(_HOST.findall(head)) == 1
    assert not _BODY.search(head)
    assert head.count(b"\r\n\r\n") == 1


def meaning(request: Request) -> dict[str, Any]:
    """What the daemon reads in a request, and what it refuses in it."""
    return {
        "route": request.route.path,
        "places": dict(request.places),
        "parameters": sorted(request.parameters),
        "address": request.address,
        "topic": outcome(request.topic),
        "keys": outcome(lambda: key_values(request)),
        "cursor": outcome(lambda: request.cursor(LOG, HEAD)),
        "filter": outcome(lambda: request.filter(None, MAX_FILTERS)),
        "heartbeat": outcome(request.heartbeat_is_event),
        "wait": outcome(lambda: request.number("wait", 25, 60)),
        "limit": outcome(lambda: request.number("limit", 100, 1000)),
        "json": request.wants_json(),
        "stream": request.accepts("text/event-stream"),
        "origin": request.header("Origin"),
    }


def key_values(request: Request) -> tuple[list[str], list[str]]:
    """Every claim of a key that the request makes."""
    asking = request.asking(None)
    return list(asking.header_keys), list(asking.query_keys)


def outcome(read: Callable[[], Any]) -> Any:
    """What is read, or the refusal: nothing else may come of what a client wrote."""
    try:
        return read()
    except RequestRefused as refused:
        assert 400 <= refused.status < 500 and refused.code.replace("_", "").isalnum()
        return refused.status, refused.code, refused.detail


def check_written_again(doors: Doors, request: Request, said: dict[str, Any]) -> None:
    """Written in the one plainest way, the request still says the same."""
    try:
        head = written(request)
    except RequestRefused:  # a value that is no text: it has no plain way
        return
    if len(head) > CONFIG.http.max_header:
        return
    again = doors.lean(head)
    assert again is not None and meaning(again) == said


def written(request: Request) -> bytes:
    """The request with what it is understood by and nothing else, every byte escaped that can be."""
    places = iter(quote(place, safe="") for place in request.places.values())
    path = re.sub(r"\{\w+\}", lambda _: next(places), request.route.path)
    query = "&".join(
        f"{quote(name, safe='', encoding='latin-1')}={quote(value, safe='')}"
        for name in request.parameters
        for value in request.query(name)
    )
    names = dict.fromkeys((request.route.header, "Last-Event-ID", "Accept", "Origin"))
    lines = [f"{name}: {value}" for name in names for value in request.header(name)]
    return "\r\n".join([f"GET {path}?{query} HTTP/1.1", "Host: x", *lines, "", ""]).encode("latin-1")


@contextmanager
def no_complaints() -> Iterator[None]:
    """Fails if something was logged that an operator would have to look at: a stranger's bytes are no defect of the daemon."""
    heard = _Heard(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("sse_daemon", "tornado", "asyncio")]
    for logger in loggers:
        logger.addHandler(heard)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(heard)
    assert not heard.lines, heard.lines


class _Heard(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter().format(record))
