"""From the frames of one ZeroMQ message to the items of one record. Pure: bytes in, values or a Refusal out.

The format is CONTRACT-level and documented in docs/producers.md: one frame is one event, its first line a JSON object (the
header), the rest its data. What is returned is valid and stays so: nothing behind this module looks again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypeAlias

import ujson

from sse_daemon.errors import DigestKey, InvalidParticipant, Refusal
from sse_daemon.event import (
    PUBLIC,
    Attrs,
    Draft,
    Group,
    Item,
    Record,
    Repeat,
    Topic,
    is_participants,
    is_unsafe,
    participant_channel,
    topic_channel,
)
from sse_daemon.participant import Canonical, canonical

RESERVED_TYPES = frozenset({"connected", "heartbeat", "resync", "bye"})
"""The event names that only the daemon itself writes."""

MAX_NAME = 200
"""Characters of a topic, a group's name, a type or a `from`."""
MAX_ATTRS = 32
MAX_ATTR_NAME = 64
MAX_ATTR_VALUE = 256
MAX_TTL = 10 * 365 * 86_400.0
MAX_N = 2**53 - 1
"""The largest counter: what every JSON implementation carries exactly."""


class Bounds(NamedTuple):
    """What one message may be. max_frame: bytes; max_frames: events; max_recipients, max_members: participants.

    max_message: bytes of all frames of a message of several; max_message_recipients: participants of all its events.
    read_key: gives the canonical form of a participant's key, or says why it is none.
    """

    max_frame: int = 1024 * 1024
    max_frames: int = 1000
    max_recipients: int = 1000
    max_members: int = 1000
    read_key: Canonical = canonical
    max_message: int = 4 * 1024 * 1024
    max_message_recipients: int = 20_000


class Unresolved(NamedTuple):
    """An event that needs what holds at the moment it is stored: the members of `group`, the clock for its `ttl` (seconds).

    draft: all the rest of it; it may have no channel yet, and never expires.
    """

    draft: Draft
    group: str | None
    ttl: float | None

    @property
    def sender(self) -> str | None:
        """The run of its producer."""
        return self.draft.sender

    @property
    def n(self) -> int | None:
        """Its number in that run."""
        return self.draft.n


Parsed: TypeAlias = Draft | Unresolved | Group | Topic | Repeat

_EVENT_MEMBERS = frozenset({"to", "group", "type", "topic", "attrs", "retain", "from", "n", "ttl", "data"})
_GROUP_MEMBERS = frozenset({"group", "members", "from", "n"})
_TOPIC_MEMBERS = frozenset({"topic", "known", "from", "n"})


def parse(frames: Sequence[bytes], bounds: Bounds) -> tuple[Parsed, ...]:
    """The items of one message, in order. Raises Refusal, with the index of the first bad event (topic frames do not count)."""
    if not frames:
        raise Refusal("empty_message", "a message has at least one frame")
    topic = None
    if not frames[0].startswith(b"{"):
        topic, frames = _topic_frame(frames[0]), frames[1:]
        if not frames:
            raise Refusal("bad_header", "a frame begins with its JSON header, a topic frame is followed by events", 0)
    if len(frames) > bounds.max_frames:
        raise Refusal("too_many_frames", f"a message has at most {bounds.max_frames} events")
    if len(frames) > 1 and sum(map(len, frames)) > bounds.max_message:
        raise Refusal("message_too_large", f"the frames of a message have at most {bounds.max_message} bytes together")
    items = []
    named = 0
    for index, frame in enumerate(frames):
        try:
            item = _item(frame, topic, bounds)
        except Refusal as refusal:
            raise refusal.at(index) from None
        items.append(item)
        if len(frames) > 1:
            named += _named(item)
            # At once: the rest of a message that names too many would cost as much again for each of its frames.
            if named > bounds.max_message_recipients:
                raise _too_many_named(bounds)
    if len(items) > 1:
        _refuse_twins(items)
    return tuple(items)


def resolve(parsed: Sequence[Parsed], groups: Mapping[str, Collection[str]], bounds: Bounds, now: float) -> Record:
    """The record of one message: groups replaced by their members as of now, recipients by channels, ttl by its expiry.

    A group that an earlier item of the same message sets counts for the later ones. Raises Refusal (`unknown_group`,
    `too_many_recipients`) with the index.
    """
    here: dict[str, Collection[str]] = {}
    items: list[Item] = []
    named = 0
    for index, item in enumerate(parsed):
        if isinstance(item, Unresolved):
            members = () if item.group is None else _members(item.group, here, groups, index)
            draft = _resolved(item, members, bounds, now, index)
            items.append(draft)
            named += len(draft.channels)
            if len(parsed) > 1 and named > bounds.max_message_recipients:
                raise _too_many_named(bounds)
            continue
        if isinstance(item, Group):
            here[item.name] = item.members
        items.append(item)
    return tuple(items)


def as_repeat(parsed: Sequence[Parsed], refusal: Refusal) -> tuple[Parsed, ...]:
    """`parsed` with the refused item replaced by its Repeat: what cannot be accepted now may be stored since it could.

    Raises the refusal itself if the item has no number.
    """
    index = refusal.index
    item = None if index is None else parsed[index]
    if index is None or item is None or item.sender is None or item.n is None or isinstance(item, Repeat):
        raise refusal
    return (*parsed[:index], Repeat(item.sender, item.n, refusal.code, refusal.detail), *parsed[index + 1 :])


def _named(item: Parsed) -> int:
    """How many participants the item names: what it costs, whatever it is."""
    if isinstance(item, Draft):
        return len(item.channels)
    if isinstance(item, Unresolved):
        return len(item.draft.channels)
    return len(item.members) if isinstance(item, Group) else 0


def _too_many_named(bounds: Bounds) -> Refusal:
    """The message's own, not one event's: there is no event without which all would be well."""
    return Refusal(
        "too_many_recipients", f"the events of a message have at most {bounds.max_message_recipients} recipients together"
    )


def _members(
    name: str, here: Mapping[str, Collection[str]], groups: Mapping[str, Collection[str]], index: int
) -> Collection[str]:
    members = here[name] if name in here else groups.get(name)
    if not members:
        raise Refusal("unknown_group", "no group of this name is set", index)
    return members


def _resolved(item: Unresolved, members: Collection[str], bounds: Bounds, now: float, index: int) -> Draft:
    draft = item.draft
    named = dict.fromkeys((*draft.channels, *map(participant_channel, members)))
    if sum(map(is_participants, named)) > bounds.max_recipients:
        raise Refusal("too_many_recipients", f"an event has at most {bounds.max_recipients} recipients", index)
    return draft._replace(channels=tuple(named), expires=None if item.ttl is None else now + item.ttl)


def _item(frame: bytes, topic: str | None, bounds: Bounds) -> Parsed:
    if len(frame) > bounds.max_frame:
        raise Refusal("too_large", f"a frame has at most {bounds.max_frame} bytes")
    head, lf, rest = frame.partition(b"\n")
    header = _header(head)
    if "members" in header:
        _check_members(header, _GROUP_MEMBERS)
        return _group(header, rest, bounds)
    if "known" in header:
        _check_members(header, _TOPIC_MEMBERS)
        return _known(header, rest)
    _check_members(header, _EVENT_MEMBERS)
    return _event(header, rest if lf else None, topic, bounds)


def _check_members(header: Mapping[str, Any], known: frozenset[str]) -> None:
    if not header.keys() <= known:
        raise Refusal("unknown_member", f"this kind of header has only the members {', '.join(sorted(known))}")


def _header(head: bytes) -> dict[str, Any]:
    """The header's members. Duplicates are refused: two readers of one header must not see two different events."""
    try:
        text = head.decode()
    except UnicodeDecodeError:
        raise Refusal("not_utf8", "the header is not UTF-8") from None
    try:
        header = ujson.loads(text)
    except (ValueError, RecursionError, OverflowError):
        raise Refusal("bad_header", "the first line is not a JSON object") from None
    if not isinstance(header, dict):
        raise Refusal("bad_header", "the first line is not a JSON object")
    # Each member costs one colon. More colons than members: one stands inside a string, or a member stands twice.
    attrs = header.get("attrs")
    if text.count(":") != len(header) + (len(attrs) if isinstance(attrs, dict) else 0):
        _check_duplicates(text)
    return header


