"""The log of another process, followed over a link; imported as sse_daemon.backends.broker, never under the bare name.

A worker's backend. The process at the other end (`sse_daemon/relay.py`) owns the real one: it pushes what the log holds, in order,
and answers everything else. No URL leads here: the link is a socket pair that a worker was born with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

from sse_daemon import codec
from sse_daemon.backend import Deliver, Gap, Opened, Page, Snapshots, Stored
from sse_daemon.errors import BackendUnavailable, Refusal
from sse_daemon.event import Event, Record
from sse_daemon.followed import Followed
from sse_daemon.link import Link

QUESTIONS = 256
"""Questions asked at once; the others wait for their turn. Their answers are all that this can make the owner hold for us."""


class BrokerBackend:
    """Follows the log at the other end of `link`, which is started already.

    Groups are the owner's affair, who resolves them: `open` names none, whatever there are. With `followed`, batches hold only what
    is on the channels that were asked about, so that they may have fewer items than positions, and none at all.
    """

    durable: ClassVar[bool] = False
    shared: ClassVar[bool] = True

    def __init__(self, link: Link, followed: Followed | None = None) -> None:
        self._link = link
        self._followed = followed
        self._loop = asyncio.get_running_loop()
        self._turns = asyncio.Semaphore(QUESTIONS)
        self._deliver: Deliver | None = None
        self._coming: list[codec.Plain] = []
        self._after: int | None = None
        """Where what is coming begins; None: nothing is."""
        self._last = 0
        self._open = False
        """Whoever opened can take a batch."""
        self._closed = False
        self._appending: set[asyncio.Future[None]] = set()
        link.posts["batch"] = self._batch
        link.taken = self._pass_on

    async def open(self, deliver: Deliver) -> Opened:
        """Begins to follow."""
        if self._closed or self._deliver:
            raise BackendUnavailable("a log is opened once")
        self._deliver = deliver
        incarnation, head, topics = await self._link.call("open", self._followed is None)
        # Not before whoever called has gone on: what it delivers to may be made of this very answer.
        self._loop.call_soon(self._release)
        return Opened(incarnation, head, {}, frozenset(topics))

    async def append(self, records: Sequence[Record]) -> Sequence[Stored | Refusal]:
        """As the owner's log does it; cancelled, it is stored all the same."""
        plain = [codec.plain_items(record) for record in records]
        done: asyncio.Future[None] = self._loop.create_future()
        self._appending.add(done)
        try:
            answers = await self._ask("append", plain)
        finally:
            self._appending.discard(done)
            done.set_result(None)
        return [Stored(*answer[1:]) if answer[0] else Refusal(*answer[1:]) for answer in answers]

    async def read(self, channels: Collection[str], after: int, limit: int) -> Page | Gap:
        """A page of the owner's log."""
        answer = await self._ask_about(channels, "read", after, limit)
        if isinstance(answer[0], str):
            return Gap("expired" if answer[0] == "expired" else "unknown_cursor")
        ((events, through),) = answer
        return Page([Event._make(event) for event in events], through)

    async def retained(self, channels: Collection[str] | None) -> Snapshots:
        """The snapshots of the owner's log."""
        events, at = await self._ask_about(channels, "retained")
        return Snapshots([Event._make(event) for event in events], at)

    def forget(self) -> None:
        """To be called now and then: channels that nobody needs any more are not followed any more."""
        if self._followed is not None and (names := self._followed.forget()):
            self._link.post("forget", names)

    async def check(self) -> None:
        """Whether the owner's log takes an append."""
        await self._ask("check")

    async def reach(self) -> int:
        """The owner's head; when this returns, everything up to there has been delivered here too."""
        head: int = await self._ask("head")
        return head

    async def close(self) -> None:
        """Stops following; the link stays."""
        self._closed = True
        if self._appending:
            await asyncio.wait(self._appending)
        self._deliver = None
        self._open = False

    async def _ask(self, name: str, *arguments: Any) -> Any:
        if self._closed or self._deliver is None:
            raise BackendUnavailable("the log is closed")
        async with self._turns:
            return await self._link.call(name, *arguments)

    async def _ask_about(self, channels: Collection[str] | None, name: str, *arguments: Any) -> Sequence[Any]:
        """The answer to a question about channels, which are followed from then on."""
        names = None if channels is None else list(channels)
        since: Sequence[int] = ()
        if self._followed is not None:
            self._followed.ask(names or ())
        try:
            answer: Sequence[Any]
            since, *answer = await self._ask(name, names, *arguments)
        finally:
            if self._followed is not None:
                self._followed.answered(names or (), since)
        return answer

    def _release(self) -> None:
        self._open = self._deliver is not None
        self._pass_on()

    def _batch(self, items: Sequence[codec.Plain], after: int, last: int) -> None:
        if self._deliver is None:
            return
        if self._after is None:
            self._after = after
        self._coming += items
        self._last = last

    def _pass_on(self) -> None:
        """Delivers what has come, in one: the busier this process is, the more comes at a time and the less one event costs."""
        if self._open and self._after is not None and self._deliver is not None:
            coming, after, self._coming, self._after = self._coming, self._after, [], None
            self._deliver(codec.logged(coming), after, self._last)
