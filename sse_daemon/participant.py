"""A participant's key: who an event is for, and who a client says it is.

A key is an opaque, case-sensitive text of 1 to 256 printable ASCII characters, without spaces (HTTP trims them) and other than
`*`, which means everybody. Where it has to be an Ed25519 key, `ed25519.py` reads it; `keys.py` says which of the two it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from sse_daemon.errors import InvalidParticipant

Canonical: TypeAlias = Callable[[str], str]
"""The one form of a key that the daemon compares. Raises InvalidParticipant, with the reason.

Every key goes through one, a client's, an event's recipient and an operator's alike: two spellings of a key meet there or nowhere.
"""

MAX_LENGTH = 256
_KEY = re.compile(r"[\x21-\x7e]{1,256}")


def canonical(text: str) -> str:
    """An opaque key, which is its own canonical form. Raises InvalidParticipant, with the reason."""
    if _KEY.fullmatch(text) and text != "*":
        return text
    if not text:
        raise InvalidParticipant("a key is not empty")
    if text == "*":
        raise InvalidParticipant("'*' means everybody and is nobody's key")
    if len(text) > MAX_LENGTH:
        raise InvalidParticipant(f"a key has at most {MAX_LENGTH} characters")
    raise InvalidParticipant("a key is made of printable ASCII characters without spaces")


def short(key: str) -> str:
    """`key` as it stands in logs: enough to recognise it, not enough to use it."""
    return key if len(key) <= 12 else f"{key[:8]}..{len(key)}"
