"""From the frames of one ZeroMQ message to the items of one record. Pure: bytes in, values or a Refusal out.

The format is CONTRACT-level and documented in docs/producers.md: one frame is one event, its first line a JSON object (the
header), the rest its data. What is returned is valid and stays so: nothing behind this module looks again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from sse_daemon.errors import Refusal
from sse_daemon.event import (
    PUBLIC,
    Draft,
    Group,
    Item,
    Record,
    Repeat,
    Topic,
    is_participants,
    participant_channel,
    topic_channel,
)
from sse_daemon.header import attrs_of, data_of, flag_of, keys_of, name_of, origin_of, read_header, ttl_of
from sse_daemon.participant import Canonical, canonical

RESERVED_TYPES = frozenset({"connected", "heartbeat", "resync", "bye"})
"""The event names that only the daemon itself writes."""
ORIGINS_BYTES = 1024 * 1024
"""Bytes of headers that are read of a message that was refused, to know whose it was."""


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
    if len(frames) == 1 and frames[0].startswith(b"{"):
        try:
            return (_item(frames[0], None, bounds),)  # what comes most
        except Refusal as refusal:
            raise refusal.at(0) from None
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


def origins(frames: Sequence[bytes], most: int) -> tuple[int, list[tuple[str | None, int | None]]]:
    """Of a message that was refused: how many events it had, and `from` and `n` of the first `most`; None where they cannot be read.

    What is refused must not cost more than what is taken: of its headers at most ORIGINS_BYTES are read.
    """
    start = 1 if len(frames) > 1 and not frames[0].startswith(b"{") else 0
    left = ORIGINS_BYTES
    found = []
    for frame in frames[start : start + most]:
        end = frame.find(b"\n", 0, left)
        head = frame[:end] if end >= 0 else frame if len(frame) <= left else b""
        left -= len(head)
        found.append(_origin(head))
    return len(frames) - start, found


def _origin(head: bytes) -> tuple[str | None, int | None]:
    try:
        return origin_of(read_header(head))
    except Refusal:
        return None, None


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
    header = read_header(head)
    data = rest if lf else None
    if "to" in header and len(header) == (3 if "from" in header and "n" in header else 1):
        return _event(header, data, topic, bounds)  # what comes most
    if "members" in header:
        if not header.keys() <= _GROUP_MEMBERS:
            raise _unknown_member(_GROUP_MEMBERS)
        return _group(header, rest, bounds)
    if "known" in header:
        if not header.keys() <= _TOPIC_MEMBERS:
            raise _unknown_member(_TOPIC_MEMBERS)
        return _known(header, rest)
    if not header.keys() <= _EVENT_MEMBERS:
        raise _unknown_member(_EVENT_MEMBERS)
    return _described(header, data, topic, bounds)


def _unknown_member(known: frozenset[str]) -> Refusal:
    return Refusal("unknown_member", f"this kind of header has only the members {', '.join(sorted(known))}")


def _event(header: Mapping[str, Any], data: bytes | None, topic: str | None, bounds: Bounds) -> Draft:
    """An event of which only is said whom it is for and, perhaps, where it comes from."""
    channels = _channels(header["to"], False, topic, bounds)
    sender, n = origin_of(header) if len(header) > 1 else (None, None)
    # As the class does it, without its detour over keywords and defaults: every event passes here, or below.
    return tuple.__new__(Draft, (channels, "message", topic, (), data_of(header, data), None, False, sender, n))


def _described(header: Mapping[str, Any], data: bytes | None, topic: str | None, bounds: Bounds) -> Draft | Unresolved:
    """An event of which more is said."""
    if "topic" in header:
        topic = name_of(header["topic"], "bad_topic", "topic")
    channels = _channels(header.get("to"), "group" in header, topic, bounds)
    sender, n = origin_of(header)
    kind = header.get("type", "message")
    if kind != "message":
        name_of(kind, "bad_type", "type")
        if kind in RESERVED_TYPES:
            raise Refusal("reserved_type", "only the daemon itself writes events of this type")
    attrs = attrs_of(header["attrs"]) if "attrs" in header else ()
    retain = flag_of(header["retain"], "bad_retain", "retain") if "retain" in header else False
    draft = tuple.__new__(Draft, (channels, kind, topic, attrs, data_of(header, data), None, retain, sender, n))
    if "group" not in header and "ttl" not in header:
        return draft
    group = name_of(header["group"], "bad_group", "group") if "group" in header else None
    return Unresolved(draft, group, ttl_of(header["ttl"]) if "ttl" in header else None)


def _channels(to: Any, has_group: bool, topic: str | None, bounds: Bounds) -> tuple[str, ...]:
    if to == "*":
        return (PUBLIC,) if topic is None else (PUBLIC, topic_channel(topic))
    return _recipients(to, has_group, bounds)


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
    keys = keys_of(to, bounds.read_key)
    return (participant_channel(keys[0]),) if len(keys) == 1 else tuple(map(participant_channel, keys))


def _group(header: Mapping[str, Any], rest: bytes, bounds: Bounds) -> Group:
    if rest or "group" not in header:
        raise Refusal("bad_group", "a group is set by {group, members} without data")
    members = header["members"]
    if not isinstance(members, list):
        raise Refusal("bad_group", "'members' is a list of participants; an empty one removes the group")
    if len(members) > bounds.max_members:
        raise Refusal("bad_group", f"a group has at most {bounds.max_members} members")
    return Group(name_of(header["group"], "bad_group", "group"), keys_of(members, bounds.read_key), *origin_of(header))


def _known(header: Mapping[str, Any], rest: bytes) -> Topic:
    if rest or "topic" not in header:
        raise Refusal("bad_topic", "a topic is declared by {topic, known} without data")
    known = flag_of(header["known"], "bad_topic", "known")
    return Topic(name_of(header["topic"], "bad_topic", "topic"), known, *origin_of(header))


def _topic_frame(frame: bytes) -> str:
    try:
        return name_of(frame.decode(), "bad_topic", "topic")
    except UnicodeDecodeError:
        raise Refusal("not_utf8", "the topic frame is not UTF-8", 0) from None
    except Refusal as refusal:
        raise refusal.at(0) from None


def _refuse_twins(items: Sequence[Parsed]) -> None:
    """A (from, n) names one item: twice in one message, one of the two would be taken for a repeat and vanish."""
    seen: set[tuple[str | None, int | None]] = set()
    for index, item in enumerate(items):
        if item.sender is not None:
            if (item.sender, item.n) in seen:
                raise Refusal("bad_origin", "the same 'n' stands twice in one message", index)
            seen.add((item.sender, item.n))
