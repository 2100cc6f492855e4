"""What proofs leave behind: the nonces that were used, and the sessions that were opened. One book for all processes of a daemon.

A nonce is remembered until no signature that has it can be accepted any more, and never less long: where there is no room for it,
the signature is refused. Both are judged by one clock, which never goes back: whoever sets the machine's clock back would otherwise
make old signatures young again.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

from sse_daemon.config_tables import AuthConfig
from sse_daemon.log import Sometimes, logger
from sse_daemon.nonce_file import DIGEST, NonceFile
from sse_daemon.signature import LIFETIME

SKEW = 5
"""Seconds by which a client's clock may differ. Beyond it a client is told ours, and signs again."""
COMPACT = 4096
"""Records that nobody needs any more, above which the file is made anew: about 100 kB."""
SESSIONS_EACH = 8
"""Sessions of one participant. With one more, the oldest ends."""

_log = logger("auth")


class Verdict(NamedTuple):
    """What the book says of a signature. code: None, or why not; now: its clock, Unix seconds."""

    code: str | None
    now: float


class Opened(NamedTuple):
    """What the book says of a wish for a session. code: None, or why there is no room; token: is not kept; seconds: it lasts."""

    code: str | None
    token: str = ""
    seconds: float = 0.0


class Session(NamedTuple):
    """A session's participant, and the seconds that it still has."""

    participant: str
    left: float


class TokenKey(NamedTuple):
    """A key by which tokens are checked. kid: its name, where it has one; x: its 32 bytes in base64url."""

    kid: str | None
    x: str


TokenKeys: TypeAlias = tuple[TokenKey, ...]


class Proofs(Protocol):
    """The book, wherever it is. Codes: sign_again, replayed, nonces_full, nonces_failed. Raises BackendError where it is away."""

    async def look(self, digest: bytes, created: int, expires: int) -> Verdict:
        """Whether a signature of these times that has this nonce could be accepted. Changes nothing."""

    async def spend(self, digest: bytes, created: int, expires: int) -> Verdict:
        """Accepts it, once."""

    async def open_session(self, participant: str, address: str | None, most: float | None) -> Opened:
        """A new session, of at most `most` seconds. address: for whose limit it counts, if any. Codes: sessions_full, too_many_sessions."""

    async def session(self, token: str) -> Session | None:
        """The session of this token, or None."""

    async def token_keys(self) -> TokenKeys:
        """By whom tokens are signed, where the mode has them; as it is now."""


class _Kept(NamedTuple):
    """A session. until: on the clock that nobody sets; address: for whose limit it counts, if any."""

    participant: str
    until: float
    address: str | None


class Clock:
    """Unix seconds that never go back. While the machine's clock is behind, ours goes on at the pace of time."""

    def __init__(self, wall: Callable[[], float], elapsed: Callable[[], float], least: float = 0.0) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._offset = least - elapsed()
        self._complain = Sometimes(_log, elapsed)

    def now(self) -> float:
        elapsed = self._elapsed()
        offset = self._wall() - elapsed
        if offset < self._offset - SKEW:
            behind = self._offset - offset
            self._complain.warning("clock", "the clock was set back; signatures are judged by what it would be", seconds=behind)
        self._offset = max(self._offset, offset)
        return elapsed + self._offset


