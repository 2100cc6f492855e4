"""Producers' messages: what `envelope` makes of any frames is valid, and what the JSON of the standard library reads there."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from sse_daemon.ed25519 import canonical as ed25519
from sse_daemon.envelope import RESERVED_TYPES, Bounds, Parsed, Unresolved, parse, resolve
from sse_daemon.errors import Refusal
from sse_daemon.event import Draft, Group, Record, Topic
from sse_daemon.header import MAX_N, MAX_TTL
from sse_daemon.participant import Canonical, canonical
from tests.fuzz.frames import check_draft

BOUNDS = Bounds()
NARROW = Bounds(max_frame=64, max_frames=2, max_recipients=2, max_members=1)
KEYED = Bounds(read_key=ed25519)
NOW = 1_000_000.0
GROUPS = {"g": ("a", "b")}
UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?[0-9]+(?:\.[0-9]*)?|-')
"""Strings, and numbers or what stands before and behind the `e` of one."""


def check_message(message: Sequence[bytes]) -> bool:
    """Any frames are valid items that say what the frames say, or a refusal; less room or stricter keys make nothing else of them."""
    items = check_bounded(message, BOUNDS)
    for bounds in (NARROW, KEYED):
        fewer = check_bounded(message, bounds)
        assert fewer is None or bounds is KEYED or fewer == items
        assert fewer is None or items is not None
    if items is None:
        return False
    frames = message if message[0].startswith(b"{") else message[1:]
    topic = None if frames is message else message[0].decode()
    for item, frame in zip(items, frames, strict=True):
        check_said(item, frame, topic)
    return True


def check_bounded(message: Sequence[bytes], bounds: Bounds) -> tuple[Parsed, ...] | None:
    """The items of the message, which make a valid record unless their group is missing; or None if it is refused."""
    try:
        items = parse(message, bounds)
    except Refusal as refused:
        check_refusal(refused, message)
        return None
    assert len(items) in (len(message), len(message) - 1)
    try:
        record = resolve(items, GROUPS, bounds, NOW)
    except Refusal as refused:
        check_refusal(refused, message)
        assert refused.code in ("unknown_group", "too_many_recipients")
        return items
    assert len(record) == len(items)
    check_record(record, bounds.read_key)
    return items


def check_refusal(refused: Refusal, message: Sequence[bytes]) -> None:
    """It names a documented kind of code, and a place in the message or none."""
    assert refused.code.replace("_", "").isalnum()
    assert refused.detail
    assert refused.index is None or 0 <= refused.index < max(1, len(message))


def check_record(record: Record, read_key: Canonical = canonical) -> None:
    """Holds of every record whatever it was made of: nothing behind this module looks again."""
    for item in record:
        assert (item.sender is None) == (item.n is None)
        assert item.n is None or 1 <= item.n <= MAX_N
        if isinstance(item, Draft):
            check_event(item, read_key)
            check_draft(item)
        elif isinstance(item, Group | Topic):
            check_name(item.name)
    origins = [(item.sender, item.n) for item in record if item.sender is not None]
    assert len(set(origins)) == len(origins)


def check_event(draft: Draft, read_key: Canonical) -> None:
    """An event is for somebody, by canonical keys; its names are names and its data is text."""
    assert 1 <= len(draft.channels) == len(set(draft.channels))
    for channel in draft.channels:
        kind, _, name = channel.partition("/")
        if kind == "participant":
            assert name in ("a", "b") or read_key(name) == name  # those two are who is in the group
        else:
            assert channel == "public" or kind == "topic" and name == draft.topic
    check_name(draft.type)
    assert draft.type not in RESERVED_TYPES
    if draft.topic is not None:
        check_name(draft.topic)
    assert b"\r" not in draft.data
    draft.data.decode()
    json.dumps(draft.attrs, ensure_ascii=False).encode()
    assert draft.expires is None or NOW <= draft.expires <= NOW + MAX_TTL


def check_name(name: str) -> None:
    """1 to 200 characters, none of which controls, formats or separates lines."""
    assert 1 <= len(name) <= 200
    assert not any(unicodedata.category(character) in UNSAFE for character in name)


def check_said(item: Parsed, frame: bytes, topic: str | None) -> None:
    """Another reader of the same header sees the same event, group or topic."""
    head, lf, rest = frame.partition(b"\n")
    members: dict[str, Any] = json.loads(proper(head), strict=False, object_pairs_hook=once, parse_constant=no_constant)
    origin = (members.get("from"), members.get("n"))
    if "members" in members:
        assert item == Group(members["group"], tuple(dict.fromkeys(members["members"])), *origin)
    elif "known" in members:
        assert item == Topic(members["topic"], members["known"], *origin)
    else:
        value = members.get("data", "")
        text = lf_only(rest if lf else value.encode()) if lf or isinstance(value, str) else None
        data = (item.draft if isinstance(item, Unresolved) else item).data  # type: ignore[union-attr]
        assert text is not None or json.loads(data) == value
        assert item == expected(members, data if text is None else text, topic)


def proper(head: bytes) -> str:
    """A header whose numbers are spelled as JSON has them: the daemon's parser also takes 08, -01, 1. and a lone minus as 0."""
    return _TOKEN.sub(lambda match: proper_token(match[0]), head.decode())


def proper_token(token: str) -> str:
    """A string as it is; a number without zeros too many in front, and with digits before its end."""
    if token[0] == '"':
        return token
    whole, point, fraction = token.removeprefix("-").partition(".")
    return ("-" if token[0] == "-" else "") + (whole.lstrip("0") or "0") + (point and f".{fraction or 0}")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose members stand once."""
    members = dict(pairs)
    assert len(members) == len(pairs), "a member stands twice"
    return members


def no_constant(text: str) -> float:
    """NaN and the infinities are no JSON."""
    raise AssertionError(f"{text} is no JSON")


def lf_only(data: bytes) -> bytes:
    """`data` with the only line ends that SSE has."""
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def expected(members: dict[str, Any], data: bytes, topic: str | None = None) -> Draft | Unresolved:
    """What a header says, read off it without a parser."""
    to, topic = members.get("to", []), members.get("topic", topic)
    public = ("public",) if topic is None else ("public", f"topic/{topic}")
    draft = Draft(
        channels=public if to == "*" else tuple(f"participant/{key}" for key in dict.fromkeys(to)),
        type=members.get("type", "message"),
        topic=topic,
        attrs=tuple((k, v if isinstance(v, str) else tuple(v)) for k, v in members.get("attrs", {}).items()),
        data=data,
        retain=members.get("retain", False),
        sender=members.get("from"),
        n=members.get("n"),
    )
    group, ttl = members.get("group"), members.get("ttl")
    return draft if group is None and ttl is None else Unresolved(draft, group, ttl)
