"""What every producer does without a socket: envelopes, numbers, answers, and when to try again. Pure, but for randomness.

`sse_daemon.producer` adds the sockets, and re-exports `Envelope`, the one name of this module that users need.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import ujson

from sse_daemon.errors import PublishError, PublishRefused, Refusal
from sse_daemon.header import attrs_of, keys_of, name_of, ttl_of
from sse_daemon.participant import canonical

Data: TypeAlias = Any
"""str and bytes (UTF-8) travel unchanged; any other JSON value is encoded compactly, member order kept."""

RETRYABLE: Final = frozenset({"overloaded", "storage_full", "unavailable", "draining"})
"""The refusals that may pass by themselves: nothing was stored, and the same number may be sent again."""

_RESERVED_TYPES = frozenset({"connected", "heartbeat", "resync", "bye"})
_NAMES = frozenset({"group", "type", "topic"})
_KEYS = frozenset({"to", "members"})
"""The members of a header that name something, and those that name participants."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event before it is numbered. Raises ValueError or TypeError at birth for what no daemon would take.

    to: participants' keys, or "*" for everybody; group: a name whose members are added. One of the two is needed.
    type, topic, attrs, retain, ttl (seconds): as the envelope's header members of those names.
    """

    data: Data = field(repr=False)  # content does not belong in logs
    to: Sequence[str] = field(default=(), kw_only=True)
    group: str | None = field(default=None, kw_only=True)
    type: str | None = field(default=None, kw_only=True)
    topic: str | None = field(default=None, kw_only=True)
    attrs: Mapping[str, str | Sequence[str]] | None = field(default=None, kw_only=True)
    retain: bool = field(default=False, kw_only=True)
    ttl: float | None = field(default=None, kw_only=True)
    _head: dict[str, Any] = field(init=False, repr=False, compare=False)
    _body: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Encoded here and not when it is sent: a mistake shows where it is made, and costs no number.
        object.__setattr__(self, "_head", self._header())
        object.__setattr__(self, "_body", encode_data(self.data))
        encode_json(self._head)

    def frame(self, sender: str, n: int) -> bytes:
        """The event as one ZeroMQ frame: the header with its number, LF, the data."""
        return encode_json({**self._head, "from": sender, "n": n}) + b"\n" + self._body

    def _header(self) -> dict[str, Any]:
        if self.type in _RESERVED_TYPES:
            raise ValueError(f"only the daemon itself writes events of type {self.type!r}")
        header: dict[str, Any] = {}
        if (to := _recipients(self.to, self.group)) is not None:
            header["to"] = to
        header.update((name, value) for name in ("group", "type", "topic", "ttl") if (value := getattr(self, name)) is not None)
        if self.attrs:
            header["attrs"] = {k: v if isinstance(v, str) else list(v) for k, v in self.attrs.items()}
        if self.retain:
            header["retain"] = True
        _check(header)
        return header


@dataclass(frozen=True, slots=True)
class Control:
    """A control envelope: it sets a group or declares a topic, and has no data."""

    head: Mapping[str, Any]

    @classmethod
    def group(cls, name: str, members: Sequence[str]) -> Control:
        """From here on `name` stands for `members`; without members it is gone."""
        return cls(_check({"group": name, "members": _keys(members)}))

    @classmethod
    def topic(cls, name: str, known: bool) -> Control:
        """From here on `name` is a known topic, or is not."""
        return cls(_check({"topic": name, "known": known}))

    def frame(self, sender: str, n: int) -> bytes:
        """The control envelope as one ZeroMQ frame."""
        return encode_json({**self.head, "from": sender, "n": n})


Item: TypeAlias = Envelope | Control


class Run:
    """One run of a producer: a name that nobody had before, and its counter 1, 2, 3 ...

    The daemon answers a repeated (from, n) with the first ids and stores nothing, so two processes that share a run would lose
    events: a forked child is refused. Not thread-safe; the caller numbers and sends under one lock or on one loop.
    """

    def __init__(self, name: str) -> None:
        if not name or len(name) > 150 or not name.isprintable():
            raise ValueError("a producer's name is 1 to 150 printable characters")
        self.sender: Final = f"{name}/{secrets.token_hex(6)}"
        self.n = 0
        self._process = os.getpid()

    def number(self, items: Sequence[Item]) -> list[bytes]:
        """The frames of `items` with the next numbers; when one cannot be encoded, none is used up."""
        self.check_process()
        frames = [item.frame(self.sender, n) for n, item in enumerate(items, self.n + 1)]
        self.n += len(frames)
        return frames

    @property
    def forked(self) -> bool:
        """This process was forked off the one that made this: socket and threads are the parent's, and not to be touched."""
        return os.getpid() != self._process

    def check_process(self) -> None:
        """Raises PublishError in a forked child."""
        if self.forked:
            raise PublishError("this producer was made before a fork; make one in each process")


