"""Mode "hook": the application knows who asks, by its own sessions, cookies or tokens, and the daemon asks it.

What the application does not clearly say nobody is: where it does not answer, nobody comes in.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from sse_daemon.auth import Asking, Authenticator, Cookie, Grant, claimed_key, granted, may_be_nobody
from sse_daemon.auth_asker import Asker, Said
from sse_daemon.auth_question import Question, carries, digest, question
from sse_daemon.auth_session import LATER, Pace, check_origin
from sse_daemon.config_tables import AuthConfig, Config
from sse_daemon.errors import AuthUnavailable, RequestRefused
from sse_daemon.hook_client import HookClient, NoReply
from sse_daemon.log import logger
from sse_daemon.metrics import Values
from sse_daemon.participant import Canonical

LOOK_AGAIN = 1.0
"""Seconds between two looks whether the application is there, before it was there for the first time."""
WAITING = "the application of [auth] hook_url has not answered yet"

_REFUSED = {
    401: ("participant_required", "the application does not know who asks"),
    403: ("forbidden", "the application does not allow this"),
    404: ("not_found", "there is no such route"),
}

_log = logger("auth")


class Hook(Authenticator):
    """The mode. config: as it is now."""

    proves = True
    vouched = True

    def __init__(self, settings: AuthConfig, url: str, canonical: Canonical, config: Callable[[], Config]) -> None:
        self._settings = settings
        self._canonical = canonical
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._client = HookClient(url, settings.hook_socket, settings.hook_concurrency)
        self._asker = Asker(settings, canonical, self._client.ask, self._loop.time)
        self._pace = Pace(settings, config, self._loop.time, "questions")
        self._there = False
        self._looking: asyncio.Task[None] | None = None

    # Whether the application is there.

    async def open(self, addresses: Sequence[str]) -> None:
        """An application that is not there yet keeps the daemon from being ready, and not from starting: the two may start together."""
        if not await self._look():
            _log.warning("not ready: " + WAITING)
            self._looking = self._loop.create_task(self._look_until())

    async def _look(self) -> bool:
        """A question about nobody's request; whatever is answered, somebody is there."""
        self._there = self._there or not isinstance(await self._client.ask((), self._settings.hook_timeout), NoReply)
        return self._there

    async def _look_until(self) -> None:
        while not await self._look():
            await asyncio.sleep(LOOK_AGAIN)
        _log.info("the application of [auth] hook_url answers")

    @property
    def why_not_ready(self) -> str | None:
        return None if self._there else WAITING

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._asker.close()
        self._client.close()

    # Who asks.

    async def admit(self, asking: Asking) -> Grant:
        """As the application says; what costs nothing is looked at first."""
        if asking.participant == "none":
            return granted(None, asking)
        claimed = claimed_key(asking, self._canonical)
        asked = question(asking, self._settings.hook_headers)
        if carries(asked, "Cookie"):
            # A browser sends it by itself, whichever page it is that asks.
            check_origin(asking.message, self._config().http)
        if self._asker.has_to_ask(asked):
            self._pace.check(asking.address)
        return self._granted(asking, claimed, await self._said(asked))

    async def begin(self, asking: Asking) -> Cookie | None:
        """Sessions are the application's."""
        return None

    async def _said(self, asked: Question) -> Said:
        said = await self._asker.answer(asked)
        if said is None:
            raise AuthUnavailable(digest(asked).hex(), LATER)
        self._there = True
        return said

    def _granted(self, asking: Asking, claimed: str | None, said: Said) -> Grant:
        refused, participant, seconds = said.answer
        if refused is not None:
            raise RequestRefused(refused, *_REFUSED[refused])
        if participant is None and not (claimed is None and may_be_nobody(asking)):
            raise RequestRefused(401, *_REFUSED[401])
        if claimed not in (None, participant):
            raise RequestRefused(400, "conflicting_participant", "a request names one key")
        # A little less for each: those who came together are not to come back together.
        return granted(participant, asking, said.until - seconds * random.uniform(0.0, 0.1))

    def forget(self, participant: str) -> None:
        self._asker.forget(participant)

    def values(self) -> Values:
        return {
            "hook_questions_total": dict(self._asker.outcomes),
            "hook_remembered_total": self._asker.remembered,
            "hook_waiting": float(not self._there),
        }
