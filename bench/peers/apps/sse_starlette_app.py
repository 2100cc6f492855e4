"""The application that uvicorn serves for sse-starlette: a queue for each client, as its documentation has it.

POST /pub?id=KEY puts the body into the queue of each client of GET /sub?id=KEY. It runs in an environment of its own, with Starlette.
"""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

clients: defaultdict[str, set[asyncio.Queue[str]]] = defaultdict(set)


async def subscribe(request: Request) -> Response:
    """A stream of the events for one key."""
    return EventSourceResponse(_events(request.query_params["id"]))


async def _events(key: str) -> AsyncIterator[dict[str, str]]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    clients[key].add(queue)
    try:
        while True:
            yield {"data": await queue.get()}
    finally:
        clients[key].discard(queue)
        if not clients[key]:
            del clients[key]


async def publish(request: Request) -> Response:
    """The body to everybody with the key."""
    data = (await request.body()).decode()
    for queue in clients.get(request.query_params["id"], ()):
        queue.put_nowait(data)
    return Response(status_code=202)


app = Starlette(routes=[Route("/sub", subscribe), Route("/pub", publish, methods=["POST"])])