def _check_duplicates(text: str) -> None:
    try:
        # Not strict: ujson too takes a raw tab in a string, and whether that is refused must not hang on a colon elsewhere.
        json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, strict=False)
    except (ValueError, RecursionError):
        # What ujson reads and the standard library does not (NaN, a stray escape) is no JSON either.
        raise Refusal("bad_header", "the first line is not a JSON object") from None


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise Refusal("duplicate_member", "a member stands twice in one object of the header")


def _no_constant(_: str) -> NoReturn:
    raise ValueError("not JSON")


def _event(header: Mapping[str, Any], rest: bytes | None, topic: str | None, bounds: Bounds) -> Draft | Unresolved:
    get = header.get
    to = get("to")
    channels: tuple[str, ...] = () if to == "*" else _recipients(to, "group" in header, bounds)
    sender, n = _origin(header)
    kind = get("type", "message")
    if kind != "message":
        _check_name(kind, "bad_type", "type")
        if kind in RESERVED_TYPES:
            raise Refusal("reserved_type", "only the daemon itself writes events of this type")
    if "topic" in header:
        topic = _check_name(header["topic"], "bad_topic", "topic")
    if to == "*":
        channels = (PUBLIC,) if topic is None else (PUBLIC, topic_channel(topic))
    attrs = _attrs(header["attrs"]) if "attrs" in header else ()
    retain = _flag(header["retain"], "bad_retain", "retain") if "retain" in header else False
    # As the class does it, without its detour over keywords and defaults: every event passes here.
    draft = tuple.__new__(Draft, (channels, kind, topic, attrs, _data(header, rest), None, retain, sender, n))
    if "group" not in header and "ttl" not in header:
        return draft
    group = _check_name(header["group"], "bad_group", "group") if "group" in header else None
    return Unresolved(draft, group, _ttl(header["ttl"]) if "ttl" in header else None)


def _recipients(to: Any, has_group: bool, bounds: Bounds) -> tuple[str, ...]:
    """The channels of those whom `to` names."""
    if to is None and has_group:
        return ()
    if not isinstance(to, list):
        raise Refusal("bad_to", "'to' is a list of participants, or the string \"*\" for everybody")
    if not to and not has_group:
        raise Refusal("no_recipient", 'an event for nobody is refused; "*" means everybody')
    if len(to) > bounds.max_recipients:
        raise Refusal("too_many_recipients", f"an event has at most {bounds.max_recipients} recipients")
    keys = _keys(to, bounds.read_key)
    return (participant_channel(keys[0]),) if len(keys) == 1 else tuple(map(participant_channel, keys))


def _keys(values: Sequence[Any], read: Canonical) -> tuple[str, ...]:
    try:
        return (read(values[0]),) if len(values) == 1 else tuple(dict.fromkeys(map(read, values)))
    except DigestKey as error:
        raise Refusal("digest_key", str(error)) from None
    except InvalidParticipant as error:
        raise Refusal("bad_participant", str(error)) from None
    except TypeError:
        raise Refusal("bad_participant", "a participant is named by a string") from None


def _origin(header: Mapping[str, Any]) -> tuple[str | None, int | None]:
    if "from" not in header and "n" not in header:
        return None, None
    if "from" not in header or "n" not in header:
        raise Refusal("bad_origin", "'from' and 'n' stand together")
    n = header["n"]
    if type(n) is not int or not 1 <= n <= MAX_N:
        raise Refusal("bad_origin", "'n' counts a producer's events: 1, 2, 3 ...")
    return _check_name(header["from"], "bad_origin", "from"), n


def _group(header: Mapping[str, Any], rest: bytes, bounds: Bounds) -> Group:
    if rest or "group" not in header:
        raise Refusal("bad_group", "a group is set by {group, members} without data")
    members = header["members"]
    if not isinstance(members, list):
        raise Refusal("bad_group", "'members' is a list of participants; an empty one removes the group")
    if len(members) > bounds.max_members:
        raise Refusal("bad_group", f"a group has at most {bounds.max_members} members")
    return Group(_check_name(header["group"], "bad_group", "group"), _keys(members, bounds.read_key), *_origin(header))


