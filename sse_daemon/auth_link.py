"""The book of proofs for processes that do not have it: asked over the link to the one that does, so that there is one truth."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sse_daemon.auth_book import Opened, Proofs, Session, TokenKey, TokenKeys, Verdict
from sse_daemon.link import Link

Answers = Mapping[str, Callable[..., Awaitable[Any]]]


class LinkedProofs:
    """The book of the process at the other end of `link`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def look(self, digest: bytes, created: int, expires: int) -> Verdict:
        return Verdict(*await self._link.call("look", digest, created, expires))

    async def spend(self, digest: bytes, created: int, expires: int) -> Verdict:
        return Verdict(*await self._link.call("spend", digest, created, expires))

    async def open_session(self, participant: str, address: str | None, most: float | None) -> Opened:
        return Opened(*await self._link.call("open_session", participant, address, most))

    async def session(self, token: str) -> Session | None:
        found = await self._link.call("session", token)
        return None if found is None else Session(*found)

    async def token_keys(self) -> TokenKeys:
        return tuple(TokenKey(*each) for each in await self._link.call("token_keys"))


def answers(proofs: Proofs | None) -> Answers:
    """What those who have no book may ask the one who has: values that a link can carry."""
    if proofs is None:
        return {}

    async def plain(answer: Awaitable[tuple[Any, ...] | None]) -> tuple[Any, ...] | None:
        found = await answer
        return None if found is None else tuple(found)

    async def token_keys() -> list[tuple[str | None, str]]:
        return [(key.kid, key.x) for key in await proofs.token_keys()]

    return {
        "token_keys": token_keys,
        "look": lambda *asked: plain(proofs.look(*asked)),
        "spend": lambda *asked: plain(proofs.spend(*asked)),
        "open_session": lambda *asked: plain(proofs.open_session(*asked)),
        "session": lambda *asked: plain(proofs.session(*asked)),
    }
