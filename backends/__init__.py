"""Logs by the scheme of their URL; imported as sse_daemon.backends, never under the bare name.

A backend's module is imported when its scheme is asked for, so that nobody needs the client library of a log they do not use.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import TypeAlias, cast

from sse_daemon.backend import Backend, Limits
from sse_daemon.errors import ConfigError

GROUP = "sse_daemon.backends"
"""The entry point group in which others' backends are found: scheme = module:class."""

Factory: TypeAlias = Callable[[str, Limits], Backend]

_OURS = {
    "memory": "sse_daemon.backends.memory:MemoryBackend",
    "sqlite": "sse_daemon.backends.sqlite:SqliteBackend",
}


def create(url: str, limits: Limits) -> Backend:
    """The backend of `url`, not opened yet. Raises ConfigError: no URL, a scheme that nobody serves, or a bad rest."""
    return _factory(scheme_of(url))(url, limits)


def scheme_of(url: str) -> str:
    """What stands before the first colon of `url`, in lower case. Raises ConfigError if there is no such thing."""
    scheme, colon, _ = url.partition(":")
    if not colon or not scheme:
        raise ConfigError([f"{url!r}: a URL is expected, its scheme one of {', '.join(schemes())}"])
    return scheme.lower()


def schemes() -> list[str]:
    """Every scheme that can be asked for here, ours and installed ones."""
    return sorted({*_OURS, *entry_points(group=GROUP).names})


def _factory(scheme: str) -> Factory:
    # Ours come first: an installed package cannot take over the meaning of a scheme that the documentation names.
    if scheme in _OURS:
        module, _, name = _OURS[scheme].partition(":")
        return cast(Factory, getattr(import_module(module), name))
    for found in entry_points(group=GROUP, name=scheme):
        return cast(Factory, found.load())
    raise ConfigError([f"nobody serves the scheme {scheme!r}; known are {', '.join(schemes())}"])
