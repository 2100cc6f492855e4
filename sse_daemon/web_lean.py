"""The door for the plain case: a connection that has sent a whole GET of a stream, and nothing else, when it is accepted.

What has come is looked at without being taken (MSG_PEEK) and understood by Tornado's own parser of start lines and headers. If
it is plain it is taken, and the accepted socket itself becomes the stream. Whatever is not plain in every respect is left
to Tornado's server, as if nobody had looked: incomplete and malformed heads, bodies, other methods, versions and paths,
long-polls, anything behind the head.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
from http.client import responses
from typing import Any

from tornado.escape import parse_qs_bytes
from tornado.httputil import HTTPHeaders, HTTPInputError, RequestStartLine, format_timestamp, parse_request_start_line

from sse_daemon import sse
from sse_daemon.errors import BackendError, RequestRefused
from sse_daemon.listener import peer_name
from sse_daemon.log import logger
from sse_daemon.request import Request
from sse_daemon.web_answer import Answer, away, common_headers, explained, failure
from sse_daemon.web_crowd import Crowd
from sse_daemon.web_opening import Away, Opening, decide, join
from sse_daemon.web_request import check, request_of
from sse_daemon.web_site import Site

MAX_PARAMETERS = 100
"""Query parameters of a plain request."""
MAX_ANSWERED = 4096
"""Connections that are being answered at a time. What they wait for, the log or an application, is late for everybody."""
MAX_STRAY = 65536
"""Bytes of what a client says behind its request that are read before its connection is closed."""

_END = re.compile(rb"\r?\n\r?\n")
"""Where Tornado's server sees the end of a head."""
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")
_NOT_PLAIN = ("Content-Length", "Transfer-Encoding", "Expect", "Upgrade")

_log = logger("web")


class LeanDoor:
    """Opens streams on accepted sockets."""

    def __init__(self, site: Site, loop: asyncio.AbstractEventLoop) -> None:
        self._site = site
        self._loop = loop
        http = site.config().http
        self._longest = http.max_header
        self._crowd = Crowd(http.max_per_address, site.config().shared_addresses)
        self._answering: dict[asyncio.Task[None], tuple[socket.socket, str | None]] = {}

    def take(self, connection: socket.socket, peer: Any) -> bool:
        """Takes the connection if its request is plain and there is room for its address; False: it is untouched."""
        name = self._crowd.name(peer)
        if not self._crowd.has_room(name):
            return False
        try:
            seen = connection.recv(self._longest, socket.MSG_PEEK)
        except OSError:  # nothing yet, or a client that has gone: Tornado finds out
            return False
        request = self._plain(seen, peer)
        if request is None:
            return False
        connection.recv(len(seen))
        task = self._loop.create_task(self._answer(connection, request))
        self._answering[task] = connection, name
        self._crowd.add(name)
        task.add_done_callback(self._answered)
        return True

    async def close(self) -> None:
        """Ends what is still being answered."""
        for task in tuple(self._answering):
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    def _plain(self, seen: bytes, peer: Any) -> Request | None:
        """The request that these bytes are, no more and no less; None if it is not a plain one."""
        end = _END.search(seen)
        if end is None or end.end() != len(seen) or seen.count(b"\n") != seen.count(b"\r\n"):
            return None
        line, _, fields = seen.decode("latin-1").partition("\r\n")
        try:
            start, headers = parse_request_start_line(line), HTTPHeaders.parse(fields)
            query = start.path.partition("?")[2]
            arguments = parse_qs_bytes(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
            if not _is_plain(start, headers):
                return None
            request = request_of(self._site.config(), start.method, start.path, headers, arguments, peer_name(peer))
        except (HTTPInputError, ValueError, RequestRefused):
            return None
        return None if request.wants_json() else request

    async def _answer(self, connection: socket.socket, request: Request) -> None:
        decision = await self._decide(request)
        if isinstance(decision, Opening):
            join(self._site, decision, connection)
        else:
            _finish(connection, self._bytes_of(decision, request))

    def _answered(self, task: asyncio.Task[None]) -> None:
        connection, name = self._answering.pop(task)
        self._crowd.remove(name)
        if task.cancelled():
            connection.close()
        elif (defect := task.exception()) is not None:
            _log.error("request failed", exc_info=defect)
            connection.close()

    async def _decide(self, request: Request) -> Opening | Answer:
        try:
            check(self._site, request.header)
            crowded = len(self._answering) > MAX_ANSWERED
            decision = _crowded(request) if crowded else await decide(self._site, request, chunked=True)
        except (RequestRefused, BackendError) as error:
            return explained(request, error)
        except Exception:  # noqa: BLE001
            # A defect of ours, met by one request: it must not take the connection's end with it.
            _log.exception("request failed")
            return failure(500)
        return away(self._site, *decision) if isinstance(decision, Away) else decision

    def _bytes_of(self, answer: Answer, request: Request) -> bytes:
        """The answer as Tornado's handlers would write it."""
        common = common_headers(self._site, request.header("Origin"))
        ending = [
            ("Date", format_timestamp(self._site.wall())),
            ("Content-Length", str(len(answer.body))),
            ("Connection", "close"),
        ]
        headers = {**dict(common), **dict(ending), **dict(answer.headers)}
        return sse.head(f"{answer.status} {responses[answer.status]}", headers.items()) + answer.body


def _crowded(request: Request) -> Away:
    # Who asks is not known yet. As somebody else each time it gets a `retry` each time; a browser would take a 503 as final.
    refused = RequestRefused(503, "overloaded", "too many wait just now; come back later")
    return Away(request, f"{random.getrandbits(48):x}", "overload", refused)


def _is_plain(start: RequestStartLine, headers: HTTPHeaders) -> bool:
    """Whether it is a GET of HTTP/1.1 without a body, with the one Host that HTTP/1.1 demands."""
    if start.method != "GET" or start.version != "HTTP/1.1" or any(name in headers for name in _NOT_PLAIN):
        return False
    hosts = headers.get_list("Host")
    return len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None


def _finish(connection: socket.socket, answer: bytes) -> None:
    """Sends an answer, which a new connection's buffer takes whole, and ends the connection."""
    try:
        connection.send(answer)
        connection.recv(MAX_STRAY)  # closing over unread input sends a reset, which can eat the answer
    except BlockingIOError:
        pass  # nothing there, as it should be
    except OSError as error:  # it did not wait for its answer
        _log.debug("answer not sent", extra={"error": error.strerror})
    finally:
        connection.close()
