"""What a request for events says: its topic, its keys, its cursor, its filters, how it wants to be answered. Pure.

Everything that a client can get wrong is refused here with RequestRefused, and nothing that it wrote is repeated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import ujson

from sse_daemon.auth import Asking, Message
from sse_daemon.config_route import EVENTS, Route
from sse_daemon.errors import InvalidCursor, RequestRefused
from sse_daemon.event import Cursor, is_unsafe
from sse_daemon.header import MAX_NAME
from sse_daemon.subscription import Filter, alternatives

Values: TypeAlias = Callable[[str], Sequence[str]]
"""Every value that a name has in a request, in order."""

_PLACE = re.compile(r"\{(\w+)\}")


class Request(NamedTuple):
    """A request to `route`. header, query: the values of a header and of a query parameter; parameters: the names in the query.

    places: what stands for the placeholders of the route's path; peer: who is connected; address: the client, who is not always
    the peer; message: its head as it came.
    """

    route: Route
    header: Values
    query: Values
    parameters: Collection[str]
    places: Mapping[str, str]
    peer: str
    address: str
    message: Message

    def topic(self) -> str | None:
        """The route's topic with the path's places in it, or None."""
        if self.route.topic is None:
            return None
        topic = _PLACE.sub(lambda match: self.places[match[1]], self.route.topic)
        if len(topic) > MAX_NAME or is_unsafe(topic):  # no producer can have published to it
            raise RequestRefused(404, "unknown_topic", "there is no such topic")
        return topic

    def asking(self, topic: str | None) -> Asking:
        """The request as those see it who decide what it may read."""
        route = self.route
        keys = route.header, route.query, self.header(route.header), self.query(route.query)
        return Asking(*keys, route.participant, route.anonymous, topic, self.peer, self.address, self.message)

    def cursor(self, incarnation: str, head: int) -> tuple[Cursor | None, str | None]:
        """The cursor that the client comes back with; or None and why the one it sent is no use: the reason of its `resync`."""
        # An empty one is none, wherever it stands: it must not hide the one that is there.
        values = [value for value in self.header("Last-Event-ID") if value]
        values = values or [value for name in ("last_event_id", "lastEventId") for value in self.query(name) if value]
        if len(values) > 1:
            raise RequestRefused(400, "ambiguous_cursor", "a request names one last event id, once")
        if not values:
            return None, None
        try:
            cursor = Cursor.parse(values[0])
        except InvalidCursor:
            return None, "unknown_cursor"
        if cursor.incarnation != incarnation:
            return None, "backend_reset"
        return (cursor, None) if cursor.position <= head else (None, "unknown_cursor")

    def filter(self, within: str | None, most: int) -> Filter:
        """The filter that the query asks for, with at most `most` alternatives a parameter. within: the topic of the route."""
        types: tuple[str, ...] = ()
        topics: tuple[str, ...] = ()
        attrs: set[tuple[str, tuple[str, ...]]] = set()
        for name, field in self._filter_parameters(most):
            values = alternatives(",".join(self.query(name)))
            if len(values) > most:
                raise RequestRefused(400, "too_many_filters", "a filter has fewer alternatives than that")
            if field == "type":
                types = values
            elif field == "topic":
                topics = values
            elif values:
                # Not by name: a route's own parameter and attr.NAME may narrow the same attribute, and then both hold.
                attrs.add((field.removeprefix("attrs."), values))
        return Filter(types, topics, tuple(sorted(attrs)), within)

    def _filter_parameters(self, most: int) -> Sequence[tuple[str, str]]:
        """The filter parameters that this request may use, each with the field it narrows."""
        named = dict(self.route.filters)
        for name, field in EVENTS.filters.items():
            if name not in named and name != self.route.query and field not in named.values():
                named[name] = field
        free = [name for name in self.parameters if name.startswith("attr.")]
        if len(free) > most:
            raise RequestRefused(400, "too_many_filters", "a request has fewer filters than that")
        return [*named.items()] + [(name, "attrs." + name.removeprefix("attr.")) for name in free]

    def heartbeat_is_event(self) -> bool:
        """Whether the heartbeat is to be an event, by the request or else by the route."""
        asked = self.query("heartbeat")
        if asked and asked[-1] not in ("event", "comment"):
            raise RequestRefused(400, "bad_heartbeat", "'heartbeat' is event or comment")
        return (asked[-1] if asked else self.route.heartbeat) == "event"

    def number(self, name: str, default: float, most: float) -> float:
        """A parameter that is a number from 0; beyond `most` it is `most`."""
        values = self.query(name)
        try:
            number = float(values[-1]) if values else default
        except ValueError:
            number = math.nan
        if not number >= 0:
            raise RequestRefused(400, "bad_number", f"'{name}' is a number that is not negative")
        return min(number, most)

    def accepts(self, type: str) -> bool:
        """Whether the request names this media type. Types have no case (RFC 9110, 8.3.1)."""
        return any(type in value.lower() for value in self.header("Accept"))

    def wants_json(self) -> bool:
        """Whether it is a long-poll: who names both types gets a stream."""
        return self.accepts("application/json") and not self.accepts("text/event-stream")


def fill(template: str, values: Mapping[str, str]) -> bytes:
    """The template of a first event, each {name} of `values` replaced by that text as it stands inside a JSON string."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        return ujson.dumps(values[name], ensure_ascii=False)[1:-1] if name in values else match[0]

    return _PLACE.sub(value, template).replace("\r\n", "\n").replace("\r", "\n").encode()
