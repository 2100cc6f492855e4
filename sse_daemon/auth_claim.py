"""Mode "claim": a participant is whoever says so. For development, and behind something that checks."""

from __future__ import annotations

from collections.abc import Sequence

from sse_daemon.address import is_loopback, listen_address
from sse_daemon.auth import Asking, Authenticator, Cookie, Grant, claimed_key, granted, may_be_nobody
from sse_daemon.errors import AuthUnusable, RequestRefused
from sse_daemon.participant import Canonical


class Claim(Authenticator):
    """The mode. everywhere: also where others than this machine can reach it."""

    proves = False
    vouched = False

    def __init__(self, canonical: Canonical, everywhere: bool) -> None:
        self._canonical = canonical
        self._everywhere = everywhere

    async def open(self, addresses: Sequence[str]) -> None:
        """The configuration was asked already; but what a service manager hands over stands in none."""
        outside = [address for address in addresses if not is_loopback(listen_address(address))]
        if outside and not self._everywhere:
            raise AuthUnusable(
                f"{outside[0]} can be reached from outside of this machine, and [auth] mode believes what every client says; "
                "[auth] claim_is_trusted_network says that nobody is there who would lie"
            )

    async def admit(self, asking: Asking) -> Grant:
        """Takes the claimed key at its word."""
        key = None if asking.participant == "none" else claimed_key(asking, self._canonical)
        if key is None and not may_be_nobody(asking):
            where = f"the header {asking.header} or the parameter {asking.query}"
            raise RequestRefused(401, "participant_required", f"name your key in {where}")
        return granted(key, asking)

    async def begin(self, asking: Asking) -> Cookie | None:
        """There is nothing that a session could stand for."""
        return None
