"""What the documents say about the code, held against the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module

from sse_daemon.cli import COMMANDS
from sse_daemon.config_tables import TABLES
from sse_daemon.stream import TRANSITIONS
from tests.architecture.source import ROOT, modules

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
DECISIONS = ROOT / "docs" / "decisions"


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of architecture.md, its own head first."""
    _, found, section = ARCHITECTURE.partition(f"\n## {heading}\n")
    assert found, f"no heading {heading!r}"
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("| ---")]


def test_the_states_of_a_stream_are_drawn_from_its_transitions() -> None:
    head, *body = rows("A stream's states")
    drawn = {(row[0], to) for row in body for to, mark in zip(head[1:], row[1:], strict=True) if mark == "x"}
    assert drawn == {(state.value, to.value) for state, targets in TRANSITIONS.items() for to in targets}
    assert [row[0] for row in body] == head[1:] == [state.value for state in TRANSITIONS]


def bounds() -> Iterator[tuple[str, str, object]]:
    """(what is bounded, the bound's text, its value in the source)."""
    for what, bound, place, _ in rows("Where every buffer ends")[1:]:
        if setting := re.fullmatch(r"`\[(\w+)\] (\w+)`", place):
            yield what, bound, getattr(TABLES[setting[1]](), setting[2])
        else:
            module, _, name = place.strip("`").partition(".")
            yield what, bound, getattr(import_module(f"sse_daemon.{module}"), name)


def test_every_bound_is_what_the_source_has() -> None:
    wrong = [f"{what}: {bound}, but {value}" for what, bound, value in bounds() if not re.search(rf"(?<!\d){value}\b", bound)]
    assert not wrong
    assert len(list(bounds())) > 30


def test_the_modules_that_architecture_names_exist() -> None:
    files = {path.name for path in modules().values()} | {f"backends/{path.name}" for path in modules().values()}
    assert set(re.findall(r"`((?:backends/)?\w+\.py)`", ARCHITECTURE)) <= files


def test_decisions_are_numbered_and_say_what_they_cost() -> None:
    numbers = []
    for path in sorted(DECISIONS.iterdir()):
        text = path.read_text()
        number = int(path.name[:4])
        numbers.append(number)
        assert text.startswith(f"# {number}. "), path.name
        assert all(word in text for word in ("**Question.**", "**Choice.**", "**Price.**")), path.name
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_commands_that_documents_name_exist() -> None:
    named = set()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        named |= set(re.findall(r"(?:`|^\$ |bin/|^)sse-daemon ([a-z][a-z-]*)", path.read_text(), re.MULTILINE))
    assert named <= set(COMMANDS)
    assert {"serve", "clients", "inject", "check-config"} <= named


ELSEWHERE = {31, 32, 36, 37}
"""Weaknesses of logs on other machines."""


def test_every_weakness_has_its_row_and_its_test() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    weaknesses = [line for line in text.splitlines() if re.match(r"\| A\d", line)]
    named = [int(number) for line in weaknesses for number in re.findall(r"\bA(\d+)\b", line.split("|")[1])]
    assert named == sorted(set(range(1, 45)) - ELSEWHERE)
    for line in weaknesses:
        _, done, tested = line.strip("| ").split(" | ")
        assert done and re.search(r"test_\w+\.py|tests/\w+", tested), line


def test_the_tests_that_security_names_exist_and_none_is_left_out() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    hardening = {path.name for path in (ROOT / "tests" / "hardening").glob("test_*.py")}
    short = set(re.findall(r"\b(test_\w+\.py)\b", text))
    assert hardening <= short, hardening - short
    unit = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert short <= unit, short - unit
    missing = [path for path in re.findall(r"\btests/[\w/]+(?:\.py)?", text) if not (ROOT / path).exists()]
    assert not missing
