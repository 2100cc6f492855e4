"""`.ci/tools`, which sees to the programs that tests run: it says what is missing, and that is a failure only where nothing may be skipped."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

TOOLS = ROOT / ".ci" / "tools"


def run(**environ: str) -> subprocess.CompletedProcess[str]:
    """On a path on which there is hardly anything."""
    return subprocess.run(
        ["/bin/bash", TOOLS], env={"PATH": "/nowhere", "INSTALL": "no", **environ}, check=False, capture_output=True, text=True
    )


def test_what_is_missing_is_said_and_skipped() -> None:
    done = run()
    assert done.returncode == 0
    assert "apt-get install" in done.stderr and " chromium " in done.stderr and "are skipped" in done.stderr


def test_in_ci_nothing_may_be_missing() -> None:
    done = run(CI="true")
    assert done.returncode == 1
    assert " chromium " in done.stderr and "skipped" not in done.stderr


@pytest.mark.parametrize("install", ["yes", "no"])
def test_where_all_is_there_nothing_is_said(tmp_path: Path, install: str) -> None:
    for name in ("chromium", "caddy", "cc", "curl"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    if missing := [path for path in absolute() if not Path(path).exists()]:
        pytest.skip(f"{missing[0]} is not installed")
    done = run(PATH=str(tmp_path), INSTALL=install)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def absolute() -> list[str]:
    """The programs that it looks for at one place only."""
    needs = TOOLS.read_text().partition("\nelse\n")[2].splitlines()
    return [words[1] for line in needs if (words := line.split())[:1] == ["need"] and "/" in words[1]]
