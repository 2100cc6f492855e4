"""The Python client's library: an async iterator over one stream, which reconnects and resumes. Needs httpx, httpx-sse and PyNaCl.

    async with subscribe("http://127.0.0.1:8080/events", key="alice.key") as stream:
        async for event in stream:
            match event:
                case Message(id=id, type=type, data=data): ...
                case Resync(): ...  # continuity is broken: refetch the state; snapshots and newer events follow

It ends by these errors, and by nothing else until it is closed (ValueError, InvalidParticipant and KeyFileError come from `subscribe`
itself):

    SubscribeRefused   a status that would be the same next time: every 3xx and 4xx but 408, 425 and 429; 204
    NotAnEventStream   the answer was 200, but of another type, or a block of it exceeds `max_block`
    SubscribeError     the request cannot be made at all (httpx's reason is the cause)

Everything else is retried for ever, with a jittered and growing wait: refused and broken connections, silence, 5xx, 429. A signature
that the daemon finds to be of another time is made again, by the daemon's clock.
Why it reconnects is logged to `sse_daemon.consumer` at INFO.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import httpx
import ujson

from sse_daemon.errors import NotAnEventStream, SubscribeError, SubscribeRefused
from sse_daemon.event_stream import Block, blocks
from sse_daemon.participant import canonical
from sse_daemon.reconnecting import Pace, ahead, retry_after
from sse_daemon.signer import Signer

__all__ = ["Message", "NotAnEventStream", "Resync", "SubscribeError", "SubscribeRefused", "Subscription", "subscribe"]

log = logging.getLogger(__name__)

HEARTBEAT_TIMEOUT: Final = 45.0
"""Three of the daemon's default heartbeats: one may be late, two are an accident."""
MAX_BLOCK: Final = 16 * 1024 * 1024
MAX_ERROR_BODY: Final = 64 * 1024
_PASSING: Final = frozenset({408, 425, 429})
_SILENT: Final = frozenset({"connected", "heartbeat", "bye"})


@dataclass(frozen=True, slots=True)
class Message:
    """An event. id: the position that includes it, or None for a snapshot that is not the last one of its group."""

    id: str | None
    type: str
    data: str


@dataclass(frozen=True, slots=True)
class Resync:
    """Here is a hole: refetch. `missed`: how many of this stream's events are in it, or None if that is not known."""

    reason: str
    missed: int | None
    id: str | None


@dataclass(frozen=True, slots=True)
class Request:
    """What every connection of one subscription asks for; only the position changes, and the signature."""

    url: httpx.URL
    headers: Mapping[str, str]
    signer: Signer | None
    connect_timeout: float
    heartbeat_timeout: float

    def build(self, client: httpx.AsyncClient, last_event_id: str | None) -> httpx.Request:
        """The request that resumes after `last_event_id`."""
        headers = dict(self.headers)
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        # The read timeout is what notices a dead connection: any byte resets it, and a live daemon is never silent for long.
        timeout = httpx.Timeout(self.connect_timeout, read=self.heartbeat_timeout)
        request = client.build_request("GET", self.url, headers=headers, timeout=timeout)
        if self.signer is not None:
            path, _, query = request.url.raw_path.decode("ascii").partition("?")
            # The cursor as it was sent: a client's own headers may have one too.
            cursor = request.headers.get("Last-Event-ID")
            request.headers.update(self.signer.headers("GET", request.headers["Host"], path, query, cursor))
        return request


