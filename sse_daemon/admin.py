"""The operators' side: HTTP on a Unix socket that only the daemon's user and group can reach. `sse-daemon COMMAND` is its client.

Answers are JSON objects; /tail is a line of JSON an event; /metrics is Prometheus text.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ujson
from tornado.iostream import IOStream, StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler

from sse_daemon import metrics, sse
from sse_daemon.admin_door import Server, give_up_unread, operator
from sse_daemon.backend import Backend, Stored
from sse_daemon.census import Census
from sse_daemon.desk import Streams
from sse_daemon.directory import Directory
from sse_daemon.errors import BackendError, InvalidParticipant
from sse_daemon.event import PUBLIC, Cursor, Event, participant_channel
from sse_daemon.ingest import Ingest
from sse_daemon.log import logger
from sse_daemon.participant import Canonical, short

TAIL_QUEUE = 10_000
"""Events that wait for a slow `tail`; beyond that the oldest are dropped, and their number told."""
TAIL_BYTES = 16 * 1024 * 1024
"""Bytes of their data, likewise. The latest is kept however long it is."""
REST = 64 * 1024
"""What a request's body may have besides the data of an event."""
ESCAPED = 6
"""The most bytes that JSON has for one."""
MAX_WAIT = 60.0

_log = logger("admin")


class Office(NamedTuple):
    """What the operators' handlers work with. values: the metrics; ready: why not, or None; wall: Unix time.

    read_key: gives the canonical form of a participant's key; revoke: ends a participant's sessions.
    """

    streams: Streams
    incarnation: str
    ingest: Ingest
    census: Census
    directory: Directory
    backend: Backend
    values: Callable[[], Awaitable[metrics.Values]]
    ready: Callable[[], str | None]
    about: Mapping[str, str]
    wall: Callable[[], float]
    read_key: Canonical
    revoke: Callable[[str], int]


def server(office: Office, max_frame: int, group: int) -> Server:
    """The operators' HTTP server; connections are handed to it. max_frame: an event's bytes; group: who may come besides us."""
    routes = {
        "/clients": Clients,
        "/producers": Producers,
        "/groups": Groups,
        "/retained": Retained,
        "/stats": Stats,
        "/metrics": Metrics,
        "/inject": Inject,
        "/tail": Tail,
        "/kick": Kick,
        "/kicked": Kicked,
        "/drain": Drain,
    }
    handlers: list[Any] = [(path, handler, {"office": office}) for path, handler in routes.items()]
    app = Application(handlers, default_handler_class=Base, default_handler_args={"office": office}, log_function=lambda _: None)
    made = Server(app, max_body_size=ESCAPED * max_frame + REST)
    made.group = group
    return made


class Base(RequestHandler):
    """JSON in, JSON out."""

    def initialize(self, office: Office) -> None:
        self.office = office

    def prepare(self) -> None:
        if type(self) is Base:
            raise HTTPError(404)
        self._operator = operator(self._stream().socket)  # now: it may be gone when its request has been done

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        detail = error.log_message if isinstance(error, HTTPError) and error.log_message else self._reason
        self.finish({"error": "unknown_command" if status_code == 404 else "failed", "detail": detail})

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        if not isinstance(value, HTTPError):
            _log.error("command failed", exc_info=value)

    def on_finish(self) -> None:
        give_up_unread(self._stream())

    def _stream(self) -> IOStream:
        connection: Any = self.request.connection
        stream: IOStream = connection.stream
        return stream

    def audit(self, done: str, **facts: object) -> None:
        """Logs what an operator did, and which process of whom it was."""
        _log.info(done, extra={**facts, **self._operator.named()})

    def body(self) -> dict[str, Any]:
        """The request's JSON object."""
        try:
            body = ujson.loads(self.request.body)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise HTTPError(400, "the body is a JSON object")
        return body

    def key(self, text: str) -> str:
        """The canonical form of a participant's key, however the operator spells it."""
        try:
            return self.office.read_key(text)
        except InvalidParticipant as error:
            raise HTTPError(400, str(error)) from None


class Clients(Base):
    """GET /clients?participant=KEY: open streams; with closed=1 the recently closed ones."""

    async def get(self) -> None:
        only, closed = self.get_query_argument("participant", None), self.get_query_argument("closed", None)
        only = None if only is None else self.key(only)
        rows = await self.office.streams.clients(only, bool(closed))
        about = {"auth": self.office.about["auth"], "not_ready": self.office.ready()}
        self.finish({"clients": rows, **about, "silent": [*self.office.streams.silent]})


