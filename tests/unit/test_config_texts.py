"""The two texts about the configuration, the annotated file and the documentation, say what is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import fields

from sse_daemon.config import (
    RELOADABLE,
    Config,
    Route,
    default_admin_socket,
    load,
)
from sse_daemon.config_tables import TABLES
from tests.unit.loading import mistakes, read

ROOT = Path(__file__).parents[2]


def defaults() -> dict[str, dict[str, Any]]:
    """By table: each key's default, as root has it; None for none."""
    config = Config()
    found = {table: {a.name: getattr(getattr(config, table), a.name) for a in fields(cls)} for table, cls in TABLES.items()}
    found["admin"]["socket"] = default_admin_socket({}, 0)
    route = Route(path="/")
    return found | {"stream": {a.name: getattr(route, a.name) for a in fields(Route)} | {"path": None}}


def as_read(table: str, key: str, value: object) -> Any:
    """`value`, from TOML, as its key's kind reads it."""
    cls = Route if table == "stream" else TABLES[table]
    return next(a.metadata["kind"] for a in fields(cls) if a.name == key).read(value)


def entries() -> Iterator[tuple[str, str, str, str]]:
    """(table, key, value as TOML, the comment above) of each key of the annotated file."""
    table, comment = "", ""
    for line in (ROOT / "systemd" / "sse-daemon.toml").read_text().splitlines():
        if header := re.fullmatch(r"#?\[?\[(\w+)\]\]?", line):
            table, comment = header[1], ""
        elif entry := re.fullmatch(r"#(\w+) = (.+)", line):
            yield table, entry[1], entry[2], comment
        else:
            comment = f"{comment} {line[1:]}" if line else ""


def test_the_annotated_file_has_every_key_with_its_default() -> None:
    expected = {(table, key): value for table, table_keys in defaults().items() for key, value in table_keys.items()}
    assert sorted((table, key) for table, key, _, _ in entries()) == sorted(expected)
    for table, key, value, comment in entries():
        if expected[table, key] is None:
            assert "No default" in comment, key
        else:
            assert as_read(table, key, tomllib.loads(f"v = {value}")["v"]) == expected[table, key], key


def test_the_annotated_file_says_what_each_key_does_and_what_can_change() -> None:
    for table, key, _, comment in entries():
        assert len(comment) > 20, key
        if table != "stream":
            assert ("(reload)" in comment) == (f"{table}.{key}" in RELOADABLE), key


def test_the_annotated_file_loads_as_it_is_and_uncommented(file: Path) -> None:
    text = (ROOT / "systemd" / "sse-daemon.toml").read_text()
    assert read(file, text) == load(None, {}, {})
    config = read(file, re.sub(r"(?m)^#(?=[\w\[])", "", text))
    assert config.auth.mode == "proof"
    (route,) = config.stream
    assert route.topic == "chat.{chat}"


def rows() -> Iterator[tuple[str, str, str, str]]:
    """(table, key, default, reloadable) of each row of the documentation."""
    table = ""
    for line in (ROOT / "docs" / "configuration.md").read_text().splitlines():
        if header := re.fullmatch(r"## \[?\[(\w+)\]\]?", line):
            table = header[1]
        elif row := re.fullmatch(r"\| `(\w+)` \| (.+?) \| .+ \| (yes|no) \|", line):
            yield table, row[1], row[2], row[3]


def test_the_documentation_has_every_key_in_order_with_its_default() -> None:
    expected = [(table, key, value) for table, table_keys in defaults().items() for key, value in table_keys.items()]
    assert [(table, key) for table, key, _, _ in rows()] == [(table, key) for table, key, _ in expected]
    for (table, key, text, _), (_, _, value) in zip(rows(), expected, strict=True):
        if value is None:
            assert text == "none", key
        else:
            assert as_read(table, key, tomllib.loads(f"v = {text.strip('`')}")["v"]) == value, key


def test_the_documentation_says_what_can_change() -> None:
    for table, key, _, reloadable in rows():
        dotted = "stream" if table == "stream" else f"{table}.{key}"
        assert (reloadable == "yes") == (dotted in RELOADABLE), key


def test_the_mistakes_and_the_route_in_the_documentation_are_real(file: Path) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    found = mistakes(file, "[streams]\nhartbeat = 1\n", {"SSE_DAEMON_STREAMS_LIMIT": "many"}, {("http", "listen"): ("8080",)})
    for mistake in found:
        assert mistake in text
    (example,) = re.findall(r"```toml\n(.+?)```", text, re.DOTALL)
    assert mistakes(file, example) == []
