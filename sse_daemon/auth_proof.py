"""Mode "proof": a participant is whoever holds the private half of its key and has signed this very request (RFC 9421).

Browsers cannot sign what an EventSource asks for: they sign once for a session, whose cookie speaks for the key for a while.
"""

from __future__ import annotations

import asyncio
import random
from base64 import urlsafe_b64decode
from collections.abc import Callable, Sequence

from sse_daemon import ed25519, signature
from sse_daemon.auth import Asking, Authenticator, Cookie, Grant, Message, claimed_key, granted, may_be_nobody
from sse_daemon.auth_book import Proofs, Verdict, nonce_digest
from sse_daemon.auth_session import LATER, Hosts, Pace, Sessions, check_claim, session_token
from sse_daemon.config_tables import AuthConfig, Config
from sse_daemon.errors import InvalidParticipant, RequestRefused
from sse_daemon.participant import Canonical

KEY_HEADER = "X-Public-Key"

_SAID = {
    "sign_again": (401, "the signature is of another time; sign again, by the clock that Date tells"),
    "replayed": (401, "a request with this signature was here already"),
    "nonces_full": (503, "no more signatures can be remembered just now"),
    "nonces_failed": (503, "the signature cannot be remembered just now"),
}


class Proof(Authenticator):
    """The mode. book: what was used before; config: as it is now."""

    proves = True
    vouched = False

    def __init__(self, settings: AuthConfig, canonical: Canonical, book: Proofs, config: Callable[[], Config]) -> None:
        self._settings = settings
        self._canonical = canonical
        self._book = book
        self._loop = asyncio.get_running_loop()
        self._hosts = Hosts(lambda: config().http)
        self._pace = Pace(settings, config, self._loop.time)
        self._sessions = Sessions(canonical, book, self._hosts, config, self._loop.time)

    async def open(self, addresses: Sequence[str]) -> None:
        """A signature may be for these addresses, beside `[http] hosts`."""
        self._hosts.listen(addresses)

    async def admit(self, asking: Asking) -> Grant:
        """By the signature if there is one, else by the session's cookie."""
        if asking.participant == "none":
            return granted(None, asking)
        if _is_signed(asking.message):
            key = await self._signed(asking)
            # A little less for each: those who came together are not to come back together.
            until = self._loop.time() + self._settings.proof_lifetime * random.uniform(0.9, 1.0)
            return granted(key, asking, until)
        if (token := session_token(asking.message)) is not None:
            return await self._sessions.admit(asking, token)
        if claimed_key(asking, self._canonical) is None and may_be_nobody(asking):
            return granted(None, asking)
        raise RequestRefused(
            401, "signature_required", "sign the request with the key that it names (RFC 9421), or open a session"
        )

    async def begin(self, asking: Asking) -> Cookie:
        """Opens a session for whoever has signed the request for it."""
        if not _is_signed(asking.message):
            raise RequestRefused(401, "signature_required", "a session is opened by a request that is signed (RFC 9421)")
        return await self._sessions.begin(asking, await self._signed(asking))

    # The signature: what costs nothing is looked at first.

    async def _signed(self, asking: Asking) -> str:
        """The key that has signed the request, in its canonical form. Raises RequestRefused."""
        message = asking.message
        named, resuming = _one(message, KEY_HEADER), message.header("Last-Event-ID")
        if named is None:
            raise RequestRefused(401, "signature_required", f"a signed request names its key in {KEY_HEADER}")
        if len(resuming) > 1:
            raise RequestRefused(400, "ambiguous_cursor", "a request names one last event id, once")
        authority = self._hosts.authority(message)
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
        self._pace.check(asking.address)
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
        check_claim(asking, self._canonical, key)
        return key


def _is_signed(message: Message) -> bool:
    return bool(message.header("Signature-Input") or message.header("Signature"))


def _one(message: Message, name: str) -> str | None:
    values = message.header(name)
    if len(values) > 1:
        raise RequestRefused(400, "ambiguous_participant", "a request names one key, once")
    return values[0] if values else None


def _accept(verdict: Verdict) -> None:
    if verdict.code is None:
        return
    status, detail = _SAID[verdict.code]
    retry_after = LATER if status == 503 else None
    date = verdict.now if verdict.code == "sign_again" else None
    raise RequestRefused(status, verdict.code, detail, retry_after, date)
