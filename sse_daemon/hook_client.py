"""Asks the application of mode "hook" by HTTP: a GET on a connection of its own, no longer than it may take, and a small answer.

Redirects are answers like others, compression is not asked for, and no proxy of the environment comes between: Tornado's own client
knows none.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tornado.httpclient import HTTPRequest
from tornado.httputil import HTTPHeaders
from tornado.netutil import Resolver
from tornado.simple_httpclient import HTTPTimeoutError, SimpleAsyncHTTPClient

from sse_daemon.auth_question import Question

MAX_ANSWER = 16 * 1024
"""Bytes of an answer's body, and of its head."""
READ_BUFFER = 64 * 1024


class Reply(NamedTuple):
    """An HTTP answer."""

    status: int
    body: bytes


class NoReply(NamedTuple):
    """There was none that could be read. why: "timeout" or "failed"; what: for the log, without anything that was asked or said."""

    why: str
    what: str


class HookClient:
    """url: whom to ask; path: a Unix socket to reach that by, or None; most: questions at a time."""

    def __init__(self, url: str, path: str | None, most: int) -> None:
        self._url = url
        self._place = _Place(url, path)
        self._http = SimpleAsyncHTTPClient(
            force_instance=True,
            max_clients=most,
            resolver=self._place.resolver,
            max_buffer_size=READ_BUFFER,
            max_header_size=MAX_ANSWER,
            max_body_size=MAX_ANSWER,
        )

    async def ask(self, question: Question, seconds: float) -> Reply | NoReply:
        """The answer, within so many seconds."""
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                await self._place.find()
            answer = await self._http.fetch(self._request(question, deadline), raise_error=False)
        except (TimeoutError, HTTPTimeoutError):
            return NoReply("timeout", "no answer in time")
        except Exception as error:  # noqa: BLE001
            # Whatever goes wrong between here and there, from names that are not found to answers that are none: nobody was named.
            return NoReply("failed", getattr(error, "strerror", None) or type(error).__name__)
        return Reply(answer.code, answer.body)

    def _request(self, question: Question, deadline: float) -> HTTPRequest:
        headers = HTTPHeaders({"User-Agent": "sse-daemon", "Accept": "application/json"})
        for name, value in question:
            headers[name] = value
        left = max(0.001, deadline - asyncio.get_running_loop().time())
        return HTTPRequest(
            self._url,
            headers=headers,
            connect_timeout=left,
            request_timeout=left,
            follow_redirects=False,
            decompress_response=False,
        )

    def close(self) -> None:
        """Asks nobody any more."""
        self._http.close()
        self._place.close()


class _Place:
    """Where the application is. Its name is looked up once for all who wait for it: a name server may hang as well."""

    def __init__(self, url: str, path: str | None) -> None:
        parts = urlsplit(url)
        self._name = parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]
        self._path = path
        self._lookup: asyncio.Future[None] | None = None
        self.resolver = _Found()

    async def find(self) -> None:
        """Tells `resolver`. Raises OSError."""
        if self._path is not None:
            self.resolver.found = [(socket.AF_UNIX, self._path)]
            return
        if self._lookup is None or self._lookup.done():
            self._lookup = asyncio.ensure_future(self._look_up())
        # Whoever gives up waiting does not take the others' answer along.
        await asyncio.shield(self._lookup)

    async def _look_up(self) -> None:
        found = await asyncio.get_running_loop().getaddrinfo(*self._name, type=socket.SOCK_STREAM)
        self.resolver.found = [(family, address) for family, _, _, _, address in found]

    def close(self) -> None:
        if self._lookup is not None:
            self._lookup.cancel()


class _Found(Resolver):
    """Knows already. Tornado's way would leave lookups behind that fail, and are logged, when nobody waits for them any more."""

    found: list[tuple[int, Any]]

    async def resolve(self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[tuple[int, Any]]:
        return self.found
