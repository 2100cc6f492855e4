"""Loads a configuration from a text, for its tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sse_daemon.config import (
    Config,
    load,
)
from sse_daemon.errors import ConfigError


def mistakes(
    file: Path | None, text: str = "", environ: Mapping[str, str] | None = None, options: Any = None, dev: bool = False
) -> list[str]:
    """The mistakes of a configuration, the file's path left out."""
    if file is not None:
        file.write_text(text)
    try:
        load(file, environ or {}, options or {}, dev=dev)
    except ConfigError as error:
        return [mistake.removeprefix(f"{file}: ") for mistake in error.mistakes]
    return []


def read(file: Path, text: str, **more: Any) -> Config:
    file.write_text(text)
    return load(file, more.pop("environ", {}), more.pop("options", {}), **more)
