"""The searches themselves: they find what is there to be found, keep it, and say how to see it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.fuzz import run
from tests.fuzz.blind import search
from tests.fuzz.targets import seeds_of

HERE = "tests.fuzz.test_run"


def sound(data: bytes) -> bool:
    """A check that every input passes."""
    return len(data) % 2 == 0


def broken(data: bytes) -> bool:
    """A check with a defect."""
    assert b"\0" not in data, "a defect"
    return True


def test_the_blind_search_finds_the_smallest_input_that_breaks_a_promise() -> None:
    tried, found = search(broken, [b"seed"], 30)
    assert tried > 0 and found is not None and found.data == b"\0"
    assert isinstance(found.cause, AssertionError)


def test_the_blind_search_ends_when_nothing_is_found() -> None:
    tried, found = search(sound, seeds_of("cursor"), 0)
    assert tried > 0 and found is None


def test_a_finding_fails_the_run_and_can_be_replayed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = f"{HERE}:broken"
    assert run.main(["--blind", "--seconds", "1", "--out", str(tmp_path), name]) == 1
    (path,) = (tmp_path / "findings" / name.replace(":", ".")).iterdir()
    said = capfd.readouterr()
    assert "AssertionError: a defect" in said.out
    assert f"--replay {path} {name}" in said.err and repr(path.read_bytes()) in said.err
    again = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", "--replay", path, name], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert again.returncode == 1 and "AssertionError: a defect" in again.stderr


def test_a_run_goes_over_the_targets_that_it_is_given(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--blind", "--seconds", "0", "--out", str(tmp_path), "cursor", f"{HERE}:sound"]) == 0
    said = capfd.readouterr().out
    assert "==> cursor: 0 s without coverage" in said and f"==> {HERE}:sound" in said and "DONE" in said


def test_a_target_that_is_none_is_a_usage_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert run.main(["other"]) == 2
    assert "other is none of message" in capfd.readouterr().err


def test_an_input_can_be_replayed_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"0123456789ab-3")
    assert run.main(["--replay", str(path), "cursor"]) == 0
    assert "accepted" in capfd.readouterr().out
