"""--wait with or without its value."""

from __future__ import annotations

import pytest

from sse_daemon.cli.inject import with_seconds


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([], []),
        (["--wait"], ["--wait=5.0"]),
        (["--wait", "hello"], ["--wait=5.0", "hello"]),
        (["--wait", "--to", "a"], ["--wait=5.0", "--to", "a"]),
        (["--wait", "2s", "hello"], ["--wait", "2s", "hello"]),
        (["--wait=2s", "hello"], ["--wait=2s", "hello"]),
        (["--wait", "--", "5"], ["--wait=5.0", "--", "5"]),
        (["--", "--wait"], ["--", "--wait"]),
    ],
)
def test_the_seconds_may_be_left_out(given: list[str], read: list[str]) -> None:
    assert with_seconds(given) == read
