"""The tree in the module's docstring is the tree of the classes; docs/producers.md has every code that a producer can be told."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator

import pytest

from sse_daemon import envelope, errors
from sse_daemon.errors import BackendError, ConfigError, PublishRefused, Refusal, RequestRefused, SseDaemonError, SubscribeRefused
from sse_daemon.publishing import RETRYABLE
from tests.architecture.source import ROOT, modules


def drawn() -> dict[str, str]:
    """Class -> the class above it in the drawing: the nearest line before it that stands four columns further left."""
    parents: dict[str, str] = {}
    above = {0: "SseDaemonError"}
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"^    ([│ ]*[├└]── )(\w+)", line):
            depth = len(match[1]) // 4
            parents[match[2]] = above[depth - 1]
            above[depth] = match[2]
    return parents


def test_the_drawing_is_the_tree() -> None:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]
    assert drawn() == {c.__name__: c.__bases__[0].__name__ for c in classes if c is not SseDaemonError}


def test_refusals_carry_what_is_answered() -> None:
    refusal = Refusal("bad_to", "nobody", 3)
    assert (refusal.code, refusal.detail, refusal.index, str(refusal)) == ("bad_to", "nobody", 3, "bad_to: nobody")
    moved = refusal.at(7)
    assert (moved.code, moved.detail, moved.index) == ("bad_to", "nobody", 7)
    assert Refusal("x", "y").index is None
    refused = RequestRefused(401, "participant_required", "name it")
    assert (refused.status, refused.code, refused.detail) == (401, "participant_required", "name it")
    published = PublishRefused("too_large", "a frame", 2)
    assert (published.code, published.detail, published.index) == ("too_large", "a frame", 2)
    subscribed = SubscribeRefused(403, "kicked", "for a while")
    assert (subscribed.status, subscribed.code, subscribed.detail) == (403, "kicked", "for a while")


def test_configuration_mistakes_are_all_in_the_message() -> None:
    error = ConfigError(["http.listen: no", "backend.url: no"])
    assert error.mistakes == ("http.listen: no", "backend.url: no")
    assert str(error) == "http.listen: no\nbackend.url: no"


# The codes that producers are told --------------------------------------------------------------------------------------------


def calls(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(function, text) for every text that stands literally among the arguments of a call by plain name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.func.id, argument.value


def codes_in_the_source() -> set[str]:
    """What any module of ours passes to Refusal as its code: directly, or through a function that takes the code as `code`."""
    trees = [ast.parse(path.read_text()) for path in modules().values()]
    passing = {
        node.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any(a.arg == "code" for a in node.args.args)
    }
    found = {text for tree in trees for name, text in calls(tree) if name in passing and text.startswith("bad_")}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refusal":
                code = node.args[0]
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    found.add(code.value)
    return found


def codes_of_faults() -> set[str]:
    """The `code` of BackendError and of all below it."""
    faults = [BackendError]
    for fault in faults:
        faults.extend(fault.__subclasses__())
    return {fault.code for fault in faults if fault.__module__ == errors.__name__}


def table_rows() -> dict[str, list[str]]:
    """Code -> the cells of its row in the table of refusals of docs/producers.md."""
    text = (ROOT / "docs" / "producers.md").read_text()
    table = text.partition("## Refusals")[2].partition("\n## ")[0]
    rows: dict[str, list[str]] = {}
    for line in table.splitlines():
        if match := re.match(r"\| `(\w+)` \|", line):
            assert match[1] not in rows, f"{match[1]} stands twice"
            rows[match[1]] = [cell.strip() for cell in line.strip("|").split("|")]
    return rows


def test_every_code_is_documented() -> None:
    assert set(table_rows()) == codes_in_the_source() | codes_of_faults()


def test_the_source_is_searched_where_it_refuses() -> None:
    found = codes_in_the_source()
    assert {"draining", "overloaded", "too_old", "retained_full", "groups_full", "bad_type", "unknown_group"} <= found


def test_every_code_says_whether_to_try_again() -> None:
    rows = table_rows()
    assert {code for code, cells in rows.items() if cells[2] == "yes"} == set(RETRYABLE)
    assert all(cells[2] in ("yes", "no") and len(cells) == 4 and all(cells) for cells in rows.values())


@pytest.mark.parametrize("name", ["RESERVED_TYPES", "_EVENT_MEMBERS"])
def test_members_and_reserved_types_are_documented(name: str) -> None:
    text = (ROOT / "docs" / "producers.md").read_text()
    assert all(f"`{word}`" in text for word in getattr(envelope, name))
