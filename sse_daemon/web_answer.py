"""Answers that are no stream, as values: whichever door a request came by, what it is told is decided here."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from email.utils import formatdate
from typing import Any, NamedTuple

from sse_daemon import sse
from sse_daemon.errors import BackendError, RequestRefused
from sse_daemon.log import Sparing, logger
from sse_daemon.participant import short
from sse_daemon.request import Request
from sse_daemon.web_site import Site

Headers = list[tuple[str, str]]

METHODS = "GET, HEAD, OPTIONS"
STREAM_HEADERS = (
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("X-Accel-Buffering", "no"),
    ("X-Content-Type-Options", "nosniff"),
)
CLAIMED = ("Sse-Daemon-Auth", "claim")
"""What every answer says where nothing proves who a client is."""
READABLE = ("Access-Control-Expose-Headers", "Date, Retry-After")
"""What a page of another origin needs beside the body: the time to sign by, and when to come back."""
ERRORS = {
    400: ("bad_request", "the request is malformed"),
    404: ("not_found", "there is no such route"),
    405: ("method_not_allowed", "this route answers {methods}"),
    500: ("internal", "a defect of the daemon; it is in its log"),
}
SENT_SHOWN = 100
"""Characters that a line of the log shows of what was sent."""
LOG_AGAIN = 2
"""Seconds after which a client may ask again when the log did not answer."""

_log = logger("web")
_sparing = Sparing(_log, time.monotonic)


class Answer(NamedTuple):
    """What a request is told before its connection ends: status, headers (beside the common ones), body."""

    status: int
    headers: Headers
    body: bytes


def refusal(refused: RequestRefused, retry_after: int | None = None) -> Answer:
    """A refusal as JSON."""
    headers = [("Content-Type", "application/json")]
    if (seconds := refused.retry_after if retry_after is None else retry_after) is not None:
        headers.append(("Retry-After", str(seconds)))
    if refused.date is not None:
        headers.append(("Date", formatdate(refused.date, usegmt=True)))
    if refused.challenge is not None:
        headers.append(("WWW-Authenticate", refused.challenge))
    return Answer(refused.status, headers, sse.dumps({"error": refused.code, "detail": refused.detail}))


def failure(status: int, methods: str = METHODS) -> Answer:
    """The refusal of a request that nothing else was said about. methods: the route's."""
    code, detail = ERRORS.get(status, ("error", "the request cannot be answered"))
    return refusal(RequestRefused(status, code, detail.format(methods=methods)))


def explained(request: Request, error: RequestRefused | BackendError) -> Answer:
    """The answer to a request that `error` ended; it is in the log."""
    if isinstance(error, RequestRefused):
        complain(request, "request refused", **_reason(error))
        return refusal(error)
    return failed(error)


def unread(refused: RequestRefused, peer: str) -> Answer:
    """The answer to a request that was refused before anybody looked at what it asks for; it is in the log."""
    _sparing.info("request refused", **_reason(refused), address=peer)
    return refusal(refused)


def _reason(refused: RequestRefused) -> dict[str, str | None]:
    return {"code": refused.code, "sent": refused.sent and refused.sent[:SENT_SHOWN]}


def failed(error: BackendError) -> Answer:
    """The answer to a request for which the log, or the process that has it, was not there."""
    _sparing.warning("the backend failed a request", error=str(error))
    return refusal(RequestRefused(503, "unavailable", "the log does not answer; try again"), retry_after=LOG_AGAIN)


def away(site: Site, request: Request, client: str | None, reason: str, refused: RequestRefused) -> Answer:
    """A browser's EventSource gives up at any status but 200: it gets an empty stream that sends it away for a while."""
    host = request.address.rpartition(":")[0]
    retry = site.door.turn_away(host, client) if request.accepts("text/event-stream") else None
    complain(request, "stream turned away", reason=reason)
    if retry is None:
        return refusal(refused, retry_after=math.ceil(site.door.bye_ms() / 1000))
    return Answer(200, [*STREAM_HEADERS], sse.bye(reason, retry))


def common_headers(site: Site, origins: Sequence[str]) -> Headers:
    """What every answer has that is no stream. origins: the request's."""
    return [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"), *_unproven(site), *cors(site, origins)]


def stream_head(site: Site, origins: Sequence[str], *, chunked: bool) -> bytes:
    """The head of a stream's response. origins: the request's; chunked: HTTP/1.1."""
    framing = [("Transfer-Encoding", "chunked")] if chunked else []
    return sse.head("200 OK", [*STREAM_HEADERS, *_unproven(site), *cors(site, origins), *framing, ("Connection", "close")])


def _unproven(site: Site) -> Headers:
    return [] if site.authenticator.proves else [CLAIMED]


def cors(site: Site, origins: Sequence[str]) -> Headers:
    """The CORS headers for a request with these Origins: for an allowed one its own name, from the list."""
    allowed = site.config().http.cors_origins
    if not allowed:
        return []
    headers = [("Vary", "Origin")]
    for origin in allowed:
        if [*origins] == [origin]:
            headers += [("Access-Control-Allow-Origin", origin), ("Access-Control-Allow-Credentials", "true"), READABLE]
    return headers


def note(request: Request, participant: str | None, message: str, **facts: Any) -> None:
    """A line in the log about a request of whoever it turned out to be of."""
    _log.info(message, extra={**facts, "participant": participant and short(participant), "address": request.address})


def complain(request: Request, message: str, **facts: Any) -> None:
    """The same about one that got nothing, of whoever it says to be of, unless there are too many of them."""
    try:
        claimed = request.header(request.route.header) or request.query(request.route.query)
    except RequestRefused:  # no text, so no key
        claimed = ()
    key = short(claimed[0]) if len(claimed) == 1 else None
    _sparing.info(message, **facts, participant=key, address=request.address)
