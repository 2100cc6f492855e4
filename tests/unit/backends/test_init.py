from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

import sse_daemon.backends
from sse_daemon.backend import Limits
from sse_daemon.backends import create, scheme_of, schemes
from sse_daemon.backends.memory import MemoryBackend
from sse_daemon.backends.sqlite import SqliteBackend
from sse_daemon.errors import ConfigError


def test_a_scheme_is_a_class() -> None:
    assert isinstance(create("memory://", Limits()), MemoryBackend)
    assert isinstance(create("SQLITE:///var/lib/x.db", Limits()), SqliteBackend)


def test_ours_are_known() -> None:
    assert {"memory", "sqlite"} <= set(schemes())


@pytest.mark.parametrize(("url", "scheme"), [("memory://", "memory"), ("SQLite:///x", "sqlite"), ("x:", "x")])
def test_scheme_of(url: str, scheme: str) -> None:
    assert scheme_of(url) == scheme


@pytest.mark.parametrize("url", ["", "memory", "://", ":memory:", "nobody://x"])
def test_what_nobody_serves_is_refused_with_the_known_ones(url: str) -> None:
    with pytest.raises(ConfigError, match=r"memory.*sqlite"):
        create(url, Limits())


@pytest.mark.parametrize("url", ["memory:", "memory://host", "memory://?size=1"])
def test_memory_has_no_options(url: str) -> None:
    with pytest.raises(ConfigError, match="no options"):
        create(url, Limits())


def test_others_are_found_by_entry_point_but_cannot_replace_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    target = "sse_daemon.backends.memory:Tail"
    installed = EntryPoints(EntryPoint(name, target, sse_daemon.backends.GROUP) for name in ("theirs", "memory"))

    def entry_points(**wanted: Any) -> EntryPoints:
        return installed.select(**wanted)

    monkeypatch.setattr(sse_daemon.backends, "entry_points", entry_points)
    assert "theirs" in schemes()
    assert type(create("theirs://x", Limits())).__name__ == "Tail"
    assert isinstance(create("memory://", Limits()), MemoryBackend)
