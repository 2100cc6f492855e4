"""What /proc says of processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sse_daemon.bench import process

SLEEPS = "import sys; print(flush=True); sys.stdin.read()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEPS!r}])"


@contextmanager
def running(code: str) -> Iterator[int]:
    """A process with this code, once it (or its child) has said something; it ends when its input does."""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as found:
        assert found.stdout is not None
        found.stdout.readline()
        yield found.pid


def test_children_belong_to_the_family() -> None:
    with running(PARENT) as pid:
        family = process.family([pid])
        assert pid in family
        assert len(family) == 2
        assert process.memory(family) > process.memory([pid]) > 1_000_000
    assert {pid} < set(family)


def test_cpu_time_is_that_of_the_process() -> None:
    before = process.cpu([os.getpid()])
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert process.cpu([os.getpid()]) - before >= 0.04


def test_a_process_that_has_ended_is_named() -> None:
    with running(SLEEPS) as pid:
        pass
    for measure in (process.cpu, process.memory):
        with pytest.raises(process.Gone, match=f"process {pid} has ended"):
            measure([pid])
    with pytest.raises(process.Gone):
        process.files(pid)


def test_the_limit_of_open_files_is_the_process_s_own() -> None:
    used, limit = process.files(os.getpid())
    assert 0 < used < limit
    assert 0 < process.own_files() <= process.files(os.getpid())[1]


def test_the_own_share_is_of_the_time_that_passed() -> None:
    own = process.Own()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert 0 < own.share() <= 1.5
