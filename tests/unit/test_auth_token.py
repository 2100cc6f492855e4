"""Mode "token" with whatever anybody writes, and whatever an issuer signs: a refusal that repeats nothing, or the participant that is named."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from sse_daemon.auth import Asking, Grant, Message
from sse_daemon.auth_book import Book, TokenKey
from sse_daemon.auth_token import MAX_TOKEN, Token
from sse_daemon.config import Config
from sse_daemon.config_tables import AuthConfig
from sse_daemon.errors import RequestRefused
from sse_daemon.participant import canonical
from tests.hardening.signing import ALICE, BOB
from tests.hardening.tokens import AUDIENCE, token

NOW = 1_000_000.0


class Mode:
    """The mode with clocks that the test moves."""

    def __init__(self) -> None:
        self.now = NOW
        self.config = Config(auth=AuthConfig(mode="token", token_keys="/keys", token_audience=AUDIENCE, verify_rate=0))
        self.book = Book(None, self.config.auth, lambda: self.now, lambda: self.now)
        self.book.keys = (TokenKey(None, ALICE.public),)
        self.token = Token(canonical, self.book, lambda: self.config, lambda: self.now)

    async def ask(self, authorization: str, query: str = "") -> Grant:
        message = Message("GET", "/events", query, lambda name: [authorization] if name == "Authorization" else [])
        return await self.token.admit(
            Asking("X-Public-Key", "public_key", [], [], "required", "refuse", None, "192.0.2.1:1", "192.0.2.1:1", message)
        )


def outcome(authorization: str, query: str = "") -> Grant | None:
    """What the request gets; None if it is refused, as it has to be: with words of ours only."""

    async def tried() -> Grant | None:
        try:
            return await Mode().ask(authorization, query)
        except RequestRefused as refused:
            assert refused.status in (400, 401)
            said = refused.detail + (refused.challenge or "")
            assert said.isascii() and not any(part in said for part in authorization.split(".") if len(part) > 20)
            return None

    return asyncio.run(tried())


@given(text=st.text(max_size=200))
def test_whatever_stands_in_the_header(text: str) -> None:
    assert outcome(text) is None
    assert outcome(f"Bearer {text}") is None


@given(text=st.text(max_size=50))
def test_whatever_stands_in_the_query(text: str) -> None:
    granted = outcome(f"Bearer {token(exp=NOW + 60)}", text)
    assert granted is None or granted.participant == "alice"


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=8), each, max_size=3),
    max_leaves=8,
)


@given(head=st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "jku", "x5c", "zip", "cty"]), ANY_JSON))
def test_whatever_stands_in_a_head_that_is_signed(head: dict[str, Any]) -> None:
    granted = outcome(f"Bearer {token(head=head, exp=NOW + 60)}")
    assert granted is None or (granted.participant == "alice" and head.get("alg", "EdDSA") == "EdDSA" and "crit" not in head)


NAMES = st.sampled_from(["sub", "aud", "exp", "nbf", "iat", "iss", "jti", "other"])


@given(said=ANY_JSON | st.dictionaries(NAMES, ANY_JSON | st.just(AUDIENCE) | st.just(NOW + 60) | st.just("alice")))
def test_whatever_an_issuer_signs(said: Any) -> None:
    granted = outcome(f"Bearer {token(json.dumps(said).encode())}")
    if granted is not None:
        assert granted.participant == said["sub"]
        assert said["aud"] == AUDIENCE or AUDIENCE in said["aud"]
        assert said["exp"] > NOW and said.get("nbf", 0) <= NOW + 5


def test_the_longest_that_is_read() -> None:
    lengths = set()
    for pad in range(2820, 2900, 2):
        text = token(exp=NOW + 60, pad="x" * pad)
        lengths.add(len(text) <= MAX_TOKEN)
        assert (outcome(f"Bearer {text}") is not None) == (len(text) <= MAX_TOKEN)
    assert lengths == {True, False}


async def test_a_grant_ends_with_the_token() -> None:
    mode, loop = Mode(), asyncio.get_running_loop()
    granted = await mode.ask(f"Bearer {token(exp=NOW + 60)}")
    assert granted.until == pytest.approx(loop.time() + 60, abs=1)
    mode.now += 59.9
    assert (await mode.ask(f"Bearer {token(exp=NOW + 60)}")).participant == "alice"
    mode.now += 0.1
    with pytest.raises(RequestRefused, match="token_expired"):
        await mode.ask(f"Bearer {token(exp=NOW + 60)}")


async def test_keys_are_asked_for_again_when_the_configuration_was_read_again() -> None:
    mode = Mode()
    text = f"Bearer {token(key=BOB, exp=NOW + 60)}"
    with pytest.raises(RequestRefused, match="bad_token"):
        await mode.ask(text)
    mode.book.keys = (TokenKey(None, BOB.public),)
    with pytest.raises(RequestRefused, match="bad_token"):
        await mode.ask(text)
    mode.config = evolve(mode.config)
    assert (await mode.ask(text)).participant == "alice"
