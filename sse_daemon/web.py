"""The clients' side: HTTP requests in, open streams, JSON answers or refusals out. Plain requests for a stream open on the
accepted socket itself (`web_lean`), everything else is Tornado's server and its handlers (`web_handlers`).
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.web import Application

from sse_daemon.web_handlers import Events, Health, Nothing, Ready
from sse_daemon.web_lean import LeanDoor
from sse_daemon.web_request import pattern
from sse_daemon.web_site import Site

MAX_REQUEST_BODY = 64 * 1024
READ_BUFFER = 128 * 1024
"""Bytes of a request that Tornado may hold; a response is never in an IOStream for longer than one write."""


class Entrance:
    """Both doors for clients. It listens on nothing: connections are handed to `serve`."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lean = LeanDoor(site, asyncio.get_running_loop())
        http = site.config().http
        self._http = HTTPServer(
            application(site),
            idle_connection_timeout=http.header_timeout,
            body_timeout=http.body_timeout,
            max_header_size=http.max_header,
            max_body_size=MAX_REQUEST_BODY,
            decompress_request=False,
        )

    def serve(self, connection: socket.socket, peer: Any) -> None:
        """Answers what comes on an accepted connection."""
        if not self._lean.take(connection, peer):
            serve(self._http, connection, peer)

    def reload(self) -> None:
        """Puts the routes that the configuration has now in force."""
        self._http.request_callback = application(self._site)

    async def close_all_connections(self) -> None:
        """Ends every connection that is not a stream."""
        await self._lean.close()
        await self._http.close_all_connections()


def serve(http: HTTPServer, connection: socket.socket, peer: Any) -> None:
    """Lets `http` read requests from an accepted connection."""
    http.handle_stream(IOStream(connection, max_buffer_size=READ_BUFFER, max_write_buffer_size=None), peer or ())


def application(site: Site) -> Application:
    """The routes: the built-in ones and every `[[stream]]`."""
    handlers: list[Any] = [(r"/healthz", Health, {"site": site}), (r"/readyz", Ready, {"site": site})]
    for route in site.config().routes:
        handlers.append((pattern(route.path).pattern, Events, {"site": site, "header": route.header}))
    return Application(handlers, default_handler_class=Nothing, default_handler_args={"site": site}, log_function=lambda _: None)
