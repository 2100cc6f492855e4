"""The README's five minutes, run as they stand there: every command, and what it says it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.daemon import ROOT, environ, facts

TOUR = (ROOT / "README.md").read_text().partition("\n## Five minutes\n")[2].partition("\n## ")[0]

Until = Callable[..., Any]


class Step(NamedTuple):
    """A command, or lines of Python, and the output that the README shows for it."""

    language: str
    source: str
    output: str


def steps() -> Iterator[Step]:
    """What the README asks its readers to do, in order."""
    for language, block in re.findall(r"^```(console|python)\n(.*?)^```$", TOUR, re.MULTILINE | re.DOTALL):
        if language == "python":
            yield Step(language, block, "")
            continue
        command, _, output = block.partition("\n")
        assert command.startswith("$ ")
        yield Step(language, command[2:], output)


class Reader:
    """Somebody with a shell who follows the README, in a place of their own: other ports, another admin socket."""

    def __init__(self, place: Path, until: Until) -> None:
        self._place, self._until = place, until
        self._here: dict[str, str] = {}
        """What stands in the README -> what it is here."""
        self._left: list[tuple[subprocess.Popen[bytes], Path, str]] = []
        self._environ = environ(
            {
                "SSE_DAEMON_HTTP_LISTEN": "127.0.0.1:0",
                "SSE_DAEMON_INGEST_PUBSUB": "tcp://127.0.0.1:0",
                "SSE_DAEMON_INGEST_ACKED": "tcp://127.0.0.1:0",
                "SSE_DAEMON_ADMIN_SOCKET": f"{place}/admin.sock",
                "PATH": f"{place}:{os.environ['PATH']}",
            }
        )
        program = place / "sse-daemon"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sse_daemon.cli "$@"\n')
        program.chmod(0o755)

    def follow(self, step: Step) -> None:
        """Does what the step says; what it prints must be what the README shows."""
        if step.language == "python":
            self._run([sys.executable, "-c", self._translated(step.source)])
        elif step.source.startswith("sse-daemon serve"):
            self._serve(step.source)
        elif step.source.startswith("curl -sN -H"):
            self._leave_running(step)
        else:
            printed = self._run(["sh", "-c", self._translated(step.source)])
            assert shape(printed) == shape(self._translated(step.output)), f"{step.source}\n{printed}"
        self._check_what_runs()

    def close(self) -> None:
        """Ends what was left running."""
        for process, _, _ in reversed(self._left):
            process.terminate()
            process.wait(30)

    def _serve(self, command: str) -> None:
        log = self._start(command, "")
        ready = self._until(lambda: [f for line in log.read_text().splitlines() if (f := facts(line)).get("msg") == "ready"])[0]
        self._here["127.0.0.1:8080"] = ready["http"]
        self._here["tcp://127.0.0.1:5556"] = ready["ingest"].split(",")[0]

    def _leave_running(self, step: Step) -> None:
        """A client that stays: what it prints in the end is checked when there has been something to print."""
        output = self._start(step.source, step.output)
        first = self._until(lambda: re.search(r"^id: ([0-9a-f]{12})-0$", output.read_text(), re.MULTILINE), "the stream")
        incarnation = re.search(r"^id: ([0-9a-f]{12})-0$", step.output, re.MULTILINE)
        assert incarnation, "the README shows another beginning of a stream"
        self._here[incarnation[1] + "-"] = first[1] + "-"

    def _start(self, command: str, expected: str) -> Path:
        output = self._place / f"output-{len(self._left)}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["sh", "-c", "exec " + self._translated(command)], stdout=file, stderr=file, env=self._environ, cwd=self._place
            )
        self._left.append((process, output, expected))
        return output

    def _check_what_runs(self) -> None:
        for process, output, _ in self._left:
            assert process.poll() is None, output.read_text()

    def compare_what_runs(self) -> None:
        """What stays running has by now printed what the README shows."""
        for _, output, expected in self._left:
            wanted = shape(self._translated(expected))
            self._until(lambda output=output, wanted=wanted: shape(output.read_text())[: len(wanted)] == wanted, expected)

    def _run(self, command: Sequence[str]) -> str:
        done = subprocess.run(
            command, env=self._environ, cwd=self._place, capture_output=True, text=True, timeout=60, check=False
        )
        # 28: curl was told to leave after a while (-m), as the README has it.
        assert done.returncode in (0, 28), done.stdout + done.stderr
        return done.stdout

    def _translated(self, text: str) -> str:
        for there, here in self._here.items():
            text = text.replace(there, here)
        return text


def shape(text: str) -> list[list[str]]:
    """The words of each line, without what differs each time: client ids, ports, waits, ages."""
    for pattern, name in (
        (r"\b[0-9a-f]{12}\b(?!-)", "CLIENT"),
        (r"127\.0\.0\.1:\d+", "ADDRESS"),
        (r"retry: \d+", "retry: WAIT"),
        (r"\b\d+s\b", "AGE"),
    ):
        text = re.sub(pattern, name, text)
    return [line.split() for line in text.strip().splitlines()]


@pytest.fixture
def reader(tmp_path_factory: pytest.TempPathFactory, until_blocking: Until) -> Iterator[Reader]:
    somebody = Reader(tmp_path_factory.mktemp("tour"), until_blocking)
    try:
        yield somebody
    finally:
        somebody.close()


def test_the_five_minutes_are_as_the_readme_says(reader: Reader) -> None:
    tour = list(steps())
    assert [step.language for step in tour].count("python") == 1 and len(tour) == 6
    for step in tour:
        reader.follow(step)
        if step.language == "python":
            reader.compare_what_runs()
