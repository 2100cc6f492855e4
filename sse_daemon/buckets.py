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


def unmapped(address: Address) -> Address:
    """An IPv4 address as such, also where a socket of both kinds names it as IPv6."""
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]") or address


def origin(address: str) -> str:
    """Who a peer "host:port", "[v6]:port" or "unix" is to a limit: an IPv4 address; of IPv6 its /64, which one customer has."""
    return _origin(_host(address))


@lru_cache(maxsize=4096)
def _origin(host: str) -> str:
    try:
        parsed: Address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    parsed = unmapped(parsed)
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))


@lru_cache(maxsize=4096)
def _listed(host: str, texts: tuple[str, ...]) -> bool:
    try:
        address: Address | str = unmapped(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        address = host
    return any(
        each == address if isinstance(each, str) or isinstance(address, str) else address in each for each in map(shared, texts)
    )


def listed(address: str, texts: tuple[str, ...]) -> bool:
    """Whether a peer "host:port", "[v6]:port" or "unix" is among these addresses and networks, each as `shared` reads it."""
    return _listed(_host(address), texts)


def counted_as(address: str, shared_addresses: tuple[str, ...]) -> str | None:
    """The name under which a peer is limited; None if many clients come from there."""
    return None if listed(address, shared_addresses) else _origin(_host(address))


def shared(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | str:
    """An address or network that many clients share, or "unix". Raises ValueError."""
    if text == "unix":
        return text
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is no address{_network_around(text)}") from None


def _network_around(text: str) -> str:
    """What may be meant by an address with the length of a network's prefix behind it."""
    try:
        return f", nor a network: that is {ipaddress.ip_network(text, strict=False)}"
    except ValueError:
        return ""
