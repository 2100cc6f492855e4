"""The whole way of an event, on this machine: the real daemon, a producer in another process, and two ordinary clients.

    make demo               until Ctrl-C
    make demo SECONDS=10    ends by itself

It shows what alice and bob each receive and ends with a verdict: how many events, how many holes, how many that were not theirs.
The verdict does not ask the daemon: the producer (readings.py) numbers what it sends and writes into each event whom it is for.
The exit status is 0 if all is well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from demo_child import PATIENCE, Child, Failed
from demo_verdict import Checker, Verdict, judge
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sse_daemon.consumer import Message, Resync, SubscribeError, Subscription, subscribe

CLIENTS = ("alice", "bob")
PRODUCER = Path(__file__).with_name("readings.py")
ON_THE_WAY = 5.0
"""Seconds for what was sent last to arrive; only a hole makes anybody wait so long."""
ROWS = 12
"""Events of each client that are on the screen."""


# What is to be seen --------------------------------------------------------------------------------------------------------------


class Board(Protocol):
    """Where each client's events are shown."""

    def show(self, name: str, event: Message | Resync) -> None:
        """One more."""


def columns(event: Message | Resync) -> tuple[str, str, str]:
    """An event for people: its id, its type, what it says."""
    if isinstance(event, Resync):
        return event.id or "", "resync", event.reason
    try:
        return event.id or "", event.type, str(json.loads(event.data)["reading"])
    except (ValueError, LookupError, TypeError):
        return event.id or "", event.type, event.data


class Lines:
    """One line an event, for files and pipes."""

    def show(self, name: str, event: Message | Resync) -> None:
        id, kind, text = columns(event)
        print(f"{name:<5} | {id:<17}  {kind:<8} {text}", flush=True)


class Panels:
    """The clients side by side, each with its latest events; drawn whenever rich asks for it."""

    def __init__(self) -> None:
        self._rows = {name: deque[tuple[str, str, str]](maxlen=ROWS) for name in CLIENTS}
        self._counts = dict.fromkeys(CLIENTS, 0)

    def show(self, name: str, event: Message | Resync) -> None:
        self._counts[name] += 1
        self._rows[name].append(columns(event))

    def __rich__(self) -> Group:
        both = Table.grid(expand=True)
        for _ in CLIENTS:
            both.add_column(ratio=1)
        both.add_row(*(Panel(self._table(name), title=f"{name}: {self._counts[name]} events") for name in CLIENTS))
        return Group(both, Text("Ctrl-C ends it", style="dim"))

    def _table(self, name: str) -> Table:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True, style="dim")
        table.add_column(no_wrap=True, style="bold")
        table.add_column(no_wrap=True, ratio=1)
        blank = [("", "", "")] * (ROWS - len(self._rows[name]))
        for row in (*self._rows[name], *blank):
            table.add_row(*map(Text, row))
        return table


# The demonstration ---------------------------------------------------------------------------------------------------------------


def daemon_command(folder: str) -> list[str]:
    """`sse-daemon serve --dev`, by this interpreter, on ports that the system chooses."""
    local = ("--http", "127.0.0.1:0", "--pubsub", "tcp://127.0.0.1:0", "--acked", "tcp://127.0.0.1:0")
    return [sys.executable, "-m", "sse_daemon.cli", "serve", "--dev", *local, "--admin", f"{folder}/admin.sock"]


def ready(line: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The log line in which the daemon says that it is ready, and where."""
    return line if line.get("msg") == "ready" else None


async def demonstrate(stop: asyncio.Event, seconds: float | None, board: Board) -> Verdict:
    """One run, until `stop` is set or the seconds have passed. Raises Failed, SubscribeError; leaves nothing behind."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="sse-demo-"))
        daemon = await stack.enter_async_context(Child.running("sse-daemon", daemon_command(folder), ready))
        place = await daemon.says()
        streams = [await stack.enter_async_context(subscribe(f"http://{place['http']}/events", name)) for name in CLIENTS]
        checkers = [Checker(name) for name in CLIENTS]
        clients = [asyncio.create_task(receive(*pair, board)) for pair in zip(streams, checkers, strict=True)]
        stack.push_async_callback(cancel, clients)
        await connected(streams, [daemon.ended, *clients])
        command = [sys.executable, str(PRODUCER), place["ingest"].split(",")[0]]
        producer = await stack.enter_async_context(Child.running("the producer", command, lambda line: line.get("sent")))
        await first_of(stop.wait(), [daemon.ended, producer.ended, *clients], seconds)
        producer.stop()
        sent = await producer.says()
        await until(lambda: not any(checker.holes(sent) for checker in checkers), ON_THE_WAY)
        return judge(checkers, sent)


async def receive(stream: Subscription, checker: Checker, board: Board) -> None:
    """One client, for as long as it is let."""
    async for event in stream:
        checker.take(event)
        board.show(checker.name, event)


async def connected(streams: Sequence[Subscription], others: Sequence[asyncio.Task[None]]) -> None:
    """Waits until the daemon has given each stream its client id: from then on nothing may be missing."""
    waiting = asyncio.create_task(until(lambda: all(stream.client_id for stream in streams), PATIENCE))
    await first_of(waiting, others, None)
    if not waiting.result():
        raise Failed("the clients do not get connected")


async def first_of(wanted: Awaitable[Any], others: Sequence[asyncio.Task[None]], seconds: float | None) -> None:
    """Waits for `wanted`, for so long. Raises what ended one of the others, or Failed, if that comes first."""
    waiting = asyncio.ensure_future(wanted)
    await asyncio.wait([waiting, *others], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    ended = [other for other in others if other.done()]
    if not waiting.done():
        waiting.cancel()
    for other in ended:
        other.result()
        raise Failed("a client's stream ended")


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits for it; whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return condition()


async def cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Ends what still runs."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def run(seconds: float | None, console: Console) -> int:
    """Runs it on this console; the exit status."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        if console.is_terminal and not console.is_dumb_terminal:
            panels = Panels()
            with Live(panels, console=console, refresh_per_second=8):
                verdict = await demonstrate(stop, seconds, panels)
        else:
            verdict = await demonstrate(stop, seconds, Lines())
    except (Failed, SubscribeError) as error:
        print(f"FAILED: {error}", flush=True)
        return 1
    print("\n".join([*verdict.details, verdict.line]), flush=True)
    return 0 if verdict.ok else 1


def main() -> int:
    parser = argparse.ArgumentParser(description="The real daemon, a producer and two clients, side by side.")
    parser.add_argument("--seconds", type=float, help="end after so long (default: until Ctrl-C)")
    return asyncio.run(run(parser.parse_args().seconds, Console()))


if __name__ == "__main__":
    sys.exit(main())
