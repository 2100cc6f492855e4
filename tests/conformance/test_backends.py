"""Every promise of the port, kept by every backend of ours."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sse_daemon.backend import Backend, Deliver, Limits, Opened, Stored
from sse_daemon.backends import conformance, create
from sse_daemon.backends.broker import BrokerBackend
from sse_daemon.backends.conformance import CHECKS, Check, Clock, PromiseBroken, checks_of, draft
from sse_daemon.backends.memory import MemoryBackend
from sse_daemon.backends.sqlite import SqliteBackend
from sse_daemon.event import Logged, Record
from sse_daemon.link import Link
from sse_daemon.relay import Relay


class Brokered(BrokerBackend):
    """A worker's log, with an owner and its log in memory at the other end of the link."""

    def __init__(self, url: str, limits: Limits, *, clock: Clock) -> None:
        self._owned = MemoryBackend(url, limits, clock=clock)
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        self._links = Link(ours, loop), Link(theirs, loop)
        self._links[0].start()
        super().__init__(self._links[0])

    async def open(self, deliver: Deliver) -> Opened:
        if not self._closed and self._deliver is None:
            opened = await self._owned.open(lambda *batch: relay.deliver(*batch))
            relay = Relay(self._owned, opened.incarnation, opened.head, lambda: opened.topics)
            relay.attach(self._links[1])
            self._links[1].start()
        return await super().open(deliver)

    async def close(self) -> None:
        await super().close()
        await self._owned.close()
        self.hang_up()

    def hang_up(self) -> None:
        for link in self._links:
            link.close()


OURS: dict[str, type[MemoryBackend | SqliteBackend | Brokered]] = {
    "memory": MemoryBackend,
    "sqlite": SqliteBackend,
    "broker": Brokered,
}
ALL = [
    pytest.param(scheme, check, id=f"{scheme}-{name}") for scheme, kind in OURS.items() for name, check in checks_of(kind).items()
]
UNSOUND = ("sse_daemon.backends.sqlite_file", "has a fault that can, rarely, damage a file")


@pytest.fixture(autouse=True)
def _old_sqlite(expect_log: Any) -> None:
    expect_log(*UNSOUND, required=False)


@pytest.mark.parametrize(("scheme", "check"), ALL)
async def test_promise(scheme: str, check: Check, tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/log.db" if scheme == "sqlite" else "memory://"
    made: list[Backend] = []

    def make(limits: Limits, clock: Clock) -> Backend:
        made.append(OURS[scheme](url, limits, clock=clock))
        return made[-1]

    await conformance.run(check, make)
    for log in made:
        if isinstance(log, Brokered):
            log.hang_up()  # also of those that were never opened


def test_every_check_names_its_promise() -> None:
    assert all(check.promise for check in CHECKS.values())


class Forgetful(MemoryBackend):
    """Breaks promises, one at a time."""

    broken = ""

    async def append(self, records: Sequence[Record]) -> Any:
        if self.broken == "order":
            records = records[::-1]
        if self.broken == "delivery":
            self._deliver = lambda batch, after, last: None
        if self.broken == "repeats":
            records = [tuple(item._replace(n=None) for item in record) for record in records]
        if self.broken == "atomicity":
            records = [(item,) for record in records for item in record]
        return await super().append(records)

    async def read(self, channels: Any, after: int, limit: int) -> Any:
        page = await super().read(channels, after, limit)
        if self.broken == "through" and hasattr(page, "events"):
            return page._replace(through=self._ledger.head)
        return page

    async def retained(self, channels: Any) -> Any:
        return await super().retained(None if self.broken == "isolation" else channels)


@pytest.mark.parametrize("broken", ["order", "delivery", "repeats", "atomicity", "through", "isolation"])
async def test_the_suite_notices_a_broken_promise(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Forgetful, "broken", broken)
    failed = []
    for name, check in checks_of(Forgetful).items():
        try:
            await conformance.run(check, _forgetful)
        except (PromiseBroken, IndexError, ValueError):
            failed.append(name)
    assert failed


def _forgetful(limits: Limits, clock: Clock) -> Backend:
    return Forgetful("memory://", limits, clock=clock)


WRITER = """
import asyncio, sys
from sse_daemon.backend import Limits
from sse_daemon.backends import create
from sse_daemon.backends.conformance import draft

async def main(url):
    log = create(url, Limits())
    await log.open(lambda batch, after, last: None)

    async def producer(name):
        for n in range(1, 10**9):
            (stored,) = await log.append([(draft(data=b"%d" % n, n=n, sender=name), draft("b", n=n, sender=name + "'"))])
            print(name, n, *stored.positions, flush=True)

    await asyncio.gather(*map(producer, "uvwxyz"))

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("lines", [1, 30, 300])
async def test_sqlite_survives_kill_9(lines: int, tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/log.db"
    acked = await asyncio.get_running_loop().run_in_executor(None, _kill_after, url, lines)
    delivered: list[Logged] = []
    log = create(url, Limits())
    opened = await log.open(lambda batch, after, last: delivered.extend(batch))
    try:
        assert acked
        assert opened.head % 2 == 0  # records of two items: each is there whole, or not at all
        for sender, n, first, second in acked:
            record = (draft(n=int(n), sender=sender), draft("b", n=int(n), sender=sender + "'"))
            assert await log.append([record]) == [Stored((int(first), int(second)), True)]
        assert not delivered
        page: Any = await log.read(["a"], 0, 10_000)
        assert {int(first) for _, _, first, _ in acked} <= {event.position for event in page.events}
        assert len(page.events) == opened.head // 2
    finally:
        await log.close()


def _kill_after(url: str, lines: int) -> list[list[str]]:
    """What a process of its own had acknowledged when it was killed, after so many lines at least."""
    with subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True, env=_environment()) as process:
        assert process.stdout is not None
        read: Callable[[], str] = process.stdout.readline
        first = [read() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().splitlines(keepends=True)
    return [line.split() for line in [*first, *rest] if line.endswith("\n")]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
