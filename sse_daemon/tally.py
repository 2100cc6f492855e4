"""The metrics of several processes as one: numbers of things are added up, of the others the worst counts, and counters go on where
a process has ended. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sse_daemon.metrics import METRICS

COUNTERS = frozenset(each.name for each in METRICS if each.kind == "counter")


class Tally:
    """What the processes that are gone had counted. replaced: how many were."""

    def __init__(self) -> None:
        self.replaced = 0
        self._gone: dict[str, Any] = {}

    def bury(self, values: Mapping[str, Any]) -> None:
        """A process is gone that had come to this."""
        _add(self._gone, {name: value for name, value in values.items() if name in COUNTERS})

    def total(self, living: Iterable[Mapping[str, Any]], workers: int, head: int) -> dict[str, Any]:
        """The metrics of all. head: the log's, where nobody says how far it got."""
        living = [values for values in living if values]
        total: dict[str, Any] = dict(EMPTY)
        for values in (self._gone, *living):
            _add(total, values)
        total["sweep_position"] = min((values["sweep_position"] for values in living), default=head)
        total["loop_lag_seconds"] = max((values["loop_lag_seconds"] for values in living), default=0.0)
        return {**total, "workers": workers, "workers_replaced_total": self.replaced}


EMPTY: Mapping[str, Any] = {
    "streams": 0,
    "streams_blocked": 0,
    "streams_opened_total": 0,
    "streams_closed_total": {},
    "streams_turned_away_total": 0,
    "resyncs_total": {},
    "deliveries_total": 0,
    "heartbeats_total": 0,
    "window_bytes": 0,
    "window_events": 0,
    "window_channels": 0,
    "pinned_bytes": 0,
    "shedding": 0,
}
"""The metrics of no process."""


def _add(total: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping):
            total[name] = dict(Counter(total.get(name, {})) + Counter(value))
        else:
            total[name] = total.get(name, 0) + value
