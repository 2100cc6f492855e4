"""The processes of the demonstration: started, listened to, and ended whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

PATIENCE = 30.0
"""Seconds for a process to start, or to end: generous, because only a failure ever waits that long."""


class Failed(Exception):
    """The demonstration cannot go on; the message says why, with the last words of whoever failed."""


class Child:
    """A process of ours that writes lines, one of which is what we wait for: the first of which `announced` makes something.

    ended: a task that runs as long as the process does, and then raises Failed, unless it was asked to end.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, announced: Callable[[Any], Any]) -> None:
        self._name, self._process, self._announced = name, process, announced
        self._lines: deque[str] = deque(maxlen=20)
        self._said: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked = False
        self.ended = asyncio.create_task(self._follow())

    @classmethod
    @asynccontextmanager
    async def running(cls, name: str, command: Sequence[str], announced: Callable[[Any], Any]) -> AsyncIterator[Child]:
        """Starts a process and ends it, whatever happens. Ctrl-C is for us alone, so that everything ends in order."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("SSE_DAEMON_")}
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**environ, "SSE_DAEMON_LOG_FORMAT": "json"},
            process_group=0,
        )
        child = cls(name, process, announced)
        try:
            yield child
        finally:
            await child.end()

    async def says(self) -> Any:
        """What it announced. Raises Failed if it ends, or time passes, without a word of that."""
        await asyncio.wait([self._said, self.ended], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if not self._said.done():
            raise self._failure("ended" if self.ended.done() else "does not get ready")
        return self._said.result()

    def stop(self) -> None:
        """Asks it to end."""
        self._asked = True
        if self._process.returncode is None:
            self._process.terminate()

    async def end(self) -> None:
        """Ends it: by asking, and if that does not help, by force."""
        self.stop()
        await asyncio.wait([self.ended], timeout=PATIENCE)
        if self._process.returncode is None:
            self._process.kill()
        await asyncio.gather(self.ended, return_exceptions=True)

    async def _follow(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            self._lines.append(raw.decode(errors="replace").rstrip())
            with suppress(ValueError):  # lines for people are not JSON
                if not self._said.done() and (news := self._announced(json.loads(raw))):
                    self._said.set_result(news)
        await self._process.wait()
        if not self._asked:
            raise self._failure("ended")

    def _failure(self, what: str) -> Failed:
        status = "" if self._process.returncode is None else f" with status {self._process.returncode}"
        return Failed("\n    ".join([f"{self._name} {what}{status}; its last words:", *self._lines]))
