"""What every client should have got, and what is wrong with what it got: judged from both ends, without asking the daemon."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from tests.integration.peers import positions
from tests.wire.whatwg import Message


class Sent(NamedTuple):
    """An event that a producer published. to: keys, or "*"; id: as it was answered, or None."""

    data: str
    to: str | Sequence[str]
    id: str | None

    @classmethod
    def read(cls, line: str) -> Sent:
        """As publisher.py prints it."""
        return cls(**json.loads(line))

    def is_for(self, participant: str) -> bool:
        return self.to == "*" or participant in self.to


def faults(sent: Mapping[str, Sequence[Sent]], received: Sequence[tuple[str, Sequence[Message]]]) -> list[str]:
    """Everything that is wrong, one line each. sent: by producer, in its order; received: (participant, its events), by client.

    No order holds between the two sockets of a producer; on each of them it does.
    """
    found = []
    for number, (participant, events) in enumerate(received):
        found += [f"client {number} ({participant}): {fault}" for fault in _faults(sent, participant, events)]
    return found + list(_disagreements(received))


def _faults(sent: Mapping[str, Sequence[Sent]], participant: str, events: Sequence[Message]) -> Iterator[str]:
    expected = {one.data: one for run in sent.values() for one in run if one.is_for(participant)}
    got = Counter(event.data for event in events)
    yield from (f"foreign: {data}" for data in got if data not in expected)
    yield from (f"twice: {data}" for data, count in got.items() if count > 1)
    yield from (f"lost: {data}" for data in expected if data not in got)
    places = positions([event.id for event in events])
    yield from (f"out of the log's order: {b}" for a, b in pairwise(places) if a >= b)
    yield from (
        f"id {event.id} where {expected[event.data].id} was answered: {event.data}"
        for event in events
        if event.data in expected and expected[event.data].id not in (None, event.id)
    )
    for run in sent.values():
        for acked in (False, True):
            wanted = [one.data for one in run if one.is_for(participant) and (one.id is not None) is acked]
            order = [event.data for event in events if event.data in set(wanted)]
            if order != [data for data in wanted if data in got]:
                yield "out of its producer's order"


def _disagreements(received: Sequence[tuple[str, Sequence[Message]]]) -> Iterator[str]:
    first: dict[str, Sequence[Message]] = {}
    for number, (participant, events) in enumerate(received):
        if list(first.setdefault(participant, events)) != list(events):
            yield f"client {number} saw another order than an earlier one of {participant}"
