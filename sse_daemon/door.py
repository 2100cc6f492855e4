"""Who may come in just now: draining, too many streams, and participants that an operator has shut out for a while."""

from __future__ import annotations

import random
import resource
from collections import OrderedDict
from collections.abc import Callable

from sse_daemon.bars import Bars
from sse_daemon.config_tables import StreamsConfig
from sse_daemon.errors import RequestRefused

RESERVED_FILES = 384
"""Open files kept back for what is no stream: those that clients do not get at all (`listener.KEPT_BACK`), and 128 for who has just come."""
TOLD_KEPT = 10_000
"""Clients remembered as sent away with a `retry`."""


class Door:
    """Admission. `open_streams` tells how many streams there are, and long-polls that wait; times are on `clock`."""

    def __init__(self, settings: StreamsConfig, open_streams: Callable[[], int], clock: Callable[[], float]) -> None:
        self.settings = settings
        self.closed_for: str | None = None
        """Why nobody comes in any more ("drain"), or None."""
        self.ending = False
        """The process ends: whoever is sent away now comes back to its successor, so nobody comes back here too early."""
        self.overrun: Callable[[], bool] = lambda: False
        """Whether this process has had more to do than it can for a while: who is there is served first."""
        self.turned_away = 0
        self.bars = Bars(clock)
        self._open_streams = open_streams
        self._clock = clock
        self._told: OrderedDict[tuple[str, str | None], float] = OrderedDict()

    @property
    def most(self) -> int:
        """Streams that fit: as configured, or what the limit of open files leaves."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        fit = max(1, files - RESERVED_FILES)
        return min(self.settings.max_streams or fit, fit)

    def obstacle(self) -> str | None:
        """Why a new stream has to be sent away, or None: "drain" or "overload"."""
        if self.closed_for is not None:
            return self.closed_for
        return "overload" if self._open_streams() >= self.most or self.overrun() else None

    def check_barred(self, participant: str | None) -> None:
        """Raises RequestRefused (403) for a participant that was kicked for a time which has not passed."""
        if participant is not None and participant in self.bars:
            raise RequestRefused(403, "kicked", "an operator has shut this participant out for a while")

    def turn_away(self, address: str, participant: str | None) -> int | None:
        """The `retry` (milliseconds) for a client that is sent away; None if it was told one that has not passed yet."""
        self.turned_away += 1
        if self.ending:
            return self.bye_ms()
        now = self._clock()
        client = (address, participant)
        if self._told.get(client, 0.0) > now:
            return None
        retry = self.bye_ms()
        self._told[client] = now + retry / 1000
        self._told.move_to_end(client)
        while len(self._told) > TOLD_KEPT:
            self._told.popitem(last=False)
        return retry

    def retry_ms(self) -> int:
        """A reconnection time, by chance between `retry_min` and `retry_max`: a cut client comes back soon, not in step."""
        return round(1000 * random.uniform(self.settings.retry_min, self.settings.retry_max))

    def bye_ms(self) -> int:
        """A wider one for those who are sent away: five times as wide, and a millisecond more for each stream there is."""
        most = max(5 * self.settings.retry_max, self.settings.retry_min) + self._open_streams() / 1000
        return round(1000 * random.uniform(self.settings.retry_min, most))
