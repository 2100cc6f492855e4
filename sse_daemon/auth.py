"""Who is asking: from a request to what it may read, or a refusal. Everything behind this knows channels only.

A mode is an `Authenticator`. It sees the request as an `Asking`, without HTTP's machinery, and answers with a `Grant`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from sse_daemon.errors import InvalidParticipant, RequestRefused
from sse_daemon.event import PUBLIC, participant_channel, topic_channel
from sse_daemon.participant import Canonical


class Asking(NamedTuple):
    """A request, as far as it says who asks for what.

    header_keys, query_keys: every value of the route's key header and key parameter, as received, in order.
    participant, anonymous: the route's own words; topic: the route's topic with the request's path in it, or None.
    address: the peer, as text.
    """

    header_keys: Sequence[str]
    query_keys: Sequence[str]
    participant: Literal["required", "optional", "none"]
    anonymous: Literal["refuse", "public"]
    topic: str | None
    address: str


class Grant(NamedTuple):
    """What a request may read: its participant (None: anonymous), its channels, and until when (loop's clock; None: no end)."""

    participant: str | None
    channels: tuple[str, ...]
    until: float | None = None


class Authenticator(Protocol):
    """One way of knowing who asks."""

    async def admit(self, asking: Asking) -> Grant:
        """Raises RequestRefused: 400 (what it says cannot be), 401 (it does not say who asks), 403 (not this one)."""


class Claim:
    """Mode "claim": a participant is whoever says so. For development, and behind something that checks."""

    def __init__(self, canonical: Canonical) -> None:
        self._canonical = canonical

    async def admit(self, asking: Asking) -> Grant:
        """Takes the claimed key at its word."""
        key = None if asking.participant == "none" else claimed_key(asking, self._canonical)
        if key is None and asking.participant == "required" and asking.anonymous == "refuse":
            raise RequestRefused(401, "participant_required", "name your key in the header or the query string")
        return Grant(key, channels(key, asking.topic))


def claimed_key(asking: Asking, canonical: Canonical) -> str | None:
    """The canonical form of the key that the request claims; the header wins over the query.

    Raises RequestRefused where it cannot be one key.
    """
    for values in (asking.header_keys, asking.query_keys):
        if len(values) > 1:
            raise RequestRefused(400, "ambiguous_participant", "a request names one key, once")
    values = asking.header_keys or asking.query_keys
    if not values:
        return None
    try:
        return canonical(values[0])
    except InvalidParticipant as error:
        raise RequestRefused(400, error.code, str(error)) from None


def channels(key: str | None, topic: str | None) -> tuple[str, ...]:
    """What `key` (None: anybody) may read: its own events and the public ones, of `topic` where the route has one."""
    public = PUBLIC if topic is None else topic_channel(topic)
    return (public,) if key is None else (participant_channel(key), public)


def authenticator(mode: str, canonical: Canonical) -> Authenticator:
    """The authenticator of this `[auth] mode`, which reads keys with `canonical`. Raises ValueError for an unknown one."""
    if mode == "claim":
        return Claim(canonical)
    raise ValueError('the only [auth] mode is "claim"')
