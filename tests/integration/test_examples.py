"""The small examples, run as their first lines say, against a real daemon."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.daemon import ROOT, RunningDaemon, environ


def command(example: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "examples" / example), *arguments]


def test_what_one_example_publishes_the_other_prints(tmp_path: Path, until_blocking: Callable[..., Any]) -> None:
    seen = tmp_path / "seen"
    with (
        RunningDaemon() as daemon,
        seen.open("wb") as output,
        subprocess.Popen(command("subscribe.py", "alice", daemon.events), stdout=output, env=environ({})) as subscriber,
    ):
        try:
            until_blocking(lambda: daemon.lines("stream opened"), "the subscriber")
            publish = command("publish.py", "alice", "dinner is ready", daemon.acked)
            id = subprocess.run(publish, env=environ({}), capture_output=True, text=True, check=True).stdout.strip()
            until_blocking(lambda: seen.read_text() == f"{id} note dinner is ready\n", "the event")
        finally:
            subscriber.terminate()
