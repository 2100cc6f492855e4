"""Mode "trusted-proxy": a participant is whoever a listed peer says. From anybody else the key's header is refused, not ignored:
who sends it either tries something, or has a configuration that leads nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from sse_daemon.auth import Asking, Authenticator, Cookie, Grant, claimed_key, granted, may_be_nobody
from sse_daemon.buckets import listed
from sse_daemon.errors import RequestRefused
from sse_daemon.participant import Canonical


class TrustedProxy(Authenticator):
    """The mode. proxies: those who are believed, addresses and networks."""

    proves = True
    vouched = True

    def __init__(self, canonical: Canonical, proxies: tuple[str, ...]) -> None:
        self._canonical = canonical
        self._proxies = proxies

    async def open(self, addresses: Sequence[str]) -> None:
        """There is nothing to get ready."""

    async def admit(self, asking: Asking) -> Grant:
        """By the route's header of a listed peer."""
        if asking.participant == "none":
            return granted(None, asking)
        # The query is the client's own: a proxy that sets the header passes it on as it came.
        if asking.query_keys:
            raise RequestRefused(403, "participant_in_url", "whose request this is, the proxy says, and not its URL")
        if asking.header_keys and not listed(asking.peer, self._proxies):
            raise RequestRefused(403, "untrusted_peer", "whose request this is, only the proxies may say that are listed")
        key = claimed_key(asking, self._canonical)
        if key is None and not may_be_nobody(asking):
            what = f"the proxy has to say whose request this is, in the header {asking.header}"
            raise RequestRefused(401, "participant_required", what)
        return granted(key, asking)

    async def begin(self, asking: Asking) -> Cookie | None:
        """Sessions are the proxy's."""
        return None
