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
from sse_daemon.keys import reader


class Sources(NamedTuple):
    """A file (None: what SSE_DAEMON_CONFIG names), options by (table, key), and --dev; the environment is always read."""

    path: Path | None
    options: Mapping[tuple[str, str], object] = {}
    dev: bool = False

    def load(self) -> Config:
        """The configuration as the sources have it now. Raises ConfigError."""
        loaded = config.load(self.path, os.environ, self.options, dev=self.dev)
        reader(loaded)  # raises for a resolver of keys that is not there; the daemon's processes make their own
        return loaded


def load_producers(config: Config) -> None:
    """Reads what the producers' keys are kept in, to find its mistakes before anything starts. Raises ConfigError."""
    producer_keys.load(config.ingest, reader(config))


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
