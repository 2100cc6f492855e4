"""The groups and topics that are in force on this daemon: what the log's control items have come to so far. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sse_daemon.errors import Refusal
from sse_daemon.event import Group, Record, Topic


class Directory:
    """Bounded tables: at most `max_groups` groups, `max_topics` known topics. Begins with what the backend remembers."""

    def __init__(self, groups: Mapping[str, tuple[str, ...]], topics: Iterable[str], *, max_groups: int, max_topics: int) -> None:
        self.groups = dict(groups)
        self.topics = set(topics)
        self.max_groups = max_groups
        self.max_topics = max_topics

    def apply(self, item: Group | Topic) -> None:
        """Puts an item of the log in force."""
        if isinstance(item, Topic):
            (self.topics.add if item.known else self.topics.discard)(item.name)
        elif item.members:
            self.groups[item.name] = item.members
        else:
            self.groups.pop(item.name, None)

    def check_room(self, record: Record) -> None:
        """Raises Refusal (`groups_full`, `topics_full`) with the index, if the record would set more than there is room for."""
        groups: set[str] = set()
        topics: set[str] = set()
        for index, item in enumerate(record):
            if isinstance(item, Group) and item.members and item.name not in self.groups:
                groups.add(item.name)
                if len(self.groups) + len(groups) > self.max_groups:
                    raise Refusal("groups_full", f"at most {self.max_groups} groups are kept; remove one first", index)
            elif isinstance(item, Topic) and item.known and item.name not in self.topics:
                topics.add(item.name)
                if len(self.topics) + len(topics) > self.max_topics:
                    raise Refusal("topics_full", f"at most {self.max_topics} topics are known; forget one first", index)
