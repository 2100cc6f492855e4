"""Mode "token": a participant is whoever a token says, a JWT that somebody else has signed whom the configuration names.

A token is taken from the header only: what stands in URLs stands in logs, histories and Referer headers too (RFC 9700, 4.3.2). For what an
EventSource asks, which has no headers of its own, a page opens a session with it.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_plus

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sse_daemon import token_keys
from sse_daemon.auth import Asking, Authenticator, Cookie, Grant, Message, claimed_key, granted, may_be_nobody
from sse_daemon.auth_book import Proofs, TokenKeys
from sse_daemon.auth_session import Hosts, Pace, Sessions, check_claim, session_token
from sse_daemon.config_tables import Config
from sse_daemon.errors import InvalidParticipant, RequestRefused
from sse_daemon.participant import Canonical

MAX_TOKEN = 4096
"""Characters of a token."""
LEEWAY = 5
"""Seconds by which the issuer's clock may be ahead: a token is often used in the second in which it is made. Its end has none."""
MAX_TIME = 253_402_300_799
"""The last second of the year 9999."""

_BEARER = re.compile(r"(?i:bearer) +([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86})")
_IN_URL = ("access_token", "authorization")
_CHALLENGE = 'Bearer realm="sse-daemon"'
_OPTIONS: Any = {"require": ["exp", "aud"], "verify_exp": False, "verify_nbf": False, "verify_iat": False}
"""Times are looked at here, more strictly."""


class Token(Authenticator):
    """The mode. config: as it is now; whenever that is another object, the keys are asked of the book again. wall: Unix time."""

    proves = True
    vouched = True

    def __init__(
        self, canonical: Canonical, book: Proofs, config: Callable[[], Config], wall: Callable[[], float] = time.time
    ) -> None:
        self._config = config
        self._settings = settings = config().auth
        self._canonical = canonical
        self._book = book
        self._wall = wall
        self._clock = asyncio.get_running_loop().time
        self._hosts = Hosts(lambda: config().http)
        self._pace = Pace(settings, config, self._clock)
        self._sessions = Sessions(canonical, book, self._hosts, config, self._clock)
        self._keys: TokenKeys = ()
        self._keys_of: Config | None = None

    async def open(self, addresses: Sequence[str]) -> None:
        """A session's cookie may be for these addresses, beside `[http] hosts`."""
        self._hosts.listen(addresses)

    async def admit(self, asking: Asking) -> Grant:
        """By the token if there is one, else by the session's cookie."""
        if asking.participant == "none":
            return granted(None, asking)
        if (token := _bearer(asking.message)) is not None:
            key, left = await self._read(asking, token)
            return granted(key, asking, self._clock() + left)
        if (cookie := session_token(asking.message)) is not None:
            return await self._sessions.admit(asking, cookie)
        if claimed_key(asking, self._canonical) is None and may_be_nobody(asking):
            return granted(None, asking)
        raise _required("send a token (Authorization: Bearer), or open a session with one")

    async def begin(self, asking: Asking) -> Cookie:
        """Opens a session for whoever has sent a token; it does not last longer than that."""
        token = _bearer(asking.message)
        if token is None:
            raise _required("a session is opened by a request with a token (Authorization: Bearer)")
        key, left = await self._read(asking, token)
        return await self._sessions.begin(asking, key, left)

    async def _read(self, asking: Asking, token: str) -> tuple[str, float]:
        """The token's participant, and the seconds that it is still good for. Raises RequestRefused."""
        kid = _kid(token)
        found = token_keys.chosen(await self._current(), kid)
        if found is None:
            raise _refused("unknown_key", "the token is signed with a key that is not known here")
        self._pace.check(asking.address)
        claims = self._claims(token, Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(found.x + "=")))
        left = self._left(claims)
        key = self._participant(claims)
        check_claim(asking, self._canonical, key)
        return key, left

    async def _current(self) -> TokenKeys:
        config = self._config()
        if self._keys_of is not config:
            self._keys = await self._book.token_keys()
            self._keys_of = config
        return self._keys

    def _claims(self, token: str, key: Ed25519PublicKey) -> Mapping[str, Any]:
        """What the token says, which was signed by `key` for us. Raises RequestRefused."""
        audience, issuer = self._settings.token_audience, self._settings.token_issuer
        try:
            return jwt.decode(token, key, algorithms=["EdDSA"], audience=audience, issuer=issuer, options=_OPTIONS)
        except jwt.InvalidSignatureError:
            raise _refused("bad_token", "the token is not signed by the key that it names") from None
        except jwt.InvalidAudienceError:
            raise _refused("wrong_audience", "the token's audience (aud) is another service", _audience(token)) from None
        except jwt.InvalidIssuerError:
            raise _refused("wrong_issuer", "the token's issuer (iss) is another one") from None
        except jwt.MissingRequiredClaimError:
            raise _refused("bad_token", "the token says not until when it is good, for whom, or by whom it is") from None
        except jwt.PyJWTError:
            raise _refused("bad_token", "the token is malformed") from None

    def _left(self, claims: Mapping[str, Any]) -> float:
        """The seconds until the token's end. Raises RequestRefused unless it is good now."""
        now = self._wall()
        if "nbf" in claims and _time(claims["nbf"]) > now + LEEWAY:
            raise _refused("token_early", "the token is not good yet")
        left = _time(claims["exp"]) - now
        if left <= 0:
            raise _refused("token_expired", "the token's time is over; get another one")
        return left

    def _participant(self, claims: Mapping[str, Any]) -> str:
        named = claims.get(self._settings.token_claim)
        if not isinstance(named, str):
            raise _refused("no_participant", "the token names no participant")
        try:
            return self._canonical(named)
        except InvalidParticipant as error:
            raise RequestRefused(400, error.code, str(error)) from None


