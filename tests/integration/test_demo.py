"""`make demo`: that it shows what it says, that its verdict can be bad, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from examples.demo_verdict import Checker, judge
from sse_daemon.consumer import Message, Resync

ROOT = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, str(ROOT / "examples" / "demo.py")]
EXCERPT = re.findall(r"^```\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[0]
"""What the README shows of it."""
SENT = {"load": {"for": "*", "count": 3}, "memory": {"for": ["alice"], "count": 2}, "disk": {"for": ["bob"], "count": 2}}

Until = Callable[..., Any]


# The verdict ------------------------------------------------------------------------------------------------------------------


def event(topic: str, serial: int, to: str | list[str] | None = None, id: str | None = "c-1") -> Message:
    return Message(id, topic, json.dumps({"serial": serial, "for": SENT[topic]["for"] if to is None else to, "reading": "1"}))


def everything(name: str) -> list[Message]:
    """What SENT comes to for one client."""
    mine = [topic for topic, told in SENT.items() if told["for"] == "*" or name in told["for"]]  # type: ignore[operator]
    return [event(topic, n + 1) for topic in mine for n in range(int(SENT[topic]["count"]))]  # type: ignore[call-overload]


def received(name: str, events: list[Message | Resync] | list[Message]) -> Checker:
    checker = Checker(name)
    for each in events:
        checker.take(each)
    return checker


def test_all_is_well_when_everybody_got_what_was_theirs() -> None:
    verdict = judge([received(name, everything(name)) for name in ("alice", "bob")], SENT)
    assert verdict == (True, "ok: alice 5 events, bob 5 events, 0 holes, 0 wrong deliveries", [])


@pytest.mark.parametrize("missing", range(5))
def test_an_event_that_is_missing_is_a_hole_wherever_it_is(missing: int) -> None:
    events = everything("alice")
    del events[missing]
    verdict = judge([received("alice", events)], SENT)
    assert verdict == (False, "FAILED: alice 4 events, 1 holes, 0 wrong deliveries", [])


def test_a_resync_does_not_fill_the_hole_that_it_announces() -> None:
    first, _, *rest = everything("alice")
    assert received("alice", [first, Resync("lagged", 1, "c-9"), *rest]).holes(SENT) == 1


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (event("disk", 1), "alice: disk 1 is for ['bob']"),
        (event("load", 3), "alice: load 3 has no id, came before, or came too late"),
        (event("load", 4, id=None), "alice: load 4 has no id, came before, or came too late"),
        (Message("c-1", "load", "[]"), "alice: load is not as the producer wrote it: '[]'"),
        (Message("c-1", "load", "\x00"), "alice: load is not as the producer wrote it: '\\x00'"),
    ],
)
def test_what_should_not_have_come_is_a_wrong_delivery(wrong: Message, why: str) -> None:
    verdict = judge([received("alice", [*everything("alice"), wrong])], SENT)
    assert verdict == (False, "FAILED: alice 6 events, 0 holes, 1 wrong deliveries", [why])


def test_nothing_at_all_is_not_well() -> None:
    assert not judge([Checker("alice")], {}).ok


# The demonstration ------------------------------------------------------------------------------------------------------------


@contextmanager
def demo(*arguments: str, terminal: int | None = None, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """The demonstration as it runs, in a pipe or a terminal; ended if the test does not."""
    # What is meant for other daemons is not for the demonstration's own.
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "SSE_DAEMON_HTTP_LISTEN": "nonsense", **environ}
    output = subprocess.PIPE if terminal is None else terminal
    with subprocess.Popen([*DEMO, *arguments], text=True, env=environ, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=60)


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except FileNotFoundError:
        return ""


def shown(output: str) -> set[tuple[str, str]]:
    """(client, topic) of every event in the plain output."""
    return set(re.findall(r"^(alice|bob) +\| [0-9a-f]{12}-\d+ +(\w+) +\S", output, re.MULTILINE))


def test_it_ends_by_itself_with_a_verdict() -> None:
    with demo("--seconds", "2") as process:
        output = process.communicate(timeout=90)[0]
    assert process.returncode == 0, output
    public, alices, bobs = {"load", "network"}, {"memory"}, {"disk"}
    expected = {("alice", topic) for topic in public | alices} | {("bob", topic) for topic in public | bobs}
    assert shown(output) == expected
    assert re.fullmatch(r"ok: alice \d+ events, bob \d+ events, 0 holes, 0 wrong deliveries", output.splitlines()[-1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_ctrl_c_ends_it_in_order_and_its_children_with_it(number: signal.Signals, until_blocking: Until) -> None:
    with demo() as process:
        assert process.stdout is not None
        process.stdout.readline()
        pids = children(process.pid)
        assert len(pids) == 2
        process.send_signal(number)
        output = process.communicate(timeout=90)[0]
    assert process.returncode == 0, output
    assert output.splitlines()[-1].startswith("ok: ")
    until_blocking(lambda: not any(map(command_of, pids)), "the end of its children")


@pytest.mark.parametrize(("part", "name"), [("sse_daemon.cli", "sse-daemon"), ("readings.py", "the producer")])
def test_a_part_that_dies_is_its_failure_and_is_named(part: str, name: str, until_blocking: Until) -> None:
    with demo() as process:
        assert process.stdout is not None
        process.stdout.readline()
        pids = children(process.pid)
        victim = next(pid for pid in pids if part in command_of(pid))
        os.kill(victim, signal.SIGKILL)
        output = process.communicate(timeout=90)[0]
    assert process.returncode == 1, output
    assert f"FAILED: {name} ended with status -9" in output
    until_blocking(lambda: not any(map(command_of, pids)), "the end of its children")


def test_a_daemon_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    deep = tmp_path / ("too-long-for-a-socket" * 6)
    deep.mkdir()
    with demo("--seconds", "2", TMPDIR=str(deep)) as process:
        output = process.communicate(timeout=90)[0]
    assert process.returncode == 1, output
    assert "FAILED: sse-daemon ended with status 2; its last words:" in output
    assert "that a socket's path may have" in output


def test_in_a_terminal_the_clients_stand_side_by_side() -> None:
    leader, follower = pty.openpty()
    with demo("--seconds", "2", terminal=follower, COLUMNS="160") as process:
        os.close(follower)
        output = drained(leader)
        process.wait(60)
    os.close(leader)
    assert process.returncode == 0, output
    assert re.search(r"alice: \d+ events .*bob: \d+ events", output)
    assert re.search(r"│ [0-9a-f]{12}-\d+ load .*││ [0-9a-f]{12}-\d+ load .*│", output)
    assert "ok: alice" in output.splitlines()[-1]
    assert shapes(EXCERPT) <= shapes(output), "the README shows something else"


def shapes(output: str) -> set[str]:
    """What the lines look like, without what differs each time: ids, numbers, and how much room they take."""
    lines = re.sub(r"[0-9a-f]{12}-\d+", "ID", output).splitlines()
    return {re.sub(r"[\d.,]+", "N", re.sub(r"[\s─]+", " ", line)).strip() for line in lines}


def drained(terminal: int) -> str:
    """Everything that is written to a terminal until nobody has it open, without its control sequences."""
    output = b""
    try:
        while chunk := os.read(terminal, 65536):
            output += chunk
    except OSError:  # EIO: Linux' way to say that the other side is closed
        pass
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode())
