"""Mode "proof": a participant is whoever holds the private half of its key and has signed this very request (RFC 9421).

Browsers cannot sign what an EventSource asks for: they sign once for a session, whose cookie speaks for the key for a while.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Sequence

from sse_daemon import ed25519, signature
from sse_daemon.auth import Asking, Cookie, Grant, Message, claimed_key, granted, may_be_nobody
from sse_daemon.auth_book import Proofs, Verdict, nonce_digest
from sse_daemon.buckets import Buckets, counted_as
from sse_daemon.config_tables import AuthConfig, HttpConfig
from sse_daemon.errors import InvalidParticipant, RequestRefused
from sse_daemon.participant import Canonical

COOKIE = "__Host-sse-daemon"
KEY_HEADER = "X-Public-Key"
BURST = 2.0
"""Seconds of its rate that a limit lets come at once."""
LATER = 5
"""Seconds after which to try again where the book has no room."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_SAID = {
    "sign_again": (401, "the signature is of another time; sign again, by the clock that Date tells"),
    "replayed": (401, "a request with this signature was here already"),
    "nonces_full": (503, "no more signatures can be remembered just now"),
    "nonces_failed": (503, "the signature cannot be remembered just now"),
}


class Proof:
    """The mode. book: what was used before; http: the settings of requests, as they are now."""

    proves = True

    def __init__(self, settings: AuthConfig, canonical: Canonical, book: Proofs, http: Callable[[], HttpConfig]) -> None:
        self._settings = settings
        self._canonical = canonical
        self._book = book
        self._http = http
        self._loop = asyncio.get_running_loop()
        self._own: frozenset[str] = frozenset()
        self._of_address = Buckets(settings.verify_rate_address, BURST * settings.verify_rate_address)
        self._of_all = Buckets(settings.verify_rate, BURST * settings.verify_rate, names=1)

    async def open(self, addresses: Sequence[str]) -> None:
        """A signature may be for these addresses, beside `[http] hosts`."""
        self._own = frozenset(name for address in addresses for name in own_authorities(address))

    async def admit(self, asking: Asking) -> Grant:
        """By the signature if there is one, else by the session's cookie."""
        if asking.participant == "none":
            return granted(None, asking)
        if _is_signed(asking.message):
            key = await self._signed(asking)
            # A little less for each: those who came together are not to come back together.
            until = self._loop.time() + self._settings.proof_lifetime * random.uniform(0.9, 1.0)
            return granted(key, asking, until)
        if (token := _cookie(asking.message)) is not None:
            return await self._by_session(asking, token)
        if claimed_key(asking, self._canonical) is None and may_be_nobody(asking):
            return granted(None, asking)
        raise RequestRefused(
            401, "signature_required", "sign the request with the key that it names (RFC 9421), or open a session"
        )

    async def begin(self, asking: Asking) -> Cookie:
        """Opens a session for whoever has signed the request for it."""
        if not _is_signed(asking.message):
            raise RequestRefused(401, "signature_required", "a session is opened by a request that is signed (RFC 9421)")
        key = await self._signed(asking)
        opened = await self._book.open_session(key)
        if opened is None:
            raise RequestRefused(503, "sessions_full", "no more sessions just now", retry_after=LATER)
        token, seconds = opened
        return Cookie(key, seconds, f"{COOKIE}={token}; Path=/; Max-Age={int(seconds)}; Secure; HttpOnly; SameSite=Strict")

    # The signature: what costs nothing is looked at first.

    async def _signed(self, asking: Asking) -> str:
        """The key that has signed the request, in its canonical form. Raises RequestRefused."""
        message = asking.message
        named, resuming = _one(message, KEY_HEADER), message.header("Last-Event-ID")
        if named is None:
            raise RequestRefused(401, "signature_required", f"a signed request names its key in {KEY_HEADER}")
        if len(resuming) > 1:
            raise RequestRefused(400, "ambiguous_cursor", "a request names one last event id, once")
        authority = self._authority(message)
        try:
            signed = signature.read(message.header("Signature-Input"), message.header("Signature"), resuming=bool(resuming))
            covered = signature.values(
                message.method, authority, message.path, message.query, named, resuming[0] if resuming else None
            )
            base = signature.base(covered, signed.components, signed.parameters)
        except ValueError as error:
            raise RequestRefused(401, "bad_signature", str(error)) from None
        if signed.terms.keyid != named:
            raise RequestRefused(401, "bad_signature", f"keyid is the same text as {KEY_HEADER}")
        used = nonce_digest(named, signed.terms.nonce), signed.terms.created, signed.terms.expires
        # Before the book: where that is another process's, a crowd of strangers must not keep it busy either.
        self._check_pace(asking.address)
        _accept(await self._book.look(*used))
        key = self._key(asking, named)
        if not ed25519.verify(urlsafe_b64decode(key + "="), signed.signature, base):
            raise RequestRefused(401, "bad_signature", "the signature is not that of this request by this key")
        _accept(await self._book.spend(*used))
        return key

    def _key(self, asking: Asking, named: str) -> str:
        """The canonical form of the key that signs; whatever else the request claims is the same key."""
        try:
            key = self._canonical(named)
        except InvalidParticipant as error:
            raise RequestRefused(400, error.code, str(error)) from None
        self._check_claim(asking, key)
        return key

    def _check_claim(self, asking: Asking, key: str) -> None:
        if claimed_key(asking, self._canonical) not in (None, key):
            raise RequestRefused(400, "conflicting_participant", "a request names one key")

    def _authority(self, message: Message) -> str:
        named = message.header("Host")
        try:
            found = signature.authority(named[0]) if len(named) == 1 else None
        except ValueError:
            found = None
        if found is None:
            raise RequestRefused(400, "bad_request", "a request names one host, once")
        hosts = [signature.authority(host) for host in self._http().hosts]
        if found not in self._own and found not in hosts and found.rpartition(":")[0] not in hosts:
            raise RequestRefused(
                421, "wrong_authority", "signatures for that host are not for this daemon; [http] hosts lists those"
            )
        return found

    def _check_pace(self, address: str) -> None:
        now = self._loop.time()
        name = counted_as(address, self._http().shared_addresses)
        wait = (0.0 if name is None else self._of_address.take(name, now)) or self._of_all.take("", now)
        if wait:
            raise RequestRefused(429, "too_many_signatures", "signatures come faster than they are checked", math.ceil(wait))

    # The session.

    async def _by_session(self, asking: Asking, token: str) -> Grant:
        self._authority(asking.message)
        self._check_origin(asking.message)
        session = await self._book.session(token) if _TOKEN.fullmatch(token) else None
        if session is None:
            raise RequestRefused(401, "session_over", "this session is over; open another one with a signed request")
        self._check_claim(asking, session.participant)
        until = self._loop.time() + session.left
        return granted(session.participant, asking, until)

    def _check_origin(self, message: Message) -> None:
        """A browser sends the cookie by itself, so it has to say for whose page: one of the same origin, or a listed one."""
        origins = message.header("Origin")
        if not origins:
            allowed = [*message.header("Sec-Fetch-Site")] == ["same-origin"]
        else:
            allowed = len(origins) == 1 and origins[0] in (
                *self._http().cors_origins,
                *_own_origins(message.header("Host")[0].lower()),
            )
        if not allowed:
            raise RequestRefused(403, "origin_refused", "a session is for pages of the same origin and of those that are listed")