Answer: TypeAlias = "list[str] | PublishError"
"""The ids of the stored events, in order, or why there are none."""


def parse_answer(frames: Sequence[bytes]) -> tuple[bytes, Answer] | None:
    """The request's id and the daemon's answer to it; None for what answers nothing."""
    if len(frames) != 2:
        return None
    try:
        answer = ujson.loads(frames[1])
    except ValueError:
        answer = None
    return frames[0], _answer(answer)


def _answer(answer: Any) -> Answer:
    match answer:
        case {"ok": True, "ids": [*ids]} if all(isinstance(id, str) for id in ids):
            return ids
        case {"ok": False, "code": str(code)}:
            return PublishRefused(code, str(answer.get("detail", "")), answer.get("index"))
    return PublishError("what answered is not sse-daemon's acked socket")


class Retries:
    """How long one request waits before it is sent again. Seconds; every wait but the first is jittered.

    patience: for an answer, doubled each time. A refusal that may pass is retried after 0.05 s, doubled up to 2 s. While
    nobody is connected nothing is queued: the request looks again after 2 ms, doubled up to 0.25 s.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._refused = 0.05
        self._away = 0.002
        self.refusal: PublishRefused | None = None
        """The last one."""

    def after_send(self, sent: bool) -> float:
        """The wait after an attempt that ZeroMQ took (`sent`), or for which nobody is connected."""
        if not sent:
            wait, self._away = self._away, min(self._away * 2, 0.25)
            return wait
        wait, self._patience = self._patience, self._patience * 2
        return _jittered(wait)

    def after_refusal(self, refusal: PublishError) -> float:
        """The wait after `refusal`; raises it when trying again would not help."""
        if not isinstance(refusal, PublishRefused) or refusal.code not in RETRYABLE:
            raise refusal
        self.refusal = refusal
        wait, self._refused = self._refused, min(self._refused * 2, 2.0)
        return _jittered(wait)


def _jittered(wait: float) -> float:
    # Only upwards: a wait that was asked for is kept, and producers that failed together do not come back together.
    return wait * random.uniform(1.0, 1.5)


def encode_json(value: Any) -> bytes:
    """`value` as compact JSON in UTF-8. Raises TypeError, or ValueError for NaN, infinities and lone surrogates."""
    try:
        return ujson.dumps(value, ensure_ascii=False, escape_forward_slashes=False, allow_nan=False).encode()
    except OverflowError:
        raise ValueError("JSON has no NaN and no infinities, and ends its nesting somewhere") from None


def encode_data(data: Data) -> bytes:
    """What follows the header's LF. Raises ValueError for bytes that are not UTF-8."""
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        raw = bytes(data)
        if not raw.isascii():
            raw.decode()
        return raw
    return encode_json(data)


def _check(header: dict[str, Any]) -> dict[str, Any]:
    """`header`, if its members are what every daemon takes, whatever its settings. Raises ValueError, in a daemon's words."""
    try:
        for name in _NAMES & header.keys():
            name_of(header[name], f"bad_{name}", name)
        for name in _KEYS & header.keys():
            if header[name] and header[name] != "*":
                keys_of(header[name], canonical)  # whatever any daemon takes for a key is an opaque key too
        if "ttl" in header:
            ttl_of(header["ttl"])
        if "attrs" in header:
            attrs_of(header["attrs"])
    except Refusal as refusal:
        raise ValueError(refusal.detail) from None
    return header


def _recipients(to: Sequence[str], group: str | None) -> str | list[str] | None:
    if to == "*":
        return "*"
    keys = _keys(to)
    if not keys and group is None:
        raise ValueError('an event for nobody: name participants in `to`, or a `group`, or say to="*" for everybody')
    return keys or None


def _keys(keys: Sequence[str]) -> list[str]:
    if isinstance(keys, str):
        # A string is a sequence of strings: "alice" would go to a, l, i, c and e.
        raise TypeError('participants are named by a list of keys; only "*" stands alone')
    return list(keys)
