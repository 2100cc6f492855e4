"""What modes share that check for themselves who asks: the pace of their checks, the hosts that they are for, and browsers' sessions.

A page proves once who it is, and gets a cookie that speaks for its participant for a while: an EventSource sends that by itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from sse_daemon import signature
from sse_daemon.auth import Asking, Cookie, Grant, Message, claimed_key, granted
from sse_daemon.auth_book import Proofs
from sse_daemon.buckets import Buckets, counted_as
from sse_daemon.config_tables import AuthConfig, Config, HttpConfig
from sse_daemon.errors import RequestRefused
from sse_daemon.participant import Canonical

COOKIE = "__Host-sse-daemon"
BURST = 2.0
"""Seconds of its rate that a limit lets come at once."""
LATER = 5
"""Seconds after which to try again where the book has no room."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_FULL = {
    "sessions_full": (503, "no more sessions just now"),
    "too_many_sessions": (429, "no more sessions for this address just now"),
}


class Pace:
    """How fast signatures may come to be checked, or whatever else it costs to know who asks: in all, and from one address.

    config: as it is now; what: of which there may be too many.
    """

    def __init__(
        self, settings: AuthConfig, config: Callable[[], Config], clock: Callable[[], float], what: str = "signatures"
    ) -> None:
        self._what = what
        self._config = config
        self._clock = clock
        self._of_address = Buckets(settings.verify_rate_address, BURST * settings.verify_rate_address)
        self._of_all = Buckets(settings.verify_rate, BURST * settings.verify_rate, names=1)

    def check(self, address: str) -> None:
        """To be called before each check. Raises RequestRefused (429)."""
        now = self._clock()
        name = counted_as(address, self._config().shared_addresses)
        wait = (0.0 if name is None else self._of_address.take(name, now)) or self._of_all.take("", now)
        if wait:
            raise RequestRefused(429, f"too_many_{self._what}", f"{self._what} come faster than they may", math.ceil(wait))


class Hosts:
    """The names of this daemon for which requests may be signed and cookies sent. http: as it is now."""

    def __init__(self, http: Callable[[], HttpConfig]) -> None:
        self._http = http
        self._own: frozenset[str] = frozenset()

    def listen(self, addresses: Sequence[str]) -> None:
        """These addresses ("host:port", "unix:/path") are right, beside `[http] hosts`."""
        self._own = frozenset(name for address in addresses for name in own_authorities(address))

    def authority(self, message: Message) -> str:
        """The host that the request is for, in its one form. Raises RequestRefused: 400 (no one host), 421 (not ours)."""
        named = message.header("Host")
        try:
            found = signature.authority(named[0]) if len(named) == 1 else None
        except ValueError:
            found = None
        if found is None:
            raise RequestRefused(400, "bad_request", "a request names one host, once")
        hosts = [signature.authority(host) for host in self._http().hosts]
        if found not in self._own and found not in hosts and found.rpartition(":")[0] not in hosts:
            wrong = "signatures for that host are not for this daemon; [http] hosts lists those"
            raise RequestRefused(421, "wrong_authority", wrong, sent=named[0])
        return found


class Sessions:
    """The sessions of `book`, by their cookies. config: as it is now."""

    def __init__(
        self, canonical: Canonical, book: Proofs, hosts: Hosts, config: Callable[[], Config], clock: Callable[[], float]
    ) -> None:
        self._canonical = canonical
        self._book = book
        self._hosts = hosts
        self._config = config
        self._clock = clock

    async def begin(self, asking: Asking, key: str, most: float | None = None) -> Cookie:
        """Opens a session for `key`, which has been proven, for at most so many seconds. Raises RequestRefused."""
        name = counted_as(asking.address, self._config().shared_addresses)
        opened = await self._book.open_session(key, name, most)
        if opened.code is not None:
            status, detail = _FULL[opened.code]
            raise RequestRefused(status, opened.code, detail, retry_after=LATER)
        attributes = f"Path=/; Max-Age={int(opened.seconds)}; Secure; HttpOnly; SameSite=Strict"
        return Cookie(key, opened.seconds, f"{COOKIE}={opened.token}; {attributes}")

    async def admit(self, asking: Asking, token: str) -> Grant:
        """What the session of this cookie may read. Raises RequestRefused."""
        self._hosts.authority(asking.message)
        check_origin(asking.message, self._config().http)
        session = await self._book.session(token) if _TOKEN.fullmatch(token) else None
        if session is None:
            raise RequestRefused(401, "session_over", "this session is over; open another one")
        check_claim(asking, self._canonical, session.participant)
        until = self._clock() + session.left
        return granted(session.participant, asking, until)


def session_token(message: Message) -> str | None:
    """The value of our cookie, or None. Raises RequestRefused if there are two."""
    pairs = [pair.strip().partition("=") for line in message.header("Cookie") for pair in line.split(";")]
    found = [value for name, _, value in pairs if name == COOKIE]
    if len(found) > 1:
        raise RequestRefused(400, "ambiguous_session", "a request names one session, once")
    return found[0] if found else None


def check_origin(message: Message, http: HttpConfig) -> None:
    """A browser sends a cookie by itself, so it has to say for whose page: one of the same origin, or a listed one.

    Raises RequestRefused (403).
    """
    origins, hosts = message.header("Origin"), message.header("Host")
    if not origins:
        allowed = [*message.header("Sec-Fetch-Site")] == ["same-origin"]
    else:
        own = _own_origins(hosts[0].lower()) if hosts else ()
        allowed = len(origins) == 1 and origins[0] in (*http.cors_origins, *own)
    if not allowed:
        wrong = "a cookie counts from pages of the same origin and listed ones: send Origin, or Sec-Fetch-Site: same-origin"
        raise RequestRefused(403, "origin_refused", wrong, sent=", ".join(origins) or None)


def check_claim(asking: Asking, canonical: Canonical, key: str) -> None:
    """Raises RequestRefused (400) if the request claims to be of another key than `key`, which has been proven."""
    if claimed_key(asking, canonical) not in (None, key):
        raise RequestRefused(400, "conflicting_participant", "a request names one key")


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