class Book:
    """The book itself. file: where nonces outlive the process; None: nowhere. wall: Unix time; elapsed: a clock that nobody sets."""

    def __init__(
        self,
        file: NonceFile | None,
        settings: AuthConfig,
        wall: Callable[[], float],
        elapsed: Callable[[], float],
    ) -> None:
        found = file.found if file is not None else []
        # Whoever was accepted with this expiry had it at most so far in the future.
        least = max((expires for _, expires in found), default=0) - LIFETIME - SKEW
        self._clock = Clock(wall, elapsed, least)
        self._file = file
        self._nonces = dict(found)
        self._settings = settings
        self._complain = Sometimes(_log, elapsed)
        # Without a memory of what was used before, nobody may sign for a time that is still to come: see `begins`.
        self._ahead = SKEW if file is not None else 0
        self.begins = 0 if file is not None and file.complete else self._barrier(file)
        """Signatures created before this are refused: they may have been used, and nobody would know."""
        self._elapsed = elapsed
        self._sessions: dict[bytes, _Kept] = {}
        self._of: dict[str, deque[bytes]] = {}
        self._from: Counter[str] = Counter()
        self.keys: TokenKeys = ()
        """By whom tokens are signed: here, so that all processes know the same ones."""

    def _barrier(self, file: NonceFile | None) -> int:
        # A file that was not complete belonged to a daemon that accepted signatures from up to SKEW seconds ahead of it.
        return math.ceil(self._clock.now() + (SKEW if file is not None and file.existed else 0))

    async def ready(self) -> None:
        """Waits until signatures made now can be accepted: not at all, or for the next whole second; longer after a reboot."""
        if self._file is not None and self._file.damaged:
            unreadable = "the nonces file was unreadable and is begun anew; the start waits until nothing signed before counts"
            _log.warning(unreadable, extra={"seconds": max(0.0, self.begins - self._clock.now())})
        while (wait := self.begins - self._clock.now()) > 0:
            await asyncio.sleep(wait)

    def close(self) -> None:
        """Lets go of the file."""
        if self._file is not None:
            self._file.close()

    # Nonces.

    async def look(self, digest: bytes, created: int, expires: int) -> Verdict:
        return self._judge(digest, created, expires)

    async def spend(self, digest: bytes, created: int, expires: int) -> Verdict:
        verdict = self._judge(digest, created, expires)
        if verdict.code is not None:
            return verdict
        # First of all: whatever goes wrong from here on, it is used.
        self._nonces[digest] = expires
        return verdict if self._write(digest, expires) else Verdict("nonces_failed", verdict.now)

    def _judge(self, digest: bytes, created: int, expires: int) -> Verdict:
        now = self._clock.now()
        self._forget(now)
        if created > now + self._ahead or expires + SKEW < now or created < self.begins:
            return Verdict("sign_again", now)
        if digest in self._nonces:
            return Verdict("replayed", now)
        return Verdict("nonces_full" if len(self._nonces) >= self._settings.max_nonces else None, now)

    def _forget(self, now: float) -> None:
        """Drops from the front what is too old. What is too old behind something younger goes a minute later."""
        while self._nonces:
            digest, expires = next(iter(self._nonces.items()))
            if expires + SKEW >= now:
                return
            del self._nonces[digest]

    def _write(self, digest: bytes, expires: int) -> bool:
        if self._file is None:
            return True
        try:
            if self._file.records >= 2 * len(self._nonces) + COMPACT:
                self._file.rewrite(self._nonces.items())
            else:
                self._file.append(digest, expires)
        except OSError as error:
            self._complain.warning("file", "a nonce could not be written, so its request is refused", error=error.strerror)
            return False
        return True

    @property
    def nonces(self) -> int:
        """How many are remembered."""
        return len(self._nonces)

    # Sessions.

    async def open_session(self, participant: str, address: str | None, most: float | None = None) -> Opened:
        self._end_old()
        if (code := self._no_room(address)) is not None:
            return Opened(code)
        token, lifetime = secrets.token_urlsafe(32), self._settings.session_lifetime
        seconds = lifetime if most is None else min(most, lifetime)
        own = self._of.setdefault(participant, deque())
        if len(own) >= SESSIONS_EACH:
            self._drop(own.popleft())
        digest = _digest(token)
        self._sessions[digest] = _Kept(participant, self._elapsed() + seconds, address)
        own.append(digest)
        if address is not None:
            self._from[address] += 1
        return Opened(None, token, seconds)

    def _no_room(self, address: str | None) -> str | None:
        # Its own limit first: who has used up that has to wait for itself, whatever the others do.
        most = self._settings.max_sessions_address
        if most and address is not None and self._from[address] >= most:
            return "too_many_sessions"
        return "sessions_full" if len(self._sessions) >= self._settings.max_sessions else None

    async def session(self, token: str) -> Session | None:
        found = self._sessions.get(_digest(token))
        left = found.until - self._elapsed() if found is not None else 0.0
        return Session(found.participant, left) if found is not None and left > 0 else None

    async def token_keys(self) -> TokenKeys:
        return self.keys

    def revoke(self, participant: str) -> int:
        """Ends all sessions of a participant; how many there were."""
        own = self._of.pop(participant, ())
        for digest in own:
            self._drop(digest)
        return len(own)

    def _drop(self, digest: bytes) -> None:
        address = self._sessions.pop(digest).address
        if address is not None:
            self._from[address] -= 1
            if not self._from[address]:
                del self._from[address]

    @property
    def sessions(self) -> int:
        """How many are open."""
        self._end_old()
        return len(self._sessions)

    def _end_old(self) -> None:
        """The oldest are in front, of all and of each participant. A shorter one behind a longer one is over, and goes after it."""
        now = self._elapsed()
        while self._sessions:
            digest, kept = next(iter(self._sessions.items()))
            if kept.until > now:
                return
            self._drop(digest)
            own = self._of[kept.participant]
            own.popleft()
            if not own:
                del self._of[kept.participant]


def nonce_digest(key: str, nonce: str) -> bytes:
    """What is remembered of a nonce: it belongs to its key, so that nobody can use up another one's."""
    return hashlib.sha256(f"{key} {nonce}".encode()).digest()[:DIGEST]


def _digest(token: str) -> bytes:
    """A token's name in the table. A look-up by it tells nothing of a token by the time that it takes."""
    return hashlib.sha256(token.encode()).digest()
