"""What the log holds, and the places in it.

A record is what one message of a producer becomes: one or several items that are stored whole or not at all. An item is a
`Draft` (an event before it has a place), a `Group` or a `Topic`. The log gives each item the next position; a draft with its
position is an `Event`. All of them are tuples of immutable values: cheap to make, safe to share between streams, and once
stored as plain tuples no work for the garbage collector.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple, TypeAlias

from sse_daemon.errors import InvalidCursor

Attrs: TypeAlias = tuple[tuple[str, "str | tuple[str, ...]"], ...]


def attrs_bytes(attrs: Attrs) -> int:
    """What attributes cost in memory: their texts, and about 100 bytes of objects for each name and value."""
    size = 0
    for name, value in attrs:
        values = (value,) if isinstance(value, str) else value
        size += 200 + len(name) + sum(map(len, values)) + 60 * len(values)
    return size


_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

PUBLIC = "public"
"""The channel of every public event."""


def participant_channel(participant: str) -> str:
    """The channel of the events that name `participant`."""
    return f"participant/{participant}"


def is_participants(channel: str) -> bool:
    """True if `channel` is one participant's."""
    return channel.startswith("participant/")


def topic_channel(topic: str) -> str:
    """The channel of the public events of `topic`."""
    return f"topic/{topic}"


def is_unsafe(name: str) -> bool:
    """True if a name has a character that controls, formats (bidi overrides among them) or separates lines, or half a surrogate.

    None of them belongs in a name that stands in a line-based protocol and in an operator's terminal.
    """
    if name.isascii():
        return not name.isprintable()
    return any(unicodedata.category(character) in _UNSAFE for character in name)


class Draft(NamedTuple):
    """An event that was accepted and has no place in the log yet.

    channels: whom it is for, already resolved; at least one, none twice.
    data: UTF-8, line ends are LF only.
    expires: Unix seconds after which it is no longer written to anybody, or None.
    retain: it becomes the snapshot of its slot (channel, topic, type), or clears the slot when `data` is empty.
    sender, n: the run of the producer and its counter, or None and None.
    """

    channels: tuple[str, ...]
    type: str
    topic: str | None
    attrs: Attrs
    data: bytes
    expires: float | None = None
    retain: bool = False
    sender: str | None = None
    n: int | None = None


class Event(NamedTuple):
    """An event with its place in the log; from here on nothing about it changes."""

    position: int
    channels: tuple[str, ...]
    type: str
    topic: str | None
    attrs: Attrs
    data: bytes
    expires: float | None = None


def placed(draft: Draft, position: int) -> Event:
    """The event that `draft` becomes at `position`."""
    channels, type, topic, attrs, data, expires, _, _, _ = draft
    # As the class does it, without its detour over keywords and defaults: every event passes here.
    return tuple.__new__(Event, (position, channels, type, topic, attrs, data, expires))


class Group(NamedTuple):
    """From here in the log on, `name` stands for `members`; without members the group is gone."""

    name: str
    members: tuple[str, ...]
    sender: str | None = None
    n: int | None = None


class Topic(NamedTuple):
    """From here in the log on, `name` is a known topic, or is not."""

    name: str
    known: bool
    sender: str | None = None
    n: int | None = None


class Repeat(NamedTuple):
    """Stands for a numbered item that cannot be accepted now, say because its group is gone: it may only be stored already.

    code, detail: the refusal of the record if it is not.
    """

    sender: str
    n: int
    code: str
    detail: str


Storable: TypeAlias = Draft | Group | Topic
Item: TypeAlias = Storable | Repeat
Record: TypeAlias = tuple[Item, ...]
Logged: TypeAlias = Event | Group | Topic

_CURSOR = re.compile(r"([0-9a-f]{12})-(0|[1-9][0-9]{0,17})", re.ASCII)


class Cursor(NamedTuple):
    """A place in one incarnation of the log; as text it is the SSE `id:` and comes back as `Last-Event-ID`.

    incarnation: 12 lower-case hexadecimal digits, new whenever the log begins anew.
    position: 0 (before everything) .. 10**18 - 1.
    """

    incarnation: str
    position: int

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Reads the one strict form, `<incarnation>-<position>` in ASCII. Raises InvalidCursor for anything else."""
        match = _CURSOR.fullmatch(text) if len(text) <= 64 else None
        if match is None:
            raise InvalidCursor("not a cursor of this daemon")
        return cls(match[1], int(match[2]))

    def __str__(self) -> str:
        return f"{self.incarnation}-{self.position}"
