"""The source of the project as the architecture tests see it: files, names, imports."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FOLDERS = {"sse_daemon": "", "backends": "backends.", "cli": "cli.", "sse_daemon/bench": "bench."}
"""Top-level folder -> what its modules are called inside the package."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the package without the leading `sse_daemon.`, each file once; a package is named like its folder."""
    found = {}
    for folder, prefix in FOLDERS.items():
        for path in (ROOT / folder).glob("*.py"):
            name = prefix + path.stem if path.stem != "__init__" else prefix.rstrip(".") or "__init__"
            found[name] = path
    return found


def imports(path: Path) -> Iterator[str]:
    """The full name of everything that the file imports, wherever in it the import stands: `a.b` and, for `from a import b`, too."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def foreign(path: Path) -> Iterator[str]:
    """What it imports from outside the project."""
    return (name for name in imports(path) if name.partition(".")[0] not in ("sse_daemon", "__future__"))


def own(path: Path) -> Iterator[str]:
    """The modules of the project that it imports, as `modules` names them."""
    for name in imports(path):
        if name.partition(".")[0] == "sse_daemon":
            yield _module_of(name.partition(".")[2])


def _module_of(name: str) -> str:
    """`name` or what it is a part of: `sse.Frame` is in the module `sse`."""
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name or "__init__"


def repository() -> list[Path]:
    """Every file that is in the repository, or would be if it were added now; links are not followed."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).exists()]