def own_authorities(address: str) -> tuple[str, ...]:
    """How clients of this machine write the host of a listening address; where it listens on one address, that one too."""
    if address.startswith("unix:"):
        return ("localhost",)
    port = address.rpartition(":")[2]
    names = (address, *(f"{host}:{port}" for host in ("localhost", "127.0.0.1", "[::1]")))
    return tuple(map(signature.authority, names))


def _own_origins(host: str) -> tuple[str, ...]:
    """The origins of pages that come from this host. A cookie like ours is kept for https, and of this machine also for http."""
    local = re.fullmatch(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?", host)
    return (f"https://{host}", f"http://{host}") if local else (f"https://{host}",)


def _is_signed(message: Message) -> bool:
    return bool(message.header("Signature-Input") or message.header("Signature"))


def _one(message: Message, name: str) -> str | None:
    values = message.header(name)
    if len(values) > 1:
        raise RequestRefused(400, "ambiguous_participant", "a request names one key, once")
    return values[0] if values else None


def _cookie(message: Message) -> str | None:
    """The value of our cookie, or None. Raises RequestRefused if there are two."""
    pairs = [pair.strip().partition("=") for line in message.header("Cookie") for pair in line.split(";")]
    found = [value for name, _, value in pairs if name == COOKIE]
    if len(found) > 1:
        raise RequestRefused(400, "ambiguous_session", "a request names one session, once")
    return found[0] if found else None


def _accept(verdict: Verdict) -> None:
    if verdict.code is None:
        return
    status, detail = _SAID[verdict.code]
    retry_after = LATER if status == 503 else None
    date = verdict.now if verdict.code == "sign_again" else None
    raise RequestRefused(status, verdict.code, detail, retry_after, date)
