"""Mode "hook": what the application is asked, and how its answer is read. Pure.

A question is a list of headers; the same headers are the same question, and nothing else of a request plays a part in the answer.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from sse_daemon.auth import Asking
from sse_daemon.errors import InvalidParticipant, RequestRefused
from sse_daemon.participant import Canonical

Question: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values of the headers that the application gets."""

REFUSED = (401, 403, 404)
"""What the application may answer instead of a participant; it is passed on, in our own words."""
_MEMBERS = {"participant", "max_age"}


class Answer(NamedTuple):
    """What the application says. refused: one of REFUSED, or None; participant: canonical, None: nobody; seconds: how long it holds."""

    refused: int | None
    participant: str | None
    seconds: float


def question(asking: Asking, forwarded: Sequence[str]) -> Question:
    """What is asked about a request. forwarded: the headers that are passed on. Raises RequestRefused (400) if one is there twice."""
    message = asking.message
    said = [
        ("X-Forwarded-Method", message.method),
        ("X-Forwarded-Uri", message.path + (f"?{message.query}" if message.query else "")),
        ("X-Forwarded-For", asking.address.rpartition(":")[0].strip("[]") or asking.address),
        *(("X-Forwarded-Host", value) for value in _at_most_one(asking, "Host")),
    ]
    names = {name.lower(): name for name in forwarded}.values()
    return (*said, *((name, value) for name in names for value in _at_most_one(asking, name)))


def _at_most_one(asking: Asking, name: str) -> Sequence[str]:
    values = asking.message.header(name)
    if len(values) > 1:
        # Which of them counts is for every server to choose, and the choices differ.
        raise RequestRefused(400, "ambiguous_credentials", "a request has each header that says who asks once")
    return values


def carries(asked: Question, header: str) -> bool:
    """Whether the application is told this header of the request."""
    return any(name.lower() == header.lower() for name, _ in asked)


def digest(asked: Question) -> bytes:
    """The same for the same question, another one for every other: with their lengths, texts cannot run into each other."""
    text = "".join(f"{len(part)}:{part}" for header in asked for part in header)
    return hashlib.sha256(text.encode()).digest()


def read(status: int, body: bytes, canonical: Canonical, most: float) -> Answer:
    """What an HTTP answer says. most: seconds that it may hold. Raises ValueError, which repeats nothing of it.

    401, 403, 404 whatever their bodies; 204: nobody; 200: {"participant": key, "max_age": seconds}, either may be missing, the first
    null: nobody.
    """
    if status in REFUSED:
        return Answer(status, None, 0.0)
    if status == 204:
        return Answer(None, None, most)
    if status != 200:
        raise ValueError(f"status {status}")
    said = _object(body)
    return Answer(None, _participant(said, canonical), _seconds(said.get("max_age", most), most))


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise ValueError("no JSON, or a member twice") from None
    if not isinstance(said, dict) or not said.keys() <= _MEMBERS:
        raise ValueError("another form than {participant, max_age}")
    return said


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _participant(said: dict[str, Any], canonical: Canonical) -> str | None:
    named = said.get("participant")
    if named is None:
        return None
    if not isinstance(named, str):
        raise ValueError("a participant that is no text")
    try:
        return canonical(named)
    except InvalidParticipant:
        raise ValueError("a participant that is no key") from None


def _seconds(value: object, most: float) -> float:
    # NaN compares false with everything, and whole numbers may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError("a max_age that is no number above 0")
    return float(min(value, most))
