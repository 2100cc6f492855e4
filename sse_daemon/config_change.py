"""What of a new configuration can take effect while the daemon runs, and what needs a restart. Pure."""

from __future__ import annotations

from typing import Any

from attrs import evolve, fields

from sse_daemon.config_tables import TABLES, Config

RELOADABLE = frozenset(
    {
        "http.hosts",
        "http.cors_origins",
        "ingest.max_recipients",
        "ingest.max_message_recipients",
        "streams.heartbeat",
        "streams.stall_timeout",
        "streams.lifetime",
        "streams.lifetime_jitter",
        "streams.max_streams",
        "streams.max_per_participant",
        "streams.max_per_address",
        "streams.shed_lag",
        "streams.pinned_limit",
        "streams.retry_min",
        "streams.retry_max",
        "streams.wait",
        "streams.max_wait",
        "streams.limit",
        "streams.max_filters",
        "daemon.drain_time",
        "log.format",
        "log.level",
        "stream",
    }
)
"""What SIGHUP can change. Everything else was given to a socket, a table or the log when the daemon started.

Keys that a conflict ties together (retry_min and retry_max, wait and max_wait) are in here together or not at all: otherwise
`merged` could come to a configuration that is not valid.
"""


def changed(old: Config, new: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The dotted keys in which `new` differs, as those that can change at run time and those that need a restart."""
    differ = [f"{table}.{key}" for table in TABLES for key in _differing(getattr(old, table), getattr(new, table))]
    if old.stream != new.stream:
        differ.append("stream")
    return tuple(key for key in differ if key in RELOADABLE), tuple(key for key in differ if key not in RELOADABLE)


def merged(old: Config, new: Config) -> Config:
    """`old` with what can change at run time as `new` has it: the configuration that is in force after SIGHUP."""
    return evolve(old, stream=new.stream, **{table: _merged_table(table, old, new) for table in TABLES})


def _merged_table(table: str, old: Config, new: Config) -> Any:
    before, after = getattr(old, table), getattr(new, table)
    return evolve(before, **{key: getattr(after, key) for key in _differing(before, after) if f"{table}.{key}" in RELOADABLE})


def _differing(before: Any, after: Any) -> list[str]:
    names = [attribute.name for attribute in fields(type(before))]
    return [name for name in names if getattr(before, name) != getattr(after, name)]