def subscribe(
    url: str,
    participant: str | None = None,
    *,
    key: Signer | str | os.PathLike[str] | None = None,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    last_event_id: str | None = None,
    types: Iterable[str] = (),
    topics: Iterable[str] = (),
    key_header: str = "X-Public-Key",
    heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
    connect_timeout: float = 10.0,
    retry_min: float = 1.0,
    retry_max: float = 30.0,
    max_block: int = MAX_BLOCK,
    client: httpx.AsyncClient | None = None,
    uds: str | None = None,
) -> Subscription:
    """A subscription to `url`; it connects when it is first iterated.

    key: who signs each request, or the file of its secret key (`sse-daemon keygen`).
    participant: the key that stands in `key_header`, where the daemon believes it; None: whatever `headers` and `params` say, or
    nobody.
    types, topics: filters, as the query parameters of those names; further ones go into `params`.
    last_event_id: resume after this position; without: the retained snapshots, then what comes.
    heartbeat_timeout: seconds of silence after which a connection is taken for dead. connect_timeout: seconds in which an
    answer must begin. retry_min, retry_max: seconds between attempts where the daemon does not say (it may ask for more).
    client: used and left open, say for TLS or proxies of your own. uds: path of the daemon's Unix socket.
    Raises ValueError, InvalidParticipant and KeyFileError.
    """
    if key is not None and participant is not None:
        raise ValueError("a key says who the participant is: give either `key` or `participant`")
    if client is not None and uds is not None:
        raise ValueError("a client brings its own transport: give either `client` or `uds`")
    query = {"heartbeat": "event", **_filters(types, topics), **(params or {})}
    wanted = {"Accept": "text/event-stream", "Cache-Control": "no-store", "Accept-Encoding": "identity", **(headers or {})}
    if participant is not None:
        wanted[key_header] = canonical(participant)
    signer = key if key is None or isinstance(key, Signer) else Signer.from_file(key)
    return Subscription(
        Request(_url(url).copy_merge_params(query), wanted, signer, connect_timeout, heartbeat_timeout),
        Pace(retry_min, retry_max),
        client=client,
        uds=uds,
        last_event_id=last_event_id,
        max_block=max_block,
    )


