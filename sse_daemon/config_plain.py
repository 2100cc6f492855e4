"""A configuration as plain values and back, for processes that get it from another one instead of reading it again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve, fields

from sse_daemon.config_route import Route
from sse_daemon.config_tables import TABLES, Config


def plain(config: Config) -> dict[str, Any]:
    """What TOML would have given for it."""
    tables = {table: _values(getattr(config, table)) for table in TABLES}
    return {**tables, "stream": [_values(route) for route in config.stream]}


def unplain(values: Mapping[str, Any]) -> Config:
    """The configuration again. Raises ValueError if it is none."""
    tables: dict[str, Any] = {table: cls(**values[table]) for table, cls in TABLES.items()}
    return Config(**tables, stream=tuple(Route(**route) for route in values["stream"]))


def share(config: Config, processes: int) -> Config:
    """What one of so many processes is to keep: its part of those limits that are meant for all streams together."""
    streams, auth = config.streams, config.auth
    own = evolve(
        streams,
        max_streams=-(-streams.max_streams // processes),
        pinned_limit=-(-streams.pinned_limit // processes),
    )
    checks = evolve(
        auth,
        verify_rate=auth.verify_rate / processes,
        verify_rate_address=auth.verify_rate_address / processes,
        hook_concurrency=max(1, auth.hook_concurrency // processes),
        hook_queue=auth.hook_queue // processes,
    )
    return evolve(config, streams=own, auth=checks)


def _values(table: Any) -> dict[str, Any]:
    found = {attribute.name: getattr(table, attribute.name) for attribute in fields(type(table))}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in found.items()}
