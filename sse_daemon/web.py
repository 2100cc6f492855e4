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

from sse_daemon.log import Sometimes, logger
from sse_daemon.web_client import Client
from sse_daemon.web_crowd import Crowd
from sse_daemon.web_handlers import Events, Health, Nothing, Ready
from sse_daemon.web_lean import LeanDoor
from sse_daemon.web_request import pattern
from sse_daemon.web_session import Session
from sse_daemon.web_site import Site

MAX_REQUEST_BODY = 64 * 1024
READ_BUFFER = 128 * 1024
"""Bytes of a request that Tornado may hold; a response is never in an IOStream for longer than one write."""

_log = logger("web")


class _Server(HTTPServer):
    """Tornado's server, which knows how many connections each address has here."""

    crowd: Crowd

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        super().initialize(*args, **kwargs)
        self._complain = Sometimes(_log, asyncio.get_running_loop().time)

    def has_room(self, peer: Any) -> bool:
        """Whether another connection of this peer may be read from."""
        name = self.crowd.name(peer)
        if self.crowd.has_room(name):
            return True
        self._complain.warning("crowded", "too many connections of one address", address=name)
        return False

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        self.crowd.add(self.crowd.name(address))
        super().handle_stream(stream, address)

    def on_close(self, server_conn: Any) -> None:
        super().on_close(server_conn)
        self.crowd.remove(self.crowd.name(server_conn.context.address))


class Entrance:
    """Both doors for clients. It listens on nothing: connections are handed to `serve`."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lean = LeanDoor(site, asyncio.get_running_loop())
        http = site.config().http
        self._http = _Server(
            application(site),
            idle_connection_timeout=http.header_timeout,
            body_timeout=http.body_timeout,
            max_header_size=http.max_header,
            max_body_size=MAX_REQUEST_BODY,
            decompress_request=False,
        )
        self._http.crowd = Crowd(http.max_per_address, site.config().shared_addresses)

    def serve(self, connection: socket.socket, peer: Any) -> None:
        """Answers what comes on an accepted connection."""
        if self._lean.take(connection, peer):
            return
        if self._http.has_room(peer):
            serve(self._http, connection, peer)
        else:
            connection.close()

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
    own = (("/healthz", Health), ("/readyz", Ready), ("/session", Session), ("/client.js", Client))
    handlers: list[Any] = [(pattern(path).pattern, handler, {"site": site}) for path, handler in own]
    for route in site.config().routes:
        handlers.append((pattern(route.path).pattern, Events, {"site": site, "header": route.header}))
    return Application(handlers, default_handler_class=Nothing, default_handler_args={"site": site}, log_function=lambda _: None)
