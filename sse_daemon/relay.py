"""The owner's side of the workers' logs: sends what the log holds to those who follow it, and answers their questions.

At the other end of each link is a `BrokerBackend` (backends/broker.py). A follower gets what is on the channels that it has asked
about (followed.py), or everything if it wants that; all of them get every position, so that cursors move also where nothing comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any

from sse_daemon import codec, timely
from sse_daemon.backend import Backend, Gap, Stored
from sse_daemon.errors import BackendUnavailable, Refusal
from sse_daemon.event import Event, Group, Logged, Record
from sse_daemon.link import QUEUE_BYTES, Link, posted

ROOM = QUEUE_BYTES // 4
"""Bytes that a follower has not taken, above which its questions wait: answers may be large, and must not cost it the link."""
LOOK_AGAIN = 0.005
"""Seconds until whoever waits for room looks again."""
PACE = 1024 * 1024
"""Bytes that a follower has not taken, above which appending waits for it: as it waits for the fan-out where all is one process."""
PATIENCE = 0.5
"""Seconds without taking anything after which a follower is not waited for: it hangs, and must not hold up the others."""
ADVANCE = 0.02
"""Seconds until a follower is told of positions at which there was nothing for it."""


class Follower:
    """One process that follows. at: it has been told of everything up to here."""

    def __init__(self, link: Link, at: int, everything: bool) -> None:
        self.link = link
        self.at = at
        self.everything = everything
        self.since: dict[str, int] = {}
        self.alone: tuple[Follower, ...] = (self,)
        """The readers of every channel that only this one follows: one for all of them, so that a look at it costs nothing."""
        self.items: list[codec.Plain] = []
        """What a batch has for it, while that is put together."""
        self.telling: asyncio.TimerHandle | None = None
        self.turn = asyncio.Lock()
        """Of its questions whose answers may be large: no answer is made before there is room behind the one before it."""


class Relay:
    """The log of `backend` for processes that have none. `deliver` is to be called with what the backend delivers.

    topics: the topics declared so far.
    """

    def __init__(self, backend: Backend, incarnation: str, head: int, topics: Callable[[], Iterable[str]]) -> None:
        self.head = head
        self._backend = backend
        self._incarnation = incarnation
        self._topics = topics
        self._loop = asyncio.get_running_loop()
        self._followers: dict[Link, Follower] = {}
        self._readers: dict[str, tuple[Follower, ...]] = {}
        """Who follows a channel."""
        self._everything: list[Follower] = []

    def attach(self, link: Link) -> None:
        """Answers what the process at the other end asks; it gets batches from when it opens the log on."""
        asked: dict[str, Callable[..., Awaitable[Any]]] = {
            "append": self._append,
            "check": self._check,
            "head": self._head,
            "open": self._open,
            "read": self._read,
            "retained": self._retained,
        }
        link.calls |= {name: _of(link, answer) for name, answer in asked.items()}

        def forget(names: Collection[str]) -> None:
            # Behind the questions that came before it, which begin in the loop's next turn.
            self._loop.call_soon(self._forget, link, names)

        link.posts["forget"] = forget

    def detach(self, link: Link) -> None:
        """Forgets it."""
        follower = self._followers.pop(link, None)
        if follower is not None:
            self._leave(follower, tuple(follower.since))
            if follower.everything:
                self._everything.remove(follower)
            if follower.telling is not None:
                follower.telling.cancel()

    async def append(self, records: Sequence[Record]) -> Sequence[Stored | Refusal]:
        """Appends to the backend once those who follow are not too far behind; a follower that hangs is not waited for."""
        while self._busy():
            await asyncio.sleep(LOOK_AGAIN)
        return await self._backend.append(records)

    def _busy(self) -> bool:
        now = self._loop.time()
        return any(link.unasked > PACE and now - link.moved < PATIENCE for link in self._followers)

    # What the log delivers.

    def deliver(self, batch: Sequence[Logged], after: int, last: int) -> None:
        """Sends everybody what is for them, encoded once for those who get the same."""
        self.head = last
        readers = self._readers
        for item in batch:
            # Nearly every event; what is done here is done by one process for all of them.
            if type(item) is Event and len(item[1]) == 1 and not self._everything:
                found = readers.get(item[1][0])
                if found is not None:
                    plain = tuple(item)
                    for follower in found:
                        follower.items.append(plain)
            else:
                self._sort(item)
        self._push_all(last)

    def _push_all(self, last: int) -> None:
        made: dict[tuple[int, int], tuple[list[codec.Plain], bytes]] = {}
        for follower in self._followers.values():
            if not follower.items:
                if follower.telling is None:
                    follower.telling = self._loop.call_later(ADVANCE, self._tell, follower)
                continue
            items, follower.items = follower.items, []
            key = follower.at, id(items[0])
            if key not in made or made[key][0] != items:
                made[key] = items, posted("batch", items, follower.at, last)
            follower.at = last
            follower.link.push(made[key][1])

    def _sort(self, item: Logged) -> None:
        """Puts an item to those of each follower that is to get it."""
        if not isinstance(item, Event):
            # Groups have been resolved by whoever appended; only one who follows everything is told.
            followers: Iterable[Follower] = self._everything if isinstance(item, Group) else self._followers.values()
            (plain,) = codec.plain_items((item,))
            _give(plain, followers)
            return
        # Each gets the event with those of its channels that it follows: of the others it would not have everything.
        _give(tuple(item), self._everything)
        names: dict[Follower, list[str]] = {}
        for name in item.channels:
            for follower in self._readers.get(name, ()):
                names.setdefault(follower, []).append(name)
        made: dict[tuple[str, ...], codec.Plain] = {}
        for follower, its in names.items():
            key = tuple(its)
            if key not in made:
                made[key] = (item.position, key, *item[2:])
            _give(made[key], (follower,))

    def _tell(self, follower: Follower) -> None:
        """Says how far the log is, where the last that was on it was for others."""
        if follower.telling is not None:
            follower.telling.cancel()
            follower.telling = None
        if follower.at != self.head:
            follower.link.post("batch", [], follower.at, self.head)
            follower.at = self.head

    # What the followers ask.

    async def _open(self, link: Link, everything: bool) -> tuple[str, int, list[str]]:
        # No await from here to the answer's way out: no batch can come between the head and the first one that is sent.
        follower = self._followers[link] = Follower(link, self.head, everything)
        if everything:
            self._everything.append(follower)
        return self._incarnation, self.head, list(self._topics())

    async def _append(self, link: Link, plain: Iterable[Sequence[codec.Plain]]) -> list[codec.Plain]:
        answers = await self._backend.append(codec.records(plain))
        self._tell(self._followers[link])
        return [(True, *a) if isinstance(a, Stored) else (False, a.code, a.detail, a.index) for a in answers]

    async def _check(self, link: Link) -> None:
        await self._backend.check()

    async def _head(self, link: Link) -> int:
        self._tell(self._followers[link])
        return self.head

    async def _read(self, link: Link, channels: Sequence[str], after: int, limit: int) -> Any:
        follower = self._followers[link]
        since = self._follow(follower, channels)
        return since, *await _in_turn(follower, lambda: self._page(follower, channels, after, limit))

    async def _page(self, follower: Follower, channels: Sequence[str], after: int, limit: int) -> tuple[Any, ...]:
        page = await self._backend.read(channels, after, limit)
        # What it is told now stands in its log already.
        self._tell(follower)
        return (page.reason if isinstance(page, Gap) else (codec.plain_items(page.events), page.through),)

    async def _retained(self, link: Link, channels: Sequence[str] | None) -> Any:
        follower = self._followers[link]
        since = self._follow(follower, channels or ())
        return since, *await _in_turn(follower, lambda: self._snapshots(follower, channels))

    async def _snapshots(self, follower: Follower, channels: Sequence[str] | None) -> tuple[Any, ...]:
        snapshots = await self._backend.retained(channels)
        self._tell(follower)
        return codec.plain_items(snapshots.events), snapshots.at

    def _follow(self, follower: Follower, channels: Iterable[str]) -> list[int]:
        """From now on it gets what is on these channels; the positions after which that holds."""
        if follower.everything:
            return []
        for name in channels:
            if name not in follower.since:
                follower.since[name] = self.head
                readers = self._readers.get(name)
                self._readers[name] = (*readers, follower) if readers else follower.alone
        return [follower.since[name] for name in channels]

    def _forget(self, link: Link, names: Collection[str]) -> None:
        if link in self._followers:
            self._leave(self._followers[link], names)

    def _leave(self, follower: Follower, names: Collection[str]) -> None:
        for name in names:
            if follower.since.pop(name, None) is not None:
                self._strike(follower, name)

    def _strike(self, follower: Follower, name: str) -> None:
        left = tuple([reader for reader in self._readers[name] if reader is not follower])
        if len(left) > 1:
            self._readers[name] = left
        elif left:
            self._readers[name] = left[0].alone
        else:
            del self._readers[name]


def _of(link: Link, answer: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    return lambda *asked: answer(link, *asked)


def _give(plain: codec.Plain, followers: Iterable[Follower]) -> None:
    for follower in followers:
        follower.items.append(plain)


async def _in_turn(follower: Follower, make: Callable[[], Awaitable[tuple[Any, ...]]]) -> tuple[Any, ...]:
    """Makes a large answer once its turn has come and there is room for it. It ends when whoever asked has given up as well."""
    try:
        async with asyncio.timeout(timely.PATIENCE), follower.turn:
            await _room(follower.link)
            return await make()
    except TimeoutError:
        raise BackendUnavailable("nobody waits for this answer any more") from None


async def _room(link: Link) -> None:
    while link.unsent > ROOM:
        if link.over:
            raise BackendUnavailable("the process that asked is gone")
        await asyncio.sleep(LOOK_AGAIN)
