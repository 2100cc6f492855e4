"""Who is asking: from a request to what it may read, or a refusal. Everything behind this knows channels only.

A mode is an `Authenticator`, in a module of its own (`auth_claim`, `auth_proof` ...). It sees the request as an `Asking`, without HTTP's
machinery, and answers with a `Grant`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from sse_daemon.errors import InvalidParticipant, RequestRefused
from sse_daemon.event import PUBLIC, participant_channel, topic_channel
from sse_daemon.metrics import Values
from sse_daemon.participant import Canonical


class Message(NamedTuple):
    """A request's head as it came: what a signature covers, and what somebody else may be asked about.

    path, query: as they stand in the request line, on either side of its first question mark. header: every value that a header has,
    a line each, in order.
    """

    method: str
    path: str
    query: str
    header: Callable[[str], Sequence[str]]


class Asking(NamedTuple):
    """A request, as far as it says who asks for what.

    header, query: the names of the route's key header and key parameter; header_keys, query_keys: every value of them, as received,
    in order.
    participant, anonymous: the route's own words; topic: the route's topic with the request's path in it, or None.
    peer: who is connected, as text; address: the client, who is the peer or whom that speaks for, as far as it is believed.
    """

    header: str
    query: str
    header_keys: Sequence[str]
    query_keys: Sequence[str]
    participant: Literal["required", "optional", "none"]
    anonymous: Literal["refuse", "public"]
    topic: str | None
    peer: str
    address: str
    message: Message


class Grant(NamedTuple):
    """What a request may read: its participant (None: anonymous), its channels, and until when (loop's clock; None: no end)."""

    participant: str | None
    channels: tuple[str, ...]
    until: float | None = None


class Cookie(NamedTuple):
    """A session that was opened: whose, for how many seconds, and the value of its Set-Cookie header."""

    participant: str
    seconds: float
    value: str


UNASKED: Values = {"hook_questions_total": {}, "hook_remembered_total": 0, "hook_waiting": 0.0}
"""The metrics of a mode that asks nobody."""


class Authenticator(Protocol):
    """One way of knowing who asks."""

    @property
    def proves(self) -> bool:
        """False where a participant is whoever says so; then every answer of the daemon says that too."""

    @property
    def vouched(self) -> bool:
        """Whether somebody else says who is a participant. Else anybody can be as many participants as it likes."""

    async def open(self, addresses: Sequence[str]) -> None:
        """Gets ready for requests to these addresses ("host:port", "unix:/path"). Raises AuthUnusable if it cannot do its work."""

    async def admit(self, asking: Asking) -> Grant:
        """Raises RequestRefused: 400 (what it says cannot be), 401 (it does not say who asks), 403 (not this one)."""

    async def begin(self, asking: Asking) -> Cookie | None:
        """Opens a session for whoever asks; None: this mode has no sessions. Raises RequestRefused."""

    # What most modes have no need for.

    @property
    def why_not_ready(self) -> str | None:
        """Why nobody can be told apart yet, or None."""
        return None

    def forget(self, participant: str) -> None:
        """Whatever is remembered of who is this participant is good no more."""
        return  # nothing is

    def values(self) -> Values:
        """The metrics of `UNASKED`, as they are."""
        return UNASKED

    async def close(self) -> None:
        """Lets go of everything."""
        return  # there is nothing


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


def may_be_nobody(asking: Asking) -> bool:
    """Whether the route serves who does not say who it is."""
    return asking.participant != "required" or asking.anonymous == "public"


def granted(key: str | None, asking: Asking, until: float | None = None) -> Grant:
    """What `key` (None: anybody) may read on the route that is asked for."""
    return Grant(key, channels(key, asking.topic), until)


def channels(key: str | None, topic: str | None) -> tuple[str, ...]:
    """What `key` (None: anybody) may read: its own events and the public ones, of `topic` where the route has one."""
    public = PUBLIC if topic is None else topic_channel(topic)
    return (public,) if key is None else (participant_channel(key), public)
