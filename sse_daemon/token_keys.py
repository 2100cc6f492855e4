"""Who may sign tokens: a file with one public key in PEM, or with a set of them (JWKS, RFC 7517 and 8037). Ed25519 only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from sse_daemon import ed25519, key_file
from sse_daemon.auth_book import TokenKey, TokenKeys
from sse_daemon.config_tables import AuthConfig
from sse_daemon.errors import ConfigError, InvalidParticipant

MAX_KID = 256

_BEGIN = b"-----BEGIN "
_WANTED = 'a public key of Ed25519 ("-----BEGIN PUBLIC KEY-----"), or a JWKS with at least one'


def load(auth: AuthConfig) -> TokenKeys:
    """What `[auth] token_keys` names. Raises ConfigError."""
    try:
        return read(Path(auth.token_keys or ""))
    except ValueError as error:
        raise ConfigError([f"[auth] token_keys: {auth.token_keys} {error}"]) from None


def read(path: Path) -> TokenKeys:
    """The keys of the file, at least one. Raises ValueError with what is wrong; what would be right."""
    return parse(key_file.read(path, _WANTED, 0o002, "anybody may put a key there; chmod o-w"))


def parse(content: bytes) -> TokenKeys:
    """The keys of a file's content. Raises like `read`."""
    if not content.strip():
        raise ValueError(f"is empty; {_WANTED}")
    return _set(content) if content.lstrip().startswith(b"{") else (_pem(content),)


def chosen(keys: Sequence[TokenKey], kid: object) -> TokenKey | None:
    """The key that a token means which names `kid` (None: names none); None if there is no such key."""
    if len(keys) == 1 and (kid is None or keys[0].kid is None):
        return keys[0]
    return next((key for key in keys if key.kid == kid), None) if isinstance(kid, str) else None


def _pem(content: bytes) -> TokenKey:
    if b"PRIVATE KEY" in content:
        raise ValueError("has a secret key; the public half only: `openssl pkey -pubout`")
    if content.count(_BEGIN) > 1:
        raise ValueError("has several keys; one, or a JWKS that gives each a kid")
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"is no key; {_WANTED}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"has a key of another kind; {_WANTED}")
    raw = key.public_bytes_raw()
    try:
        ed25519.check(raw)
    except InvalidParticipant as error:
        raise ValueError(f"has no key that could be used: {error}") from None
    return TokenKey(None, ed25519.spellings(raw).base64url)


def _set(content: bytes) -> TokenKeys:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError(f"is not JSON; {_WANTED}") from None
    listed = found.get("keys")
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ValueError('has no list "keys" of objects; a JWKS (RFC 7517)')
    keys = tuple(_usable(listed))
    if not keys:
        raise ValueError(f"has no key of Ed25519 for signatures; {_WANTED}")
    names = [key.kid for key in keys]
    if len(keys) > 1 and (None in names or len(set(names)) < len(names)):
        raise ValueError("has several keys that are not told apart; a kid of its own for each")
    return keys


def _usable(listed: Sequence[Mapping[str, Any]]) -> Iterator[TokenKey]:
    """The keys that are ours to use: an identity provider lists others too, for those who know other algorithms."""
    for number, jwk in enumerate(listed, 1):
        if "d" in jwk or "k" in jwk:
            raise ValueError(f"has a secret in key {number}; public halves only")
        if jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519":
            continue
        if jwk.get("use", "sig") != "sig" or jwk.get("alg", "EdDSA") not in ("EdDSA", "Ed25519"):
            continue
        try:
            yield _key(jwk.get("kid"), jwk.get("x"))
        except (ValueError, InvalidParticipant) as error:
            raise ValueError(f"key {number}: {error}") from None


def _key(kid: object, x: object) -> TokenKey:
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID):
        raise ValueError(f"its kid is no text of 1 to {MAX_KID} characters; another one")
    if not isinstance(x, str) or len(x) != 43:
        raise ValueError("its x is not 32 bytes in base64url; as RFC 8037 has it")
    return TokenKey(kid, ed25519.canonical(x))
