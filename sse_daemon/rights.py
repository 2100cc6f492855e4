"""What one producer may publish: the limits that stand beside its key. Pure.

A limit that is not set limits nothing. Every limit is judged on what an event *is*, after it was read, and whole: a message with
one event beyond its producer's rights is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sse_daemon.envelope import Parsed, Unresolved
from sse_daemon.errors import Refusal
from sse_daemon.event import Draft, Group, Repeat, Topic, is_participants, participant_channel
from sse_daemon.subscription import matches


class Rights(NamedTuple):
    """One producer's. name: what the operator calls it. Patterns are exact texts, or have `*` for anything.

    topics: events must have a topic that matches one. recipients: canonical keys, or patterns of them, that `to` may name; who is
    limited so may not use groups, whose members it does not choose. public: whether events for everybody are allowed. runs: what
    `from` must match; without it, one producer could use another's numbers up. Only who has none of the limits `topics` and
    `recipients` may set groups: a group redirects the events of others.
    """

    name: str
    topics: tuple[str, ...] | None = None
    recipients: tuple[str, ...] | None = None
    public: bool = True
    runs: tuple[str, ...] | None = None

    @property
    def limited(self) -> bool:
        """There is something to check."""
        return not self.public or any(limit is not None for limit in (self.topics, self.recipients, self.runs))

    def may_be(self, sender: str | None) -> bool:
        """Whether it may publish as this `from`."""
        return self.runs is None or (sender is not None and matches(self.runs, sender))

    def check(self, items: Sequence[Parsed]) -> None:
        """Raises Refusal (`not_authorized`) with the index of the first item that this producer may not publish."""
        if not self.limited:
            return
        for index, item in enumerate(items):
            if (wrong := self._wrong(item)) is not None:
                raise Refusal("not_authorized", f"the producer {self.name!r} may not {wrong}", index)

    def _wrong(self, item: Parsed) -> str | None:
        if not self.may_be(item.sender):
            return "publish as another 'from' than its own"
        if isinstance(item, Unresolved):
            if item.group is not None and self.recipients is not None:
                return "use groups: its recipients are limited"
            return self._wrong_event(item.draft)
        if isinstance(item, Draft):
            return self._wrong_event(item)
        return self._wrong_control(item)

    def _wrong_event(self, draft: Draft) -> str | None:
        if self.topics is not None and (draft.topic is None or not matches(self.topics, draft.topic)):
            return "publish outside of its topics"
        for channel in draft.channels:
            if not is_participants(channel):
                if not self.public:
                    return "publish to everybody"
            elif self.recipients is not None and not matches(self.recipients, channel[_PREFIX:]):
                return "publish to a participant who is not among its recipients"
        return None

    def _wrong_control(self, item: Group | Topic | Repeat) -> str | None:
        if isinstance(item, Group) and (self.topics is not None or self.recipients is not None):
            return "set groups: its topics or recipients are limited"
        if isinstance(item, Topic) and self.topics is not None and not matches(self.topics, item.name):
            return "declare a topic outside of its own"
        return None


_PREFIX = len(participant_channel(""))