def _bearer(message: Message) -> str | None:
    """The request's token, of a token's shape; None if it has none. Raises RequestRefused."""
    if any(unquote_plus(part.partition("=")[0]).lower() in _IN_URL for part in message.query.split("&")):
        raise RequestRefused(400, "token_in_url", "a token stands in the header: URLs are written to logs")
    values = message.header("Authorization")
    if len(values) > 1:
        raise RequestRefused(400, "ambiguous_token", "a request has one token, once")
    # What is for somebody else, such as a proxy's password, is none of ours.
    if not values or values[0].partition(" ")[0].lower() != "bearer":
        return None
    if len(values[0]) > MAX_TOKEN + len("bearer "):
        raise _refused("bad_token", f"a token has at most {MAX_TOKEN} characters")
    shaped = _BEARER.fullmatch(values[0])
    if shaped is None:
        raise _refused("bad_token", "this is no token that is signed with EdDSA")
    return shaped[1]


def _kid(token: str) -> object:
    """Which key the token names in its head, or None. Raises RequestRefused for a head that is not ours to understand."""
    head = token.partition(".")[0]
    try:
        said = json.loads(urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or said.get("alg") != "EdDSA":
        raise _refused("bad_token", "this is no token that is signed with EdDSA")
    # Keys that a token brings along, or says where to find, are not looked at.
    if "crit" in said or "b64" in said:
        raise _refused("bad_token", "the token demands what is not understood here")
    return said.get("kid")


def _audience(token: str) -> str:
    """For whom a token is that was signed by a known key."""
    return str(jwt.decode(token, options={"verify_signature": False}).get("aud"))


def _time(value: object) -> float:
    """Raises RequestRefused for what is no number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_TIME:
        raise _refused("bad_token", "the token's times are no times")
    return float(value)


def _required(detail: str) -> RequestRefused:
    return RequestRefused(401, "token_required", detail, challenge=_CHALLENGE)


def _refused(error: str, detail: str, sent: str | None = None) -> RequestRefused:
    return RequestRefused(401, error, detail, challenge=_CHALLENGE + ', error="invalid_token"', sent=sent)