def _known(header: Mapping[str, Any], rest: bytes) -> Topic:
    if rest or "topic" not in header:
        raise Refusal("bad_topic", "a topic is declared by {topic, known} without data")
    known = _flag(header["known"], "bad_topic", "known")
    return Topic(_check_name(header["topic"], "bad_topic", "topic"), known, *_origin(header))


def _topic_frame(frame: bytes) -> str:
    try:
        return _check_name(frame.decode(), "bad_topic", "topic")
    except UnicodeDecodeError:
        raise Refusal("not_utf8", "the topic frame is not UTF-8", 0) from None
    except Refusal as refusal:
        raise refusal.at(0) from None


def _check_name(value: Any, code: str, what: str) -> str:
    """`value`, if it is a name: a string of 1 to 200 characters, none of which controls, formats or separates lines."""
    if not isinstance(value, str) or not value:
        raise Refusal(code, f"'{what}' is a string that is not empty")
    if len(value) > MAX_NAME:
        raise Refusal(code, f"'{what}' has at most {MAX_NAME} characters")
    if is_unsafe(value):
        raise Refusal(code, f"'{what}' has no control or format characters")
    return value


def _attrs(value: Any) -> Attrs:
    if not isinstance(value, dict):
        raise Refusal("bad_attrs", "'attrs' is a flat object")
    if len(value) > MAX_ATTRS:
        raise Refusal("bad_attrs", f"'attrs' has at most {MAX_ATTRS} members")
    return tuple((_attr_text(name, MAX_ATTR_NAME), _attr_value(v)) for name, v in value.items())


def _attr_value(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, list):
        if len(value) > MAX_ATTRS:
            raise Refusal("bad_attrs", f"a list in 'attrs' has at most {MAX_ATTRS} strings")
        return tuple(_attr_text(v, MAX_ATTR_VALUE) for v in value)
    return _attr_text(value, MAX_ATTR_VALUE)


def _attr_text(value: Any, most: int) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise Refusal("bad_attrs", f"'attrs' holds strings, or lists of strings, of at most {most} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refusal("bad_attrs", "a lone surrogate is no character") from None
    return value


def _ttl(value: Any) -> float:
    # Compared before anything else is done with it: an integer may be too large for a float, and NaN is not less than anything.
    if type(value) not in (int, float) or not 0 < value <= MAX_TTL:
        raise Refusal("bad_ttl", "'ttl' is a number of seconds, more than 0 and at most ten years")
    return float(value)


def _flag(value: Any, code: str, what: str) -> bool:
    if not isinstance(value, bool):
        raise Refusal(code, f"'{what}' is true or false")
    return value


def _data(header: Mapping[str, Any], rest: bytes | None) -> bytes:
    """The event's data as UTF-8 with LF line ends, the only ones that an SSE stream can carry."""
    if rest is None:
        data = _header_data(header)
    elif "data" in header:
        raise Refusal("bad_data", "the data stands after the first line or in the header, not in both")
    else:
        data = rest
        _check_utf8(data)
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _check_utf8(data: bytes) -> None:
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            raise Refusal("not_utf8", "the data is not UTF-8") from None


def _header_data(header: Mapping[str, Any]) -> bytes:
    value = header.get("data", "")
    try:
        text = value if isinstance(value, str) else _compact(value)
        return text.encode()
    except (ValueError, OverflowError, RecursionError):  # UnicodeEncodeError is a ValueError: a lone surrogate
        raise Refusal("bad_data", "'data' holds what JSON or UTF-8 cannot carry") from None


def _compact(value: Any) -> str:
    return ujson.dumps(value, ensure_ascii=False, escape_forward_slashes=False, allow_nan=False)


def _refuse_twins(items: Sequence[Parsed]) -> None:
    """A (from, n) names one item: twice in one message, one of the two would be taken for a repeat and vanish."""
    seen: set[tuple[str | None, int | None]] = set()
    for index, item in enumerate(items):
        if item.sender is not None:
            if (item.sender, item.n) in seen:
                raise Refusal("bad_origin", "the same 'n' stands twice in one message", index)
            seen.add((item.sender, item.n))
