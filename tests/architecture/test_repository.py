"""What the repository holds, and what it must not: places of one machine, registries, locks, broken examples."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, repository

TOP = {
    *("sse_daemon", "backends", "cli", "tests", "systemd", "docs", "examples", "bench"),
    *("setup.cfg", "setup.py", "pyproject.toml", "Makefile", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE"),
    *(".ci", ".gitignore"),
}

# In pieces, so that this file is not its own first finding.
FORBIDDEN = {
    "a place of one machine": ["/" + "work/", "/" + "root/", "/" + "home/", "/tmp/" + "venv", ".py" + "env/"],
    "a package registry": ["py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "npm" + "js.com", "deb." + "debian.org"],
    "a word about the work instead of the thing": ["TO" + "DO", "FIX" + "ME", "XX" + "X ", "NotImplemented" + "Error"],
}

LOCKS = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "package-lock.json", "yarn.lock", "pnpm-lock.yaml"}

LARGEST = 512 * 1024
"""Bytes of one file: sources and documents are far below, data and binaries have no place here."""


def texts() -> Iterator[tuple[str, str]]:
    """(name, text) of every file; a file that is not UTF-8 fails right here."""
    for path in repository():
        if path.is_file() and not path.is_symlink():
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def test_the_top_level_is_as_designed() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in repository()} <= TOP


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_nothing_names(kind: str) -> None:
    found = [
        f"{name}:{number}: {word}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        for word in FORBIDDEN[kind]
        if word in line
    ]
    assert not found, f"{kind}: {found}"


def test_nothing_is_locked_or_large() -> None:
    assert not [path for path in repository() if path.name in LOCKS]
    assert not [path for path in repository() if path.lstat().st_size > LARGEST]


def blocks(text: str, language: str) -> Iterator[str]:
    """The fenced code blocks of a Markdown text."""
    return (match[1] for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def test_python_in_documents_is_python() -> None:
    for name, text in texts():
        for block in blocks(text, "python") if name.endswith(".md") else ():
            # As in the interactive interpreter of asyncio, an example may await outside a function.
            compile(block, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def targets(text: str) -> Iterator[str]:
    """The files that a Markdown text links to, relative to its own place."""
    for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            yield target


def test_documents_link_to_what_is_there() -> None:
    missing = [
        f"{name}: {target}"
        for name, text in texts()
        if name.endswith(".md")
        for target in targets(text)
        if not (ROOT / Path(name).parent / target).exists()
    ]
    assert not missing
