"""What a conformance check works with; imported as sse_daemon.backends.conformance_harness, never under the bare name.

No test framework is needed: a check is an async function of a `Harness` that raises `PromiseBroken`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from sse_daemon.backend import Backend, Gap, Limits, Opened, Stored
from sse_daemon.errors import Refusal
from sse_daemon.event import Attrs, Draft, Event, Logged, Record


class PromiseBroken(AssertionError):
    """A backend does not do what the port promises."""


class Clock:
    """Unix seconds that only a check moves."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


Make: TypeAlias = Callable[[Limits, Clock], Backend]
"""Gives a backend that is not opened yet, in one harness always on the same storage. If the backend has its own idea of the time,
the clock is ignored, and the checks that move it are left out."""


class Follower:
    """An open backend and what it delivered."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.opened = Opened("", 0, {}, frozenset())
        self.items: dict[int, Logged] = {}
        self.batches = 0

    @property
    def last(self) -> int:
        """The last position that was delivered, or the head at open."""
        return max(self.items, default=self.opened.head)

    def deliver(self, batch: Sequence[Logged], after: int, last: int) -> None:
        """What the backend is given to call."""
        expect(after == self.last, f"a batch after {after} was delivered when the last item was {self.last}")
        expect(last - after == len(batch) > 0, f"{len(batch)} items were delivered as ({after}, {last}]")
        self.batches += 1
        for position, item in enumerate(batch, after + 1):
            if isinstance(item, Event):
                expect(item.position == position, f"the event of position {item.position} was delivered as {position}")
            self.items[position] = item

    async def append(self, *records: Record) -> list[Stored | Refusal]:
        """The answers; all that was answered as stored must have been delivered by now."""
        answers = list(await self.backend.append(records))
        expect(len(answers) == len(records), "an append answers for each record")
        for answer in answers:
            if isinstance(answer, Stored):
                expect(all(position <= self.last for position in answer.positions), "deliver comes before append returns")
        return answers

    async def store(self, *records: Record) -> list[int]:
        """The positions of all the records, none of which may be refused."""
        positions: list[int] = []
        for answer in await self.append(*records):
            if isinstance(answer, Refusal):
                raise PromiseBroken(f"a good record was refused: {answer}")
            positions += answer.positions
        return positions

    async def refused(self, record: Record) -> Refusal:
        """The refusal of a record that must be refused; nothing of it may be delivered."""
        before = self.last
        (answer,) = await self.append(record)
        if not isinstance(answer, Refusal):
            raise PromiseBroken(f"a record was stored that has to be refused: {record}")
        expect(self.last == before, "nothing of a refused record is stored")
        return answer

    async def page(self, channels: Sequence[str], after: int = 0, limit: int = 100) -> tuple[list[int], int]:
        """The positions on a page, and where it ends."""
        page = await self.backend.read(channels, after, limit)
        if isinstance(page, Gap):
            raise PromiseBroken(f"there is a gap ({page.reason}) after {after}")
        for event in page.events:
            delivered = self.items.get(event.position, event)
            expect(event == delivered, f"what is read at {event.position} is not what was delivered")
        return [event.position for event in page.events], page.through

    async def gap(self, after: int, channel: str = "a") -> str:
        """The reason of the gap that there must be after a position."""
        page = await self.backend.read([channel], after, 10)
        if not isinstance(page, Gap):
            raise PromiseBroken(f"a page was read after {after}, where there has to be a gap")
        return page.reason

    async def snapshots(self, channels: Sequence[str] | None) -> list[bytes]:
        """The data of the retained events, oldest first."""
        found = await self.backend.retained(channels)
        positions = [event.position for event in found.events]
        expect(positions == sorted(set(positions)), "snapshots come oldest first, each once")
        expect(all(position <= found.at for position in positions), "no snapshot is later than `at`")
        return [event.data for event in found.events]


class Harness:
    """One storage, and the backends that a check opens on it."""

    def __init__(self, make: Make) -> None:
        self.clock = Clock()
        self._make = make
        self._open: list[Follower] = []

    async def open(self, limits: Limits | None = None) -> Follower:
        """Opens the storage (again: then the one before is closed first)."""
        await self.close()
        follower = Follower(self._make(limits or Limits(), self.clock))
        follower.opened = await follower.backend.open(follower.deliver)
        self._open.append(follower)
        return follower

    def unopened(self) -> Backend:
        """A backend on the storage that was never opened."""
        return self._make(Limits(), self.clock)

    async def close(self) -> None:
        """Closes what is open."""
        while self._open:
            await self._open.pop().backend.close()


class Check(NamedTuple):
    """One promise. durable: only of backends that are; clock: only of those that take theirs from outside."""

    promise: str
    run: Callable[[Harness], Awaitable[None]]
    durable: bool
    clock: bool


CHECKS: dict[str, Check] = {}
"""Every check, by name."""


def check(*, durable: bool = False, clock: bool = False) -> Callable[[Callable[[Harness], Awaitable[None]]], Check]:
    """Registers a function under its name, its docstring being the promise."""

    def register(run: Callable[[Harness], Awaitable[None]]) -> Check:
        promise = Check((run.__doc__ or "").strip(), run, durable, clock)
        CHECKS[run.__name__] = promise
        return promise

    return register


def expect(condition: bool, promise: str) -> None:
    """Raises PromiseBroken unless the condition holds; unlike an assert also under python -O."""
    if not condition:
        raise PromiseBroken(promise)


def draft(
    *channels: str,
    data: bytes = b"data",
    type: str = "type",
    topic: str | None = None,
    attrs: Attrs = (),
    expires: float | None = None,
    retain: bool = False,
    n: int | None = None,
    sender: str = "sender",
) -> Draft:
    """An event for `channels` (none: for `a`); with `n`, from `sender`."""
    return Draft(channels or ("a",), type, topic, attrs, data, expires, retain, None if n is None else sender, n)


def numbered(numbers: Iterable[int], sender: str = "sender") -> Record:
    """A record of one event for each number."""
    return tuple(draft(n=n, sender=sender) for n in numbers)
