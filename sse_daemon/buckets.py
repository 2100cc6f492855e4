"""Token buckets, one for each name, in bounded memory. Pure: the caller says what time it is."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from functools import lru_cache

NAMES = 10_000
"""Names remembered by one Buckets. The one that was silent longest goes, and begins with a full bucket when it comes back."""


class Buckets:
    """`rate` tokens a second for each name, at most `burst` saved up. A rate of 0 is no limit.

    What is kept of a name is one number: when its bucket will be full again (the generic cell rate algorithm).
    """

    def __init__(self, rate: float, burst: float, names: int = NAMES) -> None:
        self._rate = rate
        self._burst = max(1.0, burst)
        self._names = names
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, name: str, now: float) -> float:
        """Takes a token and gives 0.0; or takes nothing and gives the seconds until there is one."""
        if not self._rate:
            return 0.0
        full_at = max(self._full_at.get(name, now), now) + 1 / self._rate
        wait = full_at - now - self._burst / self._rate
        if wait > 1e-9:  # what adding up many fractions leaves
            return wait
        self._full_at[name] = full_at
        self._full_at.move_to_end(name)
        while len(self._full_at) > self._names:
            self._full_at.popitem(last=False)
        return 0.0

    def __len__(self) -> int:
        return len(self._full_at)


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _unmapped(address: Address) -> Address:
    """An IPv4 address as such, also where a socket of both kinds names it as IPv6."""
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def origin(address: str) -> str:
    """Who a peer "host:port", "[v6]:port" or "unix" is to a limit: an IPv4 address; of IPv6 its /64, which one customer has."""
    host = address.rpartition(":")[0].strip("[]") or address
    try:
        parsed: Address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    parsed = _unmapped(parsed)
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))


@lru_cache(maxsize=4096)
def _counted_as(host: str, shared_addresses: tuple[str, ...]) -> str | None:
    name = origin(f"[{host}]:0") if ":" in host else host
    try:
        address: Address | str = _unmapped(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        address = host
    for each in map(shared, shared_addresses):
        if each == address if isinstance(each, str) or isinstance(address, str) else address in each:
            return None
    return name


def counted_as(address: str, shared_addresses: tuple[str, ...]) -> str | None:
    """The name under which a peer "host:port", "[v6]:port" or "unix" is limited; None if many clients come from there."""
    host = address.rpartition(":")[0].strip("[]") or address
    return _counted_as(host, shared_addresses)


def shared(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | str:
    """An address or network that many clients share, or "unix". Raises ValueError."""
    if text == "unix":
        return text
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is no address") from None
