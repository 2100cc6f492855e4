"""The client's library against a raw TCP server that sends exactly the bytes a test gives it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sse_daemon.consumer import (
    Message,
    NotAnEventStream,
    Resync,
    SubscribeError,
    SubscribeRefused,
    Subscription,
    subscribe,
)
from sse_daemon.errors import InvalidParticipant

DEADLINE = 20.0
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n"
CHUNKED = HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked")


class Connection:
    """One request that arrived, and what a script can do with it."""

    def __init__(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = head.split("\r\n")
        self.method, self.target, _ = first.split(" ")
        self.query = parse_qs(urlsplit(self.target).query)
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self._reader, self._writer = reader, writer

    async def send(self, *pieces: bytes | str) -> None:
        """Writes each piece in a packet of its own, as far as the kernel keeps them apart."""
        for piece in pieces:
            self._writer.write(piece.encode() if isinstance(piece, str) else piece)
            await self._writer.drain()
            await asyncio.sleep(0.001)

    async def stall(self) -> None:
        """Says nothing more until the client goes."""
        await self._reader.read()

    def reset(self) -> None:
        """Ends without a FIN."""
        self._writer.transport.abort()


Script = Callable[[Connection], Awaitable[None]]


def says(*pieces: bytes | str) -> Script:
    """Sends the pieces after the head of an event stream and closes."""
    return lambda connection: connection.send(HEAD, *pieces)


def answers(status: str, *headers: str, body: str = "") -> Script:
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close"])
    return lambda connection: connection.send(head + "\r\n\r\n" + body)


class Server:
    """Runs one script a connection, in order, and the last one for all that follow."""

    def __init__(self, *scripts: Script) -> None:
        self.seen: list[Connection] = []
        self.url = ""
        self._scripts = scripts
        self._open: dict[asyncio.StreamWriter, asyncio.Event] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = asyncio.Event()
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().removesuffix("\r\n\r\n")
            connection = Connection(head, reader, writer)
            self.seen.append(connection)
            await self._scripts[min(len(self.seen), len(self._scripts)) - 1](connection)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went first
        finally:
            writer.close()
            self._open.pop(writer).set()

    async def end(self) -> None:
        for writer, done in list(self._open.items()):
            writer.transport.abort()
            await done.wait()


@asynccontextmanager
async def server(*scripts: Script, uds: Path | None = None) -> AsyncIterator[Server]:
    it = Server(*scripts)
    if uds is None:
        listener: asyncio.Server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
        it.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/events"
    else:
        listener = await asyncio.start_unix_server(it.serve, uds)
        it.url = "http://daemon/events"
    try:
        yield it
    finally:
        listener.close()
        await it.end()


def follow(url: str, participant: str | None = "alice", **options: Any) -> Subscription:
    return subscribe(url, participant, **{"retry_min": 0.01, "retry_max": 0.05, **options})


async def take(stream: Subscription, count: int) -> list[Message | Resync]:
    async with asyncio.timeout(DEADLINE):
        return [await anext(stream) for _ in range(count)]


def event(id: str, data: str = "x") -> str:
    return f"id: {id}\ndata: {data}\n\n"


async def fails(server: Server, error: type[SubscribeError], **options: Any) -> SubscribeError:
    async with follow(server.url, **options) as stream:
        with pytest.raises(error) as raised:
            await take(stream, 1)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    return raised.value


# What is asked for


async def test_request() -> None:
    async with server(says(event("c-1"))) as it:
        options = {"types": ["a", "b"], "topics": ["chat.*"], "params": {"attr.k": "v"}, "headers": {"Authorization": "T"}}
        async with follow(it.url + "?own=1&own=2", "pk-1", last_event_id="c-0", **options) as stream:
            await take(stream, 1)
        (asked,) = it.seen
        assert asked.query == {
            "own": ["1", "2"],
            "heartbeat": ["event"],
            "types": ["a,b"],
            "topics": ["chat.*"],
            "attr.k": ["v"],
        }
        for name, value in {
            "x-public-key": "pk-1",
            "last-event-id": "c-0",
            "accept": "text/event-stream",
            "cache-control": "no-store",
            "accept-encoding": "identity",
            "authorization": "T",
        }.items():
            assert asked.headers[name] == value


async def test_first_request_has_no_position_and_the_key_stands_where_it_is_wanted() -> None:
    async with server(says(event("c-1"))) as it, follow(it.url, "pk", key_header="X-Key") as stream:
        await take(stream, 1)
        assert "last-event-id" not in it.seen[0].headers
        assert it.seen[0].headers["x-key"] == "pk"
        assert "x-public-key" not in it.seen[0].headers


async def test_unix_socket(tmp_path: Path) -> None:
    async with server(says(event("c-1")), uds=tmp_path / "s") as it, follow(it.url, uds=str(tmp_path / "s")) as stream:
        assert await take(stream, 1) == [Message("c-1", "message", "x")]


async def test_given_client_stays_open() -> None:
    async with server(says(event("c-1"))) as it, httpx.AsyncClient(headers={"X-Mine": "1"}) as client:
        async with follow(it.url, client=client) as stream:
            await take(stream, 1)
        assert it.seen[0].headers["x-mine"] == "1"
        assert not client.is_closed


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("ftp://x/", {}),
        ("/events", {}),
        ("http://x:port/", {}),
        ("http://x/", {"types": "a"}),
        ("http://x/", {"client": 1, "uds": "s"}),
        ("http://x/", {"retry_min": 0}),
    ],
)
def test_mistakes_show_at_once(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        subscribe(url, "alice", **options)


@pytest.mark.parametrize("key", ["", "a b", "a\r\nX: y", "*", "ü"])
def test_key_that_no_header_can_carry(key: str) -> None:
    with pytest.raises(InvalidParticipant):
        subscribe("http://x/", key)


async def test_request_that_cannot_be_made() -> None:
    async with server(says(event("c-1"))) as it:
        await fails(it, SubscribeError, headers={"X": "a\nb"})
        await fails(it, SubscribeError, last_event_id="\u00fc")
        assert not it.seen


# What is yielded


async def test_events_come_as_values_and_the_daemons_own_do_not() -> None:
    preamble = 'retry: 10\nevent: connected\ndata: {"client_id":"c7","participant":"alice"}\n\n'
    text = (
        preamble
        + "event: s\ndata: snapshot\n\n"
        + "id: c-3\ndata: two\ndata: lines\n\n"
        + ": keepalive\n\nid: c-4\n\n"
        + 'id: c-5\nevent: heartbeat\ndata: {"timestamp":1}\n\n'
        + "id: c-6\ndata: \n\n"
        + 'event: resync\ndata: {"reason":"lagged","missed":3}\n\n'
        + 'id: c-9\nevent: resync\ndata: {"reason":"expired","missed":null}\n\n'
        + "event: resync\ndata: nonsense\n\n"
    )

    async def script(connection: Connection) -> None:
        await connection.send(HEAD, *[c.encode() for c in text])
        await connection.stall()

    async with server(script) as it, follow(it.url) as stream:
        assert await take(stream, 1) == [Message(None, "s", "snapshot")]
        assert (stream.client_id, stream.last_event_id) == ("c7", None)
        assert await take(stream, 1) == [Message("c-3", "message", "two\nlines")]
        assert stream.last_event_id == "c-3"
        assert await take(stream, 4) == [
            Message("c-6", "message", ""),
            Resync("lagged", 3, None),
            Resync("expired", None, "c-9"),
            Resync("unknown", None, None),
        ]
        assert stream.last_event_id == "c-9"


async def test_position_of_heartbeats_and_of_blocks_without_data_is_resumed_from() -> None:
    scripts = [
        says('id: c-1\nevent: connected\ndata: {"client_id":"a"}\n\n'),
        says("retry: 10\nid: c-2\n\n"),
        says('id: c-3\nevent: heartbeat\ndata: {"timestamp":1}\n\n'),
        says(": keepalive\n\nid: c-4\n\n"),
        says(event("c-5")),
    ]
    async with server(*scripts) as it, follow(it.url) as stream:
        assert await take(stream, 1) == [Message("c-5", "message", "x")]
        assert [c.headers.get("last-event-id") for c in it.seen] == [None, "c-1", "c-2", "c-3", "c-4"]


async def test_large_event() -> None:
    data = "".join(random.Random(1).choices("ab\u00fc\u2028", k=500_000))
    async with server(says(event("c-1", data))) as it, follow(it.url) as stream:
        assert await take(stream, 1) == [Message("c-1", "message", data)]


# What is survived


@pytest.mark.parametrize(
    "cut",
    ["", ": comment", "id: c-2", "id: c-2\n", "id: c-2\ndata: tw", "id: c-2\ndata: two\n"],
)
async def test_event_that_was_cut_off_does_not_count(cut: str) -> None:
    async with server(says(event("c-1"), cut), says(event("c-2", "two"))) as it, follow(it.url) as stream:
        assert await take(stream, 2) == [Message("c-1", "message", "x"), Message("c-2", "message", "two")]
        assert it.seen[1].headers["last-event-id"] == "c-1"


async def test_ends_of_every_kind_are_reconnected() -> None:
    async def reset(connection: Connection) -> None:
        await connection.send(HEAD, event("c-1"))
        connection.reset()

    async def broken_chunk(connection: Connection) -> None:
        await connection.send(CHUNKED, f"{len(event('c-2')):x}\r\n{event('c-2')}\r\n", "7f\r\nid: c-")

    async def ended_chunks(connection: Connection) -> None:
        await connection.send(CHUNKED, f"{len(event('c-3')):x}\r\n{event('c-3')}\r\n0\r\n\r\n")

    async def nonsense(connection: Connection) -> None:
        await connection.send("SSH-2.0-nobody\r\n\r\n")

    async def nothing(connection: Connection) -> None:
        return

    bye = says('retry: 20\nid: c-4\nevent: bye\ndata: {"reason":"drain"}\n\n')
    scripts = (reset, broken_chunk, ended_chunks, nonsense, nothing, bye, says(event("c-5")))
    async with server(*scripts) as it, follow(it.url) as stream:
        ids = []
        while "c-5" not in ids:
            ids += [m.id for m in await take(stream, 1)]
        assert [i for i in ids if i != "c-1"] == ["c-2", "c-3", "c-5"]  # after a reset the kernel may drop what it had
        assert it.seen[-1].headers["last-event-id"] == "c-4"


@pytest.mark.parametrize("status", ["500 Oops", "502 Bad Gateway", "503 Busy", "504 Late", "429 Slow", "408 Late", "425 Early"])
async def test_passing_statuses_are_retried(status: str) -> None:
    scripts = (answers(status), answers(status, "Retry-After: 0"), says(event("c-1")))
    async with server(*scripts) as it, follow(it.url, last_event_id="c-0") as stream:
        assert await take(stream, 1) == [Message("c-1", "message", "x")]
        assert [c.headers["last-event-id"] for c in it.seen] == ["c-0"] * 3


async def test_daemon_that_starts_later_is_found() -> None:
    async with server(says()) as it:
        pass
    port = urlsplit(it.url).port
    async with follow(it.url) as stream:
        waiting = asyncio.ensure_future(take(stream, 1))
        await asyncio.sleep(0)
        later = Server(says(event("c-1")))
        async with await asyncio.start_server(later.serve, "127.0.0.1", port):
            assert await waiting == [Message("c-1", "message", "x")]


async def test_silence_ends_the_connection_and_any_byte_is_no_silence() -> None:
    async def silent(connection: Connection) -> None:
        await connection.send(HEAD, event("c-1"))
        await connection.stall()

    async def slow(connection: Connection) -> None:
        # Altogether longer than the timeout, byte by byte.
        await connection.send(HEAD)
        for character in event("c-2", "0123456789"):
            await connection.send(character)
            await asyncio.sleep(0.03)

    async with server(silent, slow) as it, follow(it.url, heartbeat_timeout=0.5) as stream:
        assert [m.id for m in await take(stream, 2)] == ["c-1", "c-2"]
        assert len(it.seen) == 2
        assert it.seen[1].headers["last-event-id"] == "c-1"


async def test_head_that_does_not_come_is_given_up_long_before_a_silent_stream() -> None:
    options: dict[str, Any] = {"connect_timeout": 0.1, "heartbeat_timeout": 1000}
    async with server(Connection.stall, says(event("c-1"))) as it, follow(it.url, **options) as stream:
        assert await take(stream, 1) == [Message("c-1", "message", "x")]


async def test_waits_are_what_the_daemon_asks_for() -> None:
    times = []

    def timed(script: Script) -> Script:
        async def run(connection: Connection) -> None:
            times.append(asyncio.get_running_loop().time())
            await script(connection)

        return run

    bye = says('retry: 300\nevent: bye\ndata: {"reason":"drain"}\n\n')
    scripts = (bye, answers("503 Busy", "Retry-After: 1"), says("retry: 0\n\n" + event("c-1")), says(event("c-2")))
    async with server(*map(timed, scripts)) as it, follow(it.url) as stream:
        await take(stream, 2)
    waits = [b - a for a, b in pairwise(times)]
    # Only lower bounds: no test knows how long a busy machine takes.
    assert waits[0] >= 0.3
    assert waits[1] >= 1.0


async def test_cancelled_wait_loses_nothing() -> None:
    async def first(connection: Connection) -> None:
        await connection.send(HEAD, event("c-1"))
        await connection.stall()

    async with server(first, says(event("c-2"))) as it, follow(it.url, retry_min=60, retry_max=60) as stream:
        await take(stream, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.05)
        assert await take(stream, 1) == [Message("c-2", "message", "x")]
        assert it.seen[1].headers["last-event-id"] == "c-1"  # and at once: nothing was wrong with the daemon


# What ends it


@pytest.mark.parametrize(
    "status",
    ["400 Bad", "401 Who", "403 No", "404 Where", "406 What", "421 Elsewhere", "410 Gone", "204 Nothing", "301 Moved"],
)
async def test_final_statuses(status: str) -> None:
    body = "" if status.startswith("204") else '{"error":"some_code","detail":"because"}'
    async with server(answers(status, body=body)) as it:
        error = await fails(it, SubscribeRefused)
        assert isinstance(error, SubscribeRefused)
        assert error.status == int(status[:3])
        assert (error.code, error.detail) == (("some_code", "because") if body else ("http_204", "the answer does not say why"))
        assert len(it.seen) == 1


async def test_refusal_with_a_body_that_explains_nothing() -> None:
    async def endless(connection: Connection) -> None:
        await connection.send("HTTP/1.1 403 No\r\n\r\n", "x" * 200_000)
        await connection.stall()

    async with server(answers("404 Where", body="<html>")) as it:
        error = await fails(it, SubscribeRefused)
        assert isinstance(error, SubscribeRefused)
        assert error.code == "http_404"
    async with server(endless) as it:
        await fails(it, SubscribeRefused, connect_timeout=0.2)


@pytest.mark.parametrize("kind", ["text/html", "application/json", "text/event-streams", ""])
async def test_answer_of_another_type(kind: str) -> None:
    head = [f"Content-Type: {kind}"] if kind else []
    async with server(answers("200 OK", *head, body="data: x\n\n")) as it:
        await fails(it, NotAnEventStream)


async def test_block_without_end() -> None:
    async with server(says(event("c-1", "x" * 5000))) as it:
        await fails(it, NotAnEventStream, max_block=1000)


async def test_close_ends_the_iteration_and_the_connection() -> None:
    closed = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.send(HEAD, event("c-1"), event("c-2"))
        await connection.stall()
        closed.set()

    async with server(script) as it:
        stream = follow(it.url)
        async for message in stream:
            assert message == Message("c-1", "message", "x")
            await stream.aclose()
        await stream.aclose()
        async with asyncio.timeout(DEADLINE):
            await closed.wait()
        assert len(it.seen) == 1
