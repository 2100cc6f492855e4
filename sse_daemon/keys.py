"""How this daemon reads participants' keys: what `[participants] keys` and `[auth] key_resolver` come to."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, TypeAlias

from sse_daemon import ed25519, participant
from sse_daemon.config_tables import Config
from sse_daemon.errors import ConfigError, DigestKey, InvalidParticipant
from sse_daemon.log import Sometimes, logger
from sse_daemon.participant import Canonical

KNOWN = 65_536
"""Spellings remembered as checked, about 350 bytes each: a check takes some 60 us, a look into this table a tenth of one."""

GROUP = "sse_daemon.key_resolvers"
"""The entry point group of resolvers: name = module:function."""

Resolver: TypeAlias = Callable[[str], "bytes | None"]
"""From a well-formed CESR digest identifier to the 32 bytes of the key that it stands for now, or None if it is not known.

It is called in the event loop, for every event to such a recipient and every request of one: it must answer at once, from memory.
"""

_complain = Sometimes(logger("keys"), time.monotonic)


def reader(config: Config) -> Canonical:
    """What gives the canonical form of a key, with a memory of its own. Raises ConfigError.

    Clients and producers have one each: keys that strangers make up cannot push out those of events.
    """
    resolver = config.auth.key_resolver
    if config.keys == "opaque":
        if resolver is not None:
            wrong = 'is asked for keys behind Ed25519 identifiers only, and [participants] keys is "opaque"; "ed25519" there'
            raise ConfigError([f"[auth] key_resolver: {wrong}"])
        return participant.canonical
    # What is refused is not remembered: the exception takes its way out of the cache.
    known = lru_cache(maxsize=KNOWN)(ed25519.canonical)
    return known if resolver is None else Resolving(known, _named(resolver))


class Resolving:
    """Reads keys, and digests through `resolve`. Its answers are not remembered: the key behind an identifier may be rotated."""

    def __init__(self, known: Canonical, resolve: Resolver) -> None:
        self._known = known
        self._resolve = resolve

    def __call__(self, text: str) -> str:
        if isinstance(text, str) and ed25519.is_digest(text):
            return self._resolved(text)
        return self._known(text)

    def _resolved(self, text: str) -> str:
        key = self._answer(text)
        if key is None:
            raise DigestKey("the key of this identifier is not known")
        try:
            ed25519.check(key)
        except InvalidParticipant:
            _complain.warning("weak", "the key resolver gave 32 bytes that are no Ed25519 key")
            raise DigestKey("the key of this identifier is none that can be used") from None
        return ed25519.spellings(key).base64url

    def _answer(self, text: str) -> bytes | None:
        try:
            key = self._resolve(text)
        except Exception as error:  # noqa: BLE001
            # Others' code: whatever goes wrong in it, this key is not known and every other one still is.
            _complain.warning("raised", "the key resolver failed", error=type(error).__name__)
            return None
        if key is None or (type(key) is bytes and len(key) == ed25519.KEY_BYTES):
            return key
        _complain.warning("type", "the key resolver gave something else than 32 bytes or None", type=type(key).__name__)
        return None


def _named(name: str) -> Resolver:
    """The installed resolver of this name. Raises ConfigError."""
    found = tuple(entry_points(group=GROUP, name=name))
    if len(found) != 1:
        known = ", ".join(sorted(entry_points(group=GROUP).names)) or "none"
        wrong = f"{len(found)} installed packages have {name!r} in {GROUP}, one is wanted; known are: {known}"
        raise ConfigError([f"[auth] key_resolver: {wrong}"])
    try:
        resolver: Any = found[0].load()
    except Exception as error:
        # Others' code again; without its resolver the daemon would refuse those whom it is there for.
        raise ConfigError([f"[auth] key_resolver: {name!r} cannot be loaded: {error!r}"]) from error
    if not callable(resolver):
        raise ConfigError([f"[auth] key_resolver: {name!r} is no function; one from a text to 32 bytes or None"])
    return resolver  # type: ignore[no-any-return]
