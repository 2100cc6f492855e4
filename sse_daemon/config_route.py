"""`Route`: one `[[stream]]` of the configuration, a path on which clients open streams.

A path such as `/chats/{chat}/events` has placeholders; each stands for one whole segment. Topic and first data are templates
that may name them. The built-in route is `EVENTS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Literal

from attrs import NOTHING, frozen

from sse_daemon.config_kinds import Conflict, Maybe, Pairs, Switch, Text, Word, refuse, setting, shown
from sse_daemon.event import is_unsafe

MAX_NAME = 200
"""Characters of a topic or an event's name: the envelope's bound."""
RESERVED_QUERY = ("last_event_id", "lastEventId", "heartbeat", "wait", "limit")
"""Query parameters that every route understands."""
RESERVED_PREFIX = "attr."
"""What the parameters begin with that filter on an attribute without being declared."""
RESERVED_PATHS = ("/healthz", "/readyz", "/session", "/client.js")
RESERVED_EVENTS = ("heartbeat", "resync", "bye")
"""Events that mean something else to a client than a first event does."""
# A key there would be read by HTTP itself, by every proxy on the way, or by the cursor; or a secret would be read as a key.
RESERVED_HEADERS = (
    "accept",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "host",
    "last-event-id",
    "origin",
    "transfer-encoding",
    "upgrade",
)
FIRST_NAMES = ("client_id", "participant", "topic")
"""What first_data may name besides the placeholders of the path."""

# A JSON object begins with `{"` or `{}`: never with a name in braces, so templates need no escape.
_PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_LITERAL = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PARAMETER = re.compile(r"[A-Za-z0-9._~-]+")


def placeholders(template: str) -> tuple[str, ...]:
    """The names in braces in `template`, in order."""
    return tuple(_PLACEHOLDER.findall(template))


def shape(path: str) -> str:
    """`path` with nameless placeholders: two paths of one shape match the same requests."""
    return _PLACEHOLDER.sub("{}", path)


def _path_complaint(path: str) -> str | None:
    if not path.startswith("/"):
        return f"{shown(path)} does not begin with /"
    bad = [part for part in path[1:].split("/") if part and not (_LITERAL.fullmatch(part) or _PLACEHOLDER.fullmatch(part))]
    if bad:
        return f"{shown(bad[0])} is neither a plain segment nor one placeholder"
    if "//" in path:
        return f"{shown(path)} has an empty segment"
    names = placeholders(path)
    if len(set(names)) < len(names):
        return f"{shown(path)} has a placeholder twice"
    taken = sorted(set(names) & set(FIRST_NAMES))
    return f"the name {shown(taken[0])} is the daemon's own" if taken else None


def _name_complaint(name: str) -> str | None:
    if not name:
        return "it is empty"
    if len(name) > MAX_NAME:
        return f"it has more than {MAX_NAME} characters"
    if is_unsafe(name):
        return f"{shown(name)} has control or format characters"
    return None


def _topic_complaint(topic: str) -> str | None:
    rest = _PLACEHOLDER.sub("", topic)
    return f"{shown(topic)} has a brace outside of a placeholder" if "{" in rest or "}" in rest else _name_complaint(topic)


def _first_event_complaint(name: str) -> str | None:
    return f"{shown(name)} means something else to clients" if name in RESERVED_EVENTS else _name_complaint(name)


def _first_data_complaint(template: str) -> str | None:
    try:
        json.loads(_PLACEHOLDER.sub("x", template))
    except ValueError:
        return "it is not JSON once its placeholders are filled in (they belong inside of strings)"
    return None


def _header_complaint(name: str) -> str | None:
    if not _TOKEN.fullmatch(name):
        return f"{shown(name)} is no name of a header"
    return f"{shown(name)} has a meaning of its own" if name.lower() in RESERVED_HEADERS else None


def _query_complaint(name: str) -> str | None:
    if not _PARAMETER.fullmatch(name):
        return f"{shown(name)} is no name of a query parameter"
    own = name in RESERVED_QUERY or name.startswith(RESERVED_PREFIX)
    return f"{shown(name)} is the daemon's own parameter" if own else None


def _target_complaint(target: str) -> str | None:
    if target in ("type", "topic") or (target.startswith("attrs.") and len(target) > len("attrs.")):
        return None
    return f"{shown(target)} is no field of an event"


_PATH = Text('such as "/chats/{chat}/events"', _path_complaint)
_TOPIC = Text('a name such as "chat.{chat}"', _topic_complaint)
_HEADER = Text('a header such as "X-Public-Key"', _header_complaint)
_QUERY = Text('a parameter such as "public_key", other than ' + ", ".join((*RESERVED_QUERY, "attr.*")), _query_complaint)
_FIRST_EVENT = Text('a name such as "connected"', _first_event_complaint)
_FIRST_DATA = Text("""JSON such as '{"chat":"{chat}","client_id":"{client_id}"}'""", _first_data_complaint)
_FILTERS = Pairs('a name of your own = "type", "topic" or "attrs.NAME"', _query_complaint, _target_complaint)


@frozen(kw_only=True)
class Route:
    """What a `[[stream]]` table says; the keys are explained in docs/configuration.md.

    first: whether the stream opens with the event `first_event`, whose data is `first_data` filled in with JSON-escaped texts
    (None: the standard data). filters: which query parameter narrows which field of an event.
    """

    path: str = setting(_PATH, NOTHING)
    topic: str | None = setting(Maybe(_TOPIC), None)
    participant: Literal["required", "optional", "none"] = setting(Word(("required", "optional", "none")), "required")
    anonymous: Literal["refuse", "public"] = setting(Word(("refuse", "public")), "refuse")
    header: str = setting(_HEADER, "X-Public-Key")
    query: str = setting(_QUERY, "public_key")
    # Without hash: a mapping has none.
    filters: Mapping[str, str] = setting(_FILTERS, MappingProxyType({}), hashed=False)
    heartbeat: Literal["comment", "event"] = setting(Word(("comment", "event")), "comment")
    first: bool = setting(Switch(), True)
    first_event: str = setting(_FIRST_EVENT, "connected")
    first_data: str | None = setting(Maybe(_FIRST_DATA), None)
    format: Literal["data", "json"] = setting(Word(("data", "json")), "data")
    unknown_topic: Literal["accept", "404"] = setting(Word(("accept", "404")), "accept")

    def __attrs_post_init__(self) -> None:
        refuse(self._conflicts())

    def _conflicts(self) -> Iterator[Conflict]:
        names = placeholders(self.path)
        yield from _unknown("topic", self.topic, names)
        yield from _unknown("first_data", self.first_data, (*names, *FIRST_NAMES))
        if self.query in self.filters:
            yield Conflict(("filters", "query"), f"{shown(self.query)} is the parameter of the key; another name")
        yield from _shared_fields(self.filters)
        if self.topic is None and self.unknown_topic == "404":
            yield Conflict(("unknown_topic", "topic"), 'this route has no topic that could be unknown; "accept", or a topic')


def _unknown(key: str, template: str | None, known: tuple[str, ...]) -> Iterator[Conflict]:
    right = ", ".join(f"{{{name}}}" for name in known) or "a path with placeholders"
    for name in dict.fromkeys(placeholders(template or "")):
        if name not in known:
            yield Conflict((key, "path"), f"the placeholder {{{name}}} is unknown; {right}")


def _shared_fields(filters: Mapping[str, str]) -> Iterator[Conflict]:
    first: dict[str, str] = {}
    for parameter, target in filters.items():
        other = first.setdefault(target, parameter)
        if other != parameter:
            wrong = f"{shown(parameter)} and {shown(other)} both narrow {shown(target)}"
            yield Conflict(("filters",), f"{wrong}; one parameter for each field")


EVENTS = Route(path="/events", filters={"types": "type", "topics": "topic"})
"""The built-in route. Its filters on attributes, `attr.NAME`, are open-ended and have no entry here."""
