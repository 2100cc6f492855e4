"""What one request is to receive: the channels it may read, and the filter that narrows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sse_daemon.event import Event


class Filter(NamedTuple):
    """An event passes if it matches one alternative of every condition.

    Equal filters compare equal, so that streams that share one also share the bytes that are written to them. `types` and
    `topics` are alternatives (`*` stands for any text), `attrs` pairs a name with alternatives that are compared exactly. An
    empty tuple is no condition.
    """

    types: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    attrs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    within: str | None = None
    """The topic of the route, which an event must carry; no pattern."""

    def passes(self, event: Event) -> bool:
        """True if `event` is wanted."""
        if self.within is not None and event.topic != self.within:
            return False
        if self.types and not matches(self.types, event.type):
            return False
        if self.topics and (event.topic is None or not matches(self.topics, event.topic)):
            return False
        return not self.attrs or self._attrs_pass(dict(event.attrs))

    def _attrs_pass(self, held: Mapping[str, str | tuple[str, ...]]) -> bool:
        for name, wanted in self.attrs:
            value = held.get(name, ())
            values = (value,) if isinstance(value, str) else value
            if not any(v in wanted for v in values):
                return False
        return True


EVERYTHING = Filter()


class Subscription(NamedTuple):
    """channels: what may be read, decided by whoever authorised the request; filter: None lets everything pass."""

    channels: tuple[str, ...]
    filter: Filter | None = None

    def reads(self, event: Event) -> bool:
        """True if a stream of this subscription is to get `event`."""
        if not set(self.channels).intersection(event.channels):
            return False
        return self.filter is None or self.filter.passes(event)


def narrowed(channels: tuple[str, ...], filter: Filter) -> Subscription:
    """The subscription of `channels`, with `filter` if it has any condition."""
    return Subscription(channels, None if filter == EVERYTHING else filter)


def alternatives(text: str) -> tuple[str, ...]:
    """`a,b` as a sorted tuple without doubles and empties: the order in which a client lists them makes no other filter."""
    return tuple(sorted({part for part in text.split(",") if part}))


def matches(patterns: tuple[str, ...], text: str) -> bool:
    """True if one of `patterns`, in which `*` stands for any text, is `text`."""
    return text in patterns or any("*" in pattern and _globs(pattern, text) for pattern in patterns)


def _globs(pattern: str, text: str) -> bool:
    """True if `text` is the literals of `pattern` in their order, with anything for each `*`.

    No regular expression: clients write these patterns, and backtracking over `*a*a*a*b` would hold the loop for minutes. Taking
    each literal where it comes first leaves the most room for the next one, so that nothing ever has to be tried again.
    """
    first, *middle, last = pattern.split("*")
    end = len(text) - len(last)
    if end < len(first) or not (text.startswith(first) and text.endswith(last)):
        return False
    at = len(first)
    for literal in middle:
        at = text.find(literal, at, end)
        if at < 0:
            return False
        at += len(literal)
    return True
