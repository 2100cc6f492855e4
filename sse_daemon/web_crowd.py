"""How many connections each address has in one place: those that say nothing, dribble, or wait for an answer."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sse_daemon.buckets import counted_as
from sse_daemon.listener import peer_name


class Crowd:
    """most: connections of one address, 0 is no limit; shared: addresses from which many clients come, which are not counted."""

    def __init__(self, most: int, shared: tuple[str, ...]) -> None:
        self._most = most
        self._shared = shared
        self._of: Counter[str] = Counter()

    def name(self, peer: Any) -> str | None:
        """What this peer, as the kernel names it, is counted as; None if it is not."""
        return counted_as(peer_name(peer), self._shared)

    def has_room(self, name: str | None) -> bool:
        """Whether there may be another connection of this name."""
        return not self._most or name is None or self._of[name] < self._most

    def add(self, name: str | None) -> None:
        """One more."""
        if name is not None:
            self._of[name] += 1

    def remove(self, name: str | None) -> None:
        """One less."""
        if name is not None:
            self._of[name] -= 1
            if not self._of[name]:
                del self._of[name]
