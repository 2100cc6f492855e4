"""The kinds of values that only `[auth] hook_*` has."""

from __future__ import annotations

import re

from sse_daemon.config_kinds import Text, Texts, shown

_URL = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([1-9][0-9]{0,4}))?(?:[/?][!\"$-~]*)?")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# What belongs to a connection and not to who asks (RFC 9110, 7.6.1), what says how an answer is to look, and what the daemon says itself.
_NOT_FORWARDED = frozenset(
    {
        *("accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host"),
        *("keep-alive", "proxy-connection", "range", "te", "trailer", "transfer-encoding", "upgrade"),
        *("x-forwarded-for", "x-forwarded-host", "x-forwarded-method", "x-forwarded-uri"),
    }
)


def hook_url_complaint(text: str) -> str | None:
    """What makes `text` no address of an application. It is not repeated: it may hold a secret."""
    match = _URL.fullmatch(text)
    if match is None:
        return "it is no such URL"
    return "its port is no port" if match[1] and int(match[1]) > 65535 else None


def header_complaint(text: str) -> str | None:
    """What makes `text` no header of clients that can be passed on."""
    if not _NAME.fullmatch(text):
        return f"{shown(text)} is no header's name"
    return f"{shown(text)} is the daemon's own to say" if text.lower() in _NOT_FORWARDED else None


HOOK_URL = Text('such as "http://127.0.0.1:8000/who", without user, password and fragment', hook_url_complaint)
HEADERS = Texts(Text("the name of a header that says who asks", header_complaint))
