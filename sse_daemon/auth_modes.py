"""The modes by name: what `[auth] mode` comes to. None of them ever stands in for another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sse_daemon.auth import Authenticator
from sse_daemon.auth_book import Book, Proofs, TokenKeys
from sse_daemon.auth_claim import Claim
from sse_daemon.auth_hook import Hook
from sse_daemon.auth_proof import Proof
from sse_daemon.auth_proxy import TrustedProxy
from sse_daemon.config import Config
from sse_daemon.config_tables import AuthConfig
from sse_daemon.errors import AuthUnusable, ConfigError
from sse_daemon.keys import reader
from sse_daemon.log import logger
from sse_daemon.nonce_file import NonceFile

_log = logger("auth")


def authenticator(config: Callable[[], Config], proofs: Proofs | None) -> Authenticator:
    """The one that is configured. config: what is in force; proofs: the daemon's book, where the mode has one."""
    settings, canonical = config().auth, reader(config())
    if settings.mode == "claim":
        return Claim(canonical, settings.claim_is_trusted_network)
    if settings.mode == "trusted-proxy":
        return TrustedProxy(canonical, settings.trusted_proxies)
    if settings.mode == "hook":
        return Hook(settings, str(settings.hook_url), canonical, config)
    if proofs is None:
        raise AuthUnusable("there is no book of proofs")
    if settings.mode == "token":
        # Only here: what reads tokens takes 9 MB and 50 ms to load.
        from sse_daemon.auth_token import Token

        return Token(canonical, proofs, config)
    return Proof(settings, canonical, proofs, config)


def book(
    config: Config, environ: Mapping[str, str], uid: int, wall: Callable[[], float], elapsed: Callable[[], float]
) -> Book | None:
    """The book that the mode needs, if any. Raises AuthUnusable, ConfigError."""
    auth = config.auth
    if auth.mode == "token":
        sessions = Book(None, auth, wall, elapsed)
        sessions.keys = _token_keys(auth)
        return sessions
    if auth.mode != "proof":
        return None
    file = None if auth.state == "memory" else NonceFile(Path(auth.state or state_folder(environ, uid)))
    return Book(file, auth, wall, elapsed)


def renew(auth: AuthConfig, book: Book | None) -> bool:
    """Reads the keys of tokens again, where the mode has some. False: a mistake in the file, and the ones from before stay."""
    if auth.mode != "token" or book is None:
        return True
    try:
        book.keys = _token_keys(auth)
    except ConfigError as error:
        _log.error("token keys not reloaded, the ones from before stay in force", extra={"mistake": str(error)})
        return False
    _log.info("token keys reloaded", extra={"keys": len(book.keys)})
    return True


def _token_keys(auth: AuthConfig) -> TokenKeys:
    from sse_daemon import token_keys  # only where it is needed, as above

    return token_keys.load(auth)


def state_folder(environ: Mapping[str, str], uid: int) -> str:
    """Where a daemon of user `uid` keeps what has to outlive it. Raises AuthUnusable if nothing says where.

    systemd names the unit's StateDirectory; else it is the XDG base directory specification's, which ignores relative paths.
    """
    if given := environ.get("STATE_DIRECTORY"):
        return given.partition(":")[0]
    if environ.get("XDG_STATE_HOME", "").startswith("/"):
        return environ["XDG_STATE_HOME"].rstrip("/") + "/sse-daemon"
    if uid == 0:
        return "/var/lib/sse-daemon"
    if environ.get("HOME", "").startswith("/"):
        return environ["HOME"].rstrip("/") + "/.local/state/sse-daemon"
    raise AuthUnusable(
        "nothing says where nonces can be kept: neither STATE_DIRECTORY nor HOME is set; [auth] state names a folder"
    )