class Producers(Base):
    """GET /producers: who publishes."""

    def get(self) -> None:
        now = self.office.wall()
        rows = [
            {
                "from": sender,
                "rate": tally.rate(now),
                "since": tally.since,
                "seen": tally.seen,
                "first": tally.first,
                "highest": tally.highest,
                "accepted": tally.accepted,
                "repeated": tally.repeated,
                "missing": tally.missing,
                "refused": tally.refused,
                "lost": tally.lost,
            }
            for sender, tally in self.office.census.tallies.items()
        ]
        self.finish({"producers": rows})


class Groups(Base):
    """GET /groups: groups in force and topics declared."""

    def get(self) -> None:
        directory = self.office.directory
        groups = [{"name": name, "members": list(members)} for name, members in sorted(directory.groups.items())]
        self.finish({"groups": groups, "topics": sorted(directory.topics)})


class Retained(Base):
    """GET /retained: the snapshots."""

    async def get(self) -> None:
        try:
            snapshots = await self.office.backend.retained(None)
        except BackendError as error:
            raise HTTPError(503, str(error).replace("%", "%%")) from None
        rows = [
            {
                "id": str(Cursor(self.office.incarnation, event.position)),
                **_addressed(event),
                "bytes": len(event.data),
                "expires": event.expires,
            }
            for event in snapshots.events
        ]
        self.finish({"retained": rows, "cursor": str(Cursor(self.office.incarnation, snapshots.at))})


def _addressed(event: Event) -> dict[str, Any]:
    """Whom an event is for, and what it is called."""
    keys = [channel.removeprefix("participant/") for channel in event.channels if channel.startswith("participant/")]
    return {"to": "*" if PUBLIC in event.channels else keys, "type": event.type, "topic": event.topic}


class Stats(Base):
    """GET /stats: every metric, and what this daemon is."""

    async def get(self) -> None:
        values = await self.office.values()
        about = {"about": dict(self.office.about), "not_ready": self.office.ready()}
        self.finish({**about, "metrics": values, "silent": [*self.office.streams.silent]})


