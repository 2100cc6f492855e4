"""Mode "hook": the questions to the application, so many at a time, each once, and what it answered a moment ago."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from sse_daemon.auth_question import Answer, Question, digest, read
from sse_daemon.config_tables import AuthConfig
from sse_daemon.hook_client import NoReply, Reply
from sse_daemon.log import Sometimes, logger
from sse_daemon.participant import Canonical

MAX_REMEMBERED = 10_000
"""Answers remembered for `hook_cache`, about 500 bytes each. The oldest goes, and is asked for again."""

_log = logger("auth")


class Said(NamedTuple):
    """An answer, and until when it holds, on the clock."""

    answer: Answer
    until: float


class _Flight:
    """A question that is being asked. kicked: whom an operator sent away meanwhile: what was said of them is old."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Said | None]
        self.kicked: set[str] = set()


class Asker:
    """ask: puts a question, for at most so many seconds; clock: the loop's.

    Only answers that name somebody are remembered. Who has just logged in is often known by the same cookie as before: an older "nobody" or
    refusal would keep a browser away for good.
    """

    def __init__(
        self,
        settings: AuthConfig,
        canonical: Canonical,
        ask: Callable[[Question, float], Awaitable[Reply | NoReply]],
        clock: Callable[[], float],
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        """How the questions ended."""
        self.remembered = 0
        """How often no question was needed."""
        self._settings = settings
        self._canonical = canonical
        self._ask = ask
        self._clock = clock
        self._turns = asyncio.Semaphore(settings.hook_concurrency)
        self._most = settings.hook_concurrency + settings.hook_queue
        self._flights: dict[bytes, _Flight] = {}
        self._known: dict[bytes, tuple[Said, float]] = {}
        self._complain = Sometimes(_log, clock)

    def has_to_ask(self, question: Question) -> bool:
        """Whether the answer is neither remembered nor under way."""
        key = digest(question)
        return key not in self._flights and self._recall(key) is None

    async def answer(self, question: Question) -> Said | None:
        """What the application says of it; None: there was no answer that could be used, or no turn to ask."""
        key = digest(question)
        while True:
            if (said := self._recall(key)) is not None:
                self.remembered += 1
                return said
            flight = self._flights.get(key) or self._take_off(key, question)
            if flight is None:
                self._fail("crowded", "too many questions wait for a turn")
                return None
            # Whoever gives up waiting does not take the others' answer along.
            said = await asyncio.shield(flight.task)
            if said is None or said.answer.participant not in flight.kicked:
                return said

    def forget(self, participant: str) -> None:
        """From now on the application is asked anew whether somebody is this participant."""
        self._known = {key: known for key, known in self._known.items() if known[0].answer.participant != participant}
        for flight in self._flights.values():
            flight.kicked.add(participant)

    async def close(self) -> None:
        """Ends what is being asked."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _recall(self, key: bytes) -> Said | None:
        known = self._known.get(key)
        if known is None:
            return None
        if known[1] <= self._clock():
            del self._known[key]
            return None
        return known[0]

    def _take_off(self, key: bytes, question: Question) -> _Flight | None:
        if len(self._flights) >= self._most:
            return None
        flight = self._flights[key] = _Flight()
        flight.task = asyncio.create_task(self._fly(key, question, flight))
        return flight

    async def _fly(self, key: bytes, question: Question, flight: _Flight) -> Said | None:
        try:
            said = await self._asked(question)
        finally:
            del self._flights[key]
        if said is not None and said.answer.participant is not None and said.answer.participant not in flight.kicked:
            self._remember(key, said)
        return said

    async def _asked(self, question: Question) -> Said | None:
        deadline = self._clock() + self._settings.hook_timeout
        try:
            async with asyncio.timeout_at(deadline):
                await self._turns.acquire()
        except TimeoutError:
            self._fail("crowded", "no turn in time")
            return None
        try:
            reply = await self._ask(question, deadline - self._clock())
        finally:
            self._turns.release()
        if isinstance(reply, NoReply):
            self._fail(*reply)
            return None
        return self._understood(reply)

    def _understood(self, reply: Reply) -> Said | None:
        try:
            answer = read(reply.status, reply.body, self._canonical, self._settings.hook_lifetime)
        except ValueError as error:
            self._fail("bad_answer", str(error))
            return None
        self.outcomes["refused" if answer.refused else "nobody" if answer.participant is None else "participant"] += 1
        return Said(answer, self._clock() + answer.seconds)

    def _fail(self, why: str, what: str) -> None:
        self.outcomes[why] += 1
        self._complain.warning(why, "the application does not say who asks", why=why, error=what)

    def _remember(self, key: bytes, said: Said) -> None:
        seconds = min(self._settings.hook_cache, said.answer.seconds)
        if seconds:
            self._known[key] = said, self._clock() + seconds
            while len(self._known) > MAX_REMEMBERED:
                del self._known[next(iter(self._known))]
