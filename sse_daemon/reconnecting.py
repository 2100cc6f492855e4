"""When a client comes back after it lost its connection: plain arithmetic over a clock, used by sse_daemon.consumer."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

MAX_ASKED: Final = 600.0
"""Seconds; a server that asks for longer waits gets this. What it asked for may be a slip, and nobody would notice."""


class Pace:
    """The wait before the next attempt: what the daemon asked for, or longer while attempts fail.

    minimum, maximum: seconds. The wait is never below the latest `retry:` (whoever comes back sooner is refused) nor below
    `minimum`; it doubles from there with each attempt that brought nothing, up to `maximum` or the `retry:` if that is more.
    """

    def __init__(self, minimum: float, maximum: float) -> None:
        if not 0 < minimum <= maximum:
            raise ValueError("0 < retry_min <= retry_max")
        self._minimum, self._maximum = minimum, maximum
        self._base = minimum
        self._failures = 0
        self._until = 0.0

    def heard(self, retry: int | None) -> None:
        """A block has arrived, so the daemon is there. retry: the milliseconds that it asks for, or None."""
        self._failures = 0
        if retry is not None:
            self._base = max(self._minimum, min(retry, MAX_ASKED * 1000) / 1000)

    def lost(self, asked: float | None = None) -> float:
        """The connection ended, or was not made: seconds to wait from now, at least the `asked` ones."""
        base = max(self._base, min(asked or 0.0, MAX_ASKED))
        # The exponent is bounded because 2.0 ** 1024 raises.
        top = max(base, min(self._maximum, base * 2.0 ** min(self._failures, 30)))
        self._failures += 1
        # Jitter only upwards, and some even on the first attempt: those who lost their connection together come back apart.
        wait = random.uniform(base, top) + base * random.uniform(0.0, 0.1)
        self._until = time.monotonic() + wait
        return wait

    def remaining(self) -> float:
        """Seconds until the next attempt may begin; 0 before the first."""
        return max(0.0, self._until - time.monotonic())


def retry_after(value: str | None) -> float | None:
    """The seconds that a Retry-After header asks for (RFC 9110, 10.2.3: seconds or a date); None if it says nothing."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:10])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def ahead(date: str | None) -> float:
    """The seconds by which the clock of whoever answered with this Date is ahead of ours; 0 if it says nothing."""
    try:
        moment = parsedate_to_datetime(date or "")
    except ValueError:
        return 0.0
    return moment.timestamp() - time.time() if moment.tzinfo is not None else 0.0
