"""What the demonstration's clients received, held against what the producer says it sent. It does not ask the daemon."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sse_daemon.consumer import Message, Resync


class Checker:
    """What one client received. `wrong`: each event that it should not have got, or not there, with the reason."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events = 0
        self.wrong: list[str] = []
        self._serials: defaultdict[str, set[int]] = defaultdict(set)

    def take(self, event: Message | Resync) -> None:
        """One thing that the client received, in the order in which it came."""
        if isinstance(event, Resync):
            return  # the hole that it announces is found by the serial numbers
        self.events += 1
        try:
            data = json.loads(event.data)
            serial, audience = int(data["serial"]), data["for"]
        except (ValueError, LookupError, TypeError):
            self.wrong.append(f"{event.type} is not as the producer wrote it: {event.data!r}")
            return
        serials = self._serials[event.type]
        if not is_for(self.name, audience):
            self.wrong.append(f"{event.type} {serial} is for {audience}")
        elif not event.id or serial <= max(serials, default=0):
            self.wrong.append(f"{event.type} {serial} has no id, came before, or came too late")
        serials.add(serial)

    def holes(self, sent: Mapping[str, Any]) -> int:
        """How many events are missing of what was sent for this client: it was there before the first of them."""
        mine = {topic: told["count"] for topic, told in sent.items() if is_for(self.name, told["for"])}
        return sum(len(set(range(1, count + 1)) - self._serials[topic]) for topic, count in mine.items())


def is_for(name: str, audience: str | Sequence[str]) -> bool:
    """Whether an event for `audience` is for this participant."""
    return audience == "*" or name in audience


class Verdict(NamedTuple):
    """ok: nothing is wrong; line: what there is to say; details: each wrong delivery."""

    ok: bool
    line: str
    details: Sequence[str]


def judge(checkers: Sequence[Checker], sent: Mapping[str, Any]) -> Verdict:
    """The verdict over a whole run."""
    holes = sum(checker.holes(sent) for checker in checkers)
    wrong = [f"{checker.name}: {what}" for checker in checkers for what in checker.wrong]
    ok = all(checker.events for checker in checkers) and not holes and not wrong
    received = ", ".join(f"{checker.name} {checker.events} events" for checker in checkers)
    return Verdict(ok, f"{'ok' if ok else 'FAILED'}: {received}, {holes} holes, {len(wrong)} wrong deliveries", wrong)
