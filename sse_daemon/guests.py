"""How many streams one client may have, and how fast it may open them: so that no one takes the room that is there for all.

A client is its participant, where somebody vouches for that. Where anybody can make up participants, be they proven or not, or
nothing is said, it is its address as well.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sized
from typing import Protocol

from sse_daemon.auth import Authenticator
from sse_daemon.buckets import Buckets, counted_as
from sse_daemon.config_tables import Config
from sse_daemon.stream import Profile

BURST = 10.0
"""Seconds of its rate that a client may open at once: a page with some tabs, an office behind one address after a restart."""
SPARE = 1000
"""Streams that have ended and are counted still, beside as many as are open: then all are looked at, and not before."""


class Streams(Container[str], Sized, Protocol):
    """The ids of the open streams."""


class Guests:
    """streams: those that are open now. config: as it is now; the rate and the shared addresses as they were at the start.

    authenticator: what a participant is worth.
    """

    def __init__(
        self, config: Callable[[], Config], streams: Streams, clock: Callable[[], float], authenticator: Authenticator
    ) -> None:
        self._config = config
        self._streams = streams
        self._clock = clock
        self._authenticator = authenticator
        rate = config().streams.open_rate
        self._opens = Buckets(rate, BURST * rate)
        self._of: dict[str, list[str]] = {}
        self._noted = 0

    def too_fast(self, profile: Profile) -> bool:
        """Whether this client opens streams faster than it may; if not, this was one."""
        names = [name for name in (self._address(profile), self._proven(profile)) if name is not None]
        # One after the other: who is too fast as an address takes nothing from the participant that it came as.
        return any(self._opens.take(name, self._clock()) > 0 for name in names)

    def too_many(self, profile: Profile) -> bool:
        """Whether this client has as many streams as it may."""
        return any(most <= self._count(name, most) for name, most in self._seats(profile))

    def note(self, profile: Profile) -> None:
        """This stream has opened."""
        for name, _ in self._seats(profile):
            self._of.setdefault(name, []).append(profile.id)
            self._noted += 1
        # Nobody tells when a stream ends, which is on the hot path. So what has ended is looked for, at a constant price a stream.
        # A stream is noted twice at most.
        if self._noted > 4 * len(self._streams) + SPARE:
            for name in tuple(self._of):
                self._sweep(name)

    def _seats(self, profile: Profile) -> Iterator[tuple[str, int]]:
        """What a stream counts for, and how many there may be of each."""
        settings = self._config().streams
        if profile.participant is not None and settings.max_per_participant:
            yield f"participant {profile.participant}", settings.max_per_participant
        if settings.max_per_address and (name := self._address(profile)) is not None:
            yield name, settings.max_per_address

    def _proven(self, profile: Profile) -> str | None:
        """The participant, where nobody else could have come as that."""
        return f"participant {profile.participant}" if self._authenticator.proves and profile.participant is not None else None

    def _address(self, profile: Profile) -> str | None:
        """The address, unless somebody vouches for the participant, or many share it."""
        if self._authenticator.vouched and profile.participant is not None:
            return None
        return counted_as(profile.address, self._config().shared_addresses)

    def _count(self, name: str, most: int) -> int:
        if len(self._of.get(name, ())) >= most:
            self._sweep(name)
        return len(self._of.get(name, ()))

    def _sweep(self, name: str) -> None:
        noted = self._of[name]
        left = [id for id in noted if id in self._streams]
        self._noted -= len(noted) - len(left)
        if left:
            self._of[name] = left
        else:
            del self._of[name]
