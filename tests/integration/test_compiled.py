"""The compiled core: built from the very source that runs without it, it has to behave the same.

The daemon's processes are taken from it, and tests of the whole way of an event, which know nothing of it, are run once more.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.peers.compiled import compile_into, missing
from tests.architecture.source import repository
from tests.integration.daemon import ROOT, UNDER_TEST

AGAIN = ("test_ingest.py", "test_isolation.py", "test_reconnect.py", "test_slow.py", "test_longpoll.py", "test_workers.py")
"""What is run on it: events of every form, who gets them, resuming, full sockets, long-polls, workers."""


def to_be_compiled() -> tuple[str, ...]:
    """The list in setup.py, which cannot be imported without building."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    assigned = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    names: tuple[str, ...] = ast.literal_eval(assigned["COMPILED"])
    return names


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as SSE_DAEMON_COMPILE=1 installs it."""
    if UNDER_TEST != ROOT:
        pytest.skip("this is that run")
    if (reason := missing()) is not None:
        pytest.skip(reason)
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("compiled")
    for path in repository():
        target = tree / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target, follow_symlinks=False)
    compile_into(out, tree)
    return out


def test_what_is_to_be_compiled_is_there() -> None:
    for name in to_be_compiled():
        assert (ROOT / "sse_daemon" / name.replace(".", "/")).with_suffix(".py").is_file(), name


def test_the_named_modules_are_compiled_and_no_others(compiled: Path) -> None:
    built = {path.relative_to(compiled / "sse_daemon").as_posix().split(".")[0] for path in compiled.glob("sse_daemon/**/*.so")}
    assert built == {name.replace(".", "/") for name in to_be_compiled()}


def test_the_version_says_which_core_it_is(compiled: Path) -> None:
    def version(place: Path) -> str:
        command = [sys.executable, "-m", "sse_daemon.cli", "--version"]
        return subprocess.run(
            command, cwd="/", env={**os.environ, "PYTHONPATH": str(place)}, check=True, capture_output=True, text=True
        ).stdout

    assert "compiled core" in version(compiled)
    assert "compiled" not in version(ROOT)


def test_the_whole_way_of_an_event_is_the_same_on_it(compiled: Path) -> None:
    files = [str(ROOT / "tests" / "integration" / name) for name in AGAIN]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        env={**os.environ, "SSE_DAEMON_UNDER_TEST": str(compiled)},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout
