"""Where a configuration comes from, for the commands that read one; imported as sse_daemon.cli.sources, never under the bare name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sse_daemon import config, producer_keys
from sse_daemon.backend import Backend, Limits
from sse_daemon.backends import create
from sse_daemon.config import Config
from sse_daemon.errors import ConfigError
from sse_daemon.keys import reader


class Sources(NamedTuple):
    """A file (None: what SSE_DAEMON_CONFIG names), options by (table, key), and --dev; the environment is always read."""

    path: Path | None
    options: Mapping[tuple[str, str], object] = {}
    dev: bool = False

    def load(self) -> Config:
        """The configuration as the sources have it now. Raises ConfigError."""
        loaded = config.load(self.path, os.environ, self.options, dev=self.dev, check_url=_check_url)
        reader(loaded)  # raises for a resolver of keys that is not there; the daemon's processes make their own
        return loaded


def load_keys(config: Config) -> None:
    """Reads the files of keys that are named, to find their mistakes before anything starts. Raises ConfigError with all of them."""
    mistakes: list[str] = []
    for load in (_load_producers, _load_tokens):
        try:
            load(config)
        except ConfigError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigError(mistakes)


def _load_producers(config: Config) -> None:
    producer_keys.load(config.ingest, reader(config))


def _load_tokens(config: Config) -> None:
    if config.auth.mode == "token":
        # Only here: what reads such keys is large, and no other mode needs it.
        from sse_daemon import token_keys

        token_keys.load(config.auth)


def _check_url(url: str) -> None:
    """Raises ValueError for a URL that no backend takes: only the one that it names knows what it may say."""
    try:
        create(url, Limits())  # not opened, and not kept
    except ConfigError as error:
        raise ValueError("; ".join(error.mistakes)) from None


def backend_of(config: Config) -> Backend:
    """The log that the configuration names, not opened yet. Raises ConfigError."""
    kept, ingest = config.backend, config.ingest
    return create(
        kept.url,
        Limits(
            retention_bytes=kept.retention_bytes,
            retention_age=kept.retention_age,
            retained_bytes=kept.retained_bytes,
            retained_slots=kept.retained_slots,
            dedupe_window=kept.dedupe_window,
            max_producers=ingest.max_producers,
        ),
    )
