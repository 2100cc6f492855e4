"""A signal that comes while the daemon starts; everything else about its life is tested from outside."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sse_daemon import config
from sse_daemon.backend import Deliver, Limits, Opened
from sse_daemon.backends.memory import MemoryBackend
from sse_daemon.daemon import Daemon
from sse_daemon.errors import BackendUnavailable


class Stuck(MemoryBackend):
    """A log that never opens; whoever waits for it gets a signal."""

    given_up = False

    async def open(self, deliver: Deliver) -> Opened:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            return await asyncio.Event().wait()  # type: ignore[return-value]
        except asyncio.CancelledError:
            self.given_up = True
            raise


class Away(MemoryBackend):
    """A log that cannot be opened."""

    async def open(self, deliver: Deliver) -> Opened:
        raise BackendUnavailable("it is away")


def daemon(backend: MemoryBackend, path: Path) -> Daemon:
    settings = config.load(None, {"XDG_RUNTIME_DIR": str(path)}, dev=True)
    return Daemon(settings, backend, lambda: settings)


async def test_a_signal_ends_a_start_that_waits_for_its_log(tmp_path: Path, expect_log: Callable[..., Any]) -> None:
    expect_log("sse_daemon.daemon", "stopping at once")
    backend = Stuck("memory://", Limits())
    async with asyncio.timeout(20):
        assert await daemon(backend, tmp_path).run() == 0
    assert backend.given_up and not list(tmp_path.iterdir())


async def test_a_log_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="it is away"):
        await daemon(Away("memory://", Limits()), tmp_path).run()
