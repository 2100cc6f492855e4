"""Who is behind a proxy: X-Forwarded-For, as far as those who wrote it are trusted. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from sse_daemon.buckets import listed, unmapped

MAX_HOPS = 16
"""Proxies one behind the other that are looked at."""


def client(peer: str, lines: Sequence[str], proxies: tuple[str, ...]) -> str:
    """The address, "host:0" or "[v6]:0", of whom a peer speaks for; the peer itself if it is not trusted, or does not say.

    lines: the values of X-Forwarded-For. Each proxy adds at the right the address that it was asked from. So the first from the right that
    is no trusted proxy's is the client; what stands further to the left is that client's own invention.
    """
    if not lines or not listed(peer, proxies):
        return peer
    for hop in reversed(",".join(lines).rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
        address = _address(hop.strip(" \t"))
        if address is None:
            return peer
        if not listed(address, proxies):
            return address
    return peer


def _address(text: str) -> str | None:
    """An IP address and nothing else: no port, no zone, no brackets, no name."""
    if "%" in text:
        return None
    try:
        found = unmapped(ipaddress.ip_address(text))
    except ValueError:
        return None
    return f"[{found}]:0" if found.version == 6 else f"{found}:0"