class Subscription:
    """An async iterator of Message and Resync, for one task at a time; `async with` closes it.

    last_event_id: the position up to which everything was yielded, or is not for this stream; keep it to resume in another
    process. client_id: what the daemon calls the present connection. A `__anext__` that is cancelled (say, by a timeout) loses
    nothing: the next one reconnects and resumes. Another task ends the iteration by cancelling the one that iterates.
    """

    def __init__(
        self,
        request: Request,
        pace: Pace,
        *,
        client: httpx.AsyncClient | None,
        uds: str | None,
        last_event_id: str | None,
        max_block: int,
    ) -> None:
        self.last_event_id = last_event_id or None
        self.client_id: str | None = None
        self._request, self._pace, self._max_block = request, pace, max_block
        self._client, self._uds, self._owned = client, uds, client is None
        self._response: httpx.Response | None = None
        self._blocks: AsyncGenerator[Block, None] | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message | Resync:
        while not self._closed:
            block = await self._next_block()
            if block is not None and (event := self._take(block)) is not None:
                return event
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connection, and the client unless it was given. Twice is fine."""
        self._closed = True
        await self._disconnect()
        if self._owned and self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def _next_block(self) -> Block | None:
        """The next block, from a new connection if need be; None when there was none: the caller tries again."""
        try:
            if self._blocks is None:
                self._blocks = await self._connect()
            return await anext(self._blocks)
        except StopAsyncIteration:
            await self._lost(f"{self._whom}: connection lost (the daemon ended it)")
        except _Passing as error:
            await self._lost(f"{self._whom}: no stream ({error})", error.retry_after)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            await self._lost(f"cannot connect to {self._whom} ({_named(error)})")
        except httpx.TransportError as error:
            await self._lost(f"{self._whom}: connection lost ({_named(error)})")
        except SubscribeError:
            await self.aclose()
            raise
        except BaseException:  # cancelled: the connection stands in the middle of a read and is of no further use
            await self._disconnect()
            raise
        return None

    async def _connect(self) -> AsyncGenerator[Block, None]:
        await asyncio.sleep(self._pace.remaining())
        try:
            response = await self._answered()
        except _SignAgain:
            await self._disconnect()
            response = await self._answered()
        return blocks(response, self._max_block)

    async def _answered(self) -> httpx.Response:
        response = self._response = await self._open()
        await self._check(response)
        return response

    async def _open(self) -> httpx.Response:
        if self._client is None:
            self._client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=self._uds) if self._uds else None)
        try:
            request = self._request.build(self._client, self.last_event_id)
            # The read timeout is long; but an answer's head is sent at once.
            async with asyncio.timeout(self._request.connect_timeout):
                return await self._client.send(request, stream=True)
        except TimeoutError:
            raise _Passing("no answer within connect_timeout") from None
        except _IMPOSSIBLE as error:
            raise SubscribeError(f"the request cannot be made: {error}") from error

    async def _check(self, response: httpx.Response) -> None:
        """Returns if this is an event stream. Raises _Passing, _SignAgain, SubscribeRefused, NotAnEventStream."""
        status = response.status_code
        if status >= 500 or status in _PASSING:
            raise _Passing(f"status {status}", retry_after(response.headers.get("Retry-After")))
        if status != 200:
            refused = _refused(status, await self._error_body(response))
            if refused.code == "sign_again" and (signer := self._request.signer) is not None:
                signer.ahead = ahead(response.headers.get("Date"))
                raise _SignAgain("the signature is of another time")
            raise refused
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "text/event-stream":
            raise NotAnEventStream(f"the answer is of type {kind or 'none'}, not text/event-stream")

    async def _error_body(self, response: httpx.Response) -> bytes:
        body = b""
        try:
            async with asyncio.timeout(self._request.connect_timeout):
                async for chunk in response.aiter_bytes():
                    body += chunk[: MAX_ERROR_BODY - len(body)]
        except (TimeoutError, httpx.RequestError):
            pass  # the status is what matters; the body only explains it
        return body

    def _take(self, block: Block) -> Message | Resync | None:
        """Moves the position, and gives what the user is to see of the block."""
        if block.id is not None:
            self.last_event_id = block.id or None
        self._pace.heard(block.retry)
        if block.data is None:
            return None
        if block.type == "resync":
            return _resync(block)
        if block.type == "connected":
            self.client_id = _text(_object(block.data).get("client_id"))
        if block.type == "bye":
            log.info("%s says bye: %s", self._whom, _object(block.data).get("reason"))
        return None if block.type in _SILENT else Message(block.id, block.type, block.data)

    async def _lost(self, what: str, wait: float | None = None) -> None:
        seconds = self._pace.lost(wait)
        log.info("%s; the next attempt is in %.1f s", what, seconds)
        await self._disconnect()

    @property
    def _whom(self) -> str:
        url = self._request.url
        return self._uds or f"{url.netloc.decode('ascii')}{'' if url.port else ':443' if url.scheme == 'https' else ':80'}"

    async def _disconnect(self) -> None:
        response, unread = self._response, self._blocks
        self._response = self._blocks = self.client_id = None
        if unread is not None:
            await unread.aclose()
        if response is not None:
            await response.aclose()


class _Passing(Exception):
    """An answer, or none, that may be another one next time. retry_after: seconds that it asks to wait, or None."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class _SignAgain(_Passing):
    """The signature was of another time; now we know the daemon's. A second time in a row is one like any other that may pass."""


_IMPOSSIBLE = (
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    httpx.DecodingError,
    httpx.TooManyRedirects,
    UnicodeEncodeError,
)


def _url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(f"not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("the URL of a stream begins with http:// or https:// and names a host")
    return url


def _filters(types: Iterable[str], topics: Iterable[str]) -> dict[str, str]:
    if isinstance(types, str) or isinstance(topics, str):
        raise ValueError("`types` and `topics` are lists")
    given = {"types": ",".join(types), "topics": ",".join(topics)}
    return {name: value for name, value in given.items() if value}


def _refused(status: int, body: bytes) -> SubscribeRefused:
    answer = _object(body)
    detail = _text(answer.get("detail")) or "the answer does not say why"
    return SubscribeRefused(status, _text(answer.get("error")) or f"http_{status}", detail)


def _resync(block: Block) -> Resync:
    told = _object(block.data or "")
    missed = told.get("missed")
    return Resync(_text(told.get("reason")) or "unknown", missed if isinstance(missed, int) else None, block.id)


def _object(text: str | bytes) -> dict[str, object]:
    try:
        value = ujson.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _named(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
