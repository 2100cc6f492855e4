"""Which names of this daemon a request may be for, and which pages may have sent it. Pure.

A page that a browser has from elsewhere must not read what the daemon has for whoever sits at that browser. It can try in two ways. It
asks from its own origin: then the browser says which (Origin). Or its name is made to lead to the daemon's address (DNS rebinding), which
is of the same origin for the browser: then the request is for that name (Host). Who is no browser can write what it likes there, and
gains nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from sse_daemon.errors import RequestRefused

Values = Callable[[str], Sequence[str]]
"""Every value that a header has in a request."""

_HOST = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?")
# No name can be made to lead to an address that is written out, and what browsers take for this machine asks no DNS.
_WRITTEN_OUT = re.compile(r"(localhost|[0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_ABROAD = ("cross-site", "same-site")


class Gate:
    """hosts: names beside those of this machine, without a port for any port; origins: those whose pages may read."""

    def __init__(self, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._hosts = frozenset(hosts)
        self._origins = frozenset(origins)

    def check(self, header: Values) -> None:
        """Raises RequestRefused: 421 (for another host), 403 (from a page of another origin)."""
        hosts = header("Host")
        # HTTP/1.0 has none, and no browser speaks that.
        if hosts and not (len(hosts) == 1 and self._answers_to(hosts[0].lower())):
            wrong = "this daemon does not answer to that host; [http] hosts lists those"
            raise RequestRefused(421, "wrong_authority", wrong, sent=", ".join(hosts))
        if not self._lets_read(header, hosts[0].lower() if hosts else ""):
            wrong = "pages of that origin may not read this; [http] cors_origins lists those"
            raise RequestRefused(403, "origin_refused", wrong, sent=", ".join(header("Origin")) or None)

    def _answers_to(self, host: str) -> bool:
        if host in self._hosts or _WRITTEN_OUT.fullmatch(host):
            return True
        return _HOST.fullmatch(host) is not None and re.sub(":[0-9]+$", "", host) in self._hosts

    def _lets_read(self, header: Values, host: str) -> bool:
        origins = header("Origin")
        if not origins:
            # An image, a script or a frame of another site's page is asked for without an Origin. Nobody could read it there, but it would
            # stay open. Only who follows a link, and looks at it in place of that page, may come from there.
            alone = [*header("Sec-Fetch-Mode")] != ["no-cors"] and [*header("Sec-Fetch-Dest")] in ([], ["document"])
            return alone or not any(site in _ABROAD for site in header("Sec-Fetch-Site"))
        # Which of the two it is, is not known behind a proxy that has the TLS.
        return len(origins) == 1 and (origins[0] in self._origins or origins[0] in (f"https://{host}", f"http://{host}"))


@lru_cache(maxsize=4)
def gate(hosts: tuple[str, ...], origins: tuple[str, ...]) -> Gate:
    """The gate of these settings; the same one again for the same settings."""
    return Gate(hosts, origins)


def host_complaint(text: str) -> str | None:
    """What makes `text` no host as it stands in clients' URLs."""
    return None if _HOST.fullmatch(text) else f"{text!r} is no host"