class Metrics(Base):
    """GET /metrics: the same as Prometheus text."""

    async def get(self) -> None:
        body, content_type = metrics.exposition(await self.office.values(), self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", content_type)
        self.finish(body)


class Inject(Base):
    """POST /inject {"header": {...}, "data": text, "wait": seconds or null}: a test event, by the way every event takes."""

    async def post(self) -> None:
        body = self.body()
        header, data, wait = body.get("header"), body.get("data", ""), body.get("wait")
        if not isinstance(header, dict) or not isinstance(data, str) or not isinstance(wait, int | float | None):
            raise HTTPError(400, "the body is {header: object, data: text, wait: seconds or null}")
        try:
            frame = sse.dumps(header) + b"\n" + data.encode()
        except (ValueError, OverflowError):
            raise HTTPError(400, "it holds what JSON or UTF-8 cannot carry") from None
        before = time.monotonic()  # the loop's clock, in every process: the machine's may be set back meanwhile
        outcome = await self._submit(frame)
        answer = ujson.loads(self.office.ingest.encode(outcome))
        if isinstance(outcome, Stored):
            self.audit("event injected", ids=",".join(answer["ids"]))
            if wait is not None:
                answer["streams"] = await self._written(outcome.positions[0], before, min(float(wait), MAX_WAIT))
                answer["silent"] = [*self.office.streams.silent]
        self.finish(answer)

    async def _submit(self, frame: bytes) -> Any:
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.office.ingest.submit([frame], lambda result: None if outcome.done() else outcome.set_result(result))
        return await outcome

    async def _written(self, position: int, before: float, wait: float) -> list[dict[str, Any]]:
        """The streams that were open before and read the event, as soon as all have got it, or after `wait` seconds."""
        deadline = time.monotonic() + wait
        while True:
            rows, served = await self.office.streams.readers(position, before)
            done = served and all(row["written"] for row in rows) and not self.office.streams.silent
            if done or time.monotonic() > deadline:
                return rows
            await asyncio.sleep(0.01)


class Tail(Base):
    """GET /tail?to=KEY&topic=T: a line of JSON for each event as it passes, until the operator goes."""

    async def get(self) -> None:
        to, topic = self.get_query_argument("to", None), self.get_query_argument("topic", None)
        channel = None if to is None else PUBLIC if to == "*" else participant_channel(self.key(to))
        queue = Queue(TAIL_QUEUE, TAIL_BYTES)
        self.audit("events are looked on at", to=short(to or ""), topic=topic)

        def take(events: Sequence[Event]) -> None:
            queue.put([e for e in events if (channel is None or channel in e.channels) and (topic is None or e.topic == topic)])

        self.office.streams.taps[take] = None
        self.set_header("Content-Type", "application/x-ndjson")
        self._reader = queue
        try:
            await self.flush()
            while (batch := await queue.get()) is not None:
                dropped, events = batch
                if dropped:
                    self.write(sse.dumps({"dropped": dropped}) + b"\n")
                for event in events:
                    self.write(sse.dumps({**sse.event_object(event, self.office.incarnation), **_addressed(event)}) + b"\n")
                await self.flush()
        except StreamClosedError:
            _log.debug("tail ended")
        finally:
            del self.office.streams.taps[take]

    def on_connection_close(self) -> None:
        self._reader.close()


class Queue:
    """Events between the hub, which never waits, and one slow reader."""

    def __init__(self, limit: int, max_bytes: int) -> None:
        self._limit = limit
        self._max_bytes = max_bytes
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._dropped = 0
        self._closed = False
        self._wake = asyncio.Event()

    def put(self, events: Sequence[Event]) -> None:
        """Takes events; drops the oldest beyond the bounds."""
        self._events += events
        self._bytes += sum(len(event.data) for event in events)
        while len(self._events) > self._limit or (self._bytes > self._max_bytes and len(self._events) > 1):
            self._bytes -= len(self._events.popleft().data)
            self._dropped += 1
        if events:
            self._wake.set()

    async def get(self) -> tuple[int, deque[Event]] | None:
        """(how many were dropped, the events that wait), or None after `close`."""
        await self._wake.wait()
        self._wake.clear()
        if self._closed:
            return None
        batch = self._dropped, self._events
        self._dropped, self._bytes, self._events = 0, 0, deque()
        return batch

    def close(self) -> None:
        """The reader is gone."""
        self._closed = True
        self._wake.set()


class Kick(Base):
    """POST /kick {"client": id} or {"participant": key, "for": seconds}: closes, a participant's sessions too; "for": keeps out.

    0 seconds close nothing: they let in again who is kept out.
    """

    async def post(self) -> None:
        body = self.body()
        client, participant, seconds = body.get("client"), body.get("participant"), body.get("for")
        if isinstance(client, str) == isinstance(participant, str):
            raise HTTPError(400, "the body names a client or a participant")
        timed = isinstance(participant, str) and isinstance(seconds, int | float) and 0 <= seconds < 10**9
        if seconds is not None and not timed:
            raise HTTPError(400, "'for' goes with a participant and is a number of seconds")
        if isinstance(participant, str):
            participant = self.key(participant)
        if participant is not None and seconds == 0:
            await self._let_in(participant)
        else:
            await self._kick(client, participant, None if seconds is None else float(seconds))

    async def _kick(self, client: str | None, participant: str | None, seconds: float | None) -> None:
        if participant is not None:
            self.office.revoke(participant)  # first: who comes back now does not come back by an old session
        closed = await self.office.streams.kick(client, participant, seconds)
        facts = {"client": client, "participant": participant and short(participant), "seconds": seconds}
        self.audit("kicked" if closed or seconds is not None else "nobody was there to kick", streams=len(closed), **facts)
        self._finish(closed, lifted=False)

    async def _let_in(self, participant: str) -> None:
        lifted = await self.office.streams.let_in(participant)
        self.audit("let in again" if lifted else "nobody was there to let in again", participant=short(participant))
        self._finish([], lifted)

    def _finish(self, closed: Sequence[str], lifted: bool) -> None:
        self.finish({"closed": closed, "lifted": lifted, "silent": [*self.office.streams.silent]})


class Kicked(Base):
    """GET /kicked?participant=KEY: who is kept out, and for how many seconds more."""

    def get(self) -> None:
        only = self.get_query_argument("participant", None)
        only = None if only is None else self.key(only)
        left = self.office.streams.bars.left()
        self.finish({"kicked": [{"participant": key, "left": left[key]} for key in left if only in (None, key)]})


class Drain(Base):
    """POST /drain {"over": seconds}: sends new streams away and closes the others over that time; answers when they are told."""

    async def post(self) -> None:
        over = self.body().get("over", 10.0)
        if not isinstance(over, int | float) or not 0 <= over <= 86_400:
            raise HTTPError(400, "'over' is a number of seconds, at most a day")
        self.audit("draining", over=float(over))
        drained = await self.office.streams.drain(float(over))
        self.finish({"closed": drained.closed, "open": drained.open, "silent": [*self.office.streams.silent]})
