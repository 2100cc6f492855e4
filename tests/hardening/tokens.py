"""Tokens of every kind, right ones and almost right ones, made by hand: no library would make most of them."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.hardening.signing import ALICE, BOB, Key
from tests.integration.client import Header

AUDIENCE, ISSUER = "https://events.example.org", "https://id.example.org"
ISSUING, OTHER = ALICE, BOB
"""Whose keys sign: here they are not participants'."""


def segment(content: object) -> str:
    """Bytes, or JSON, in base64url."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return urlsafe_b64encode(data).decode().rstrip("=")


def claims(**changes: Any) -> dict[str, Any]:
    """What a good token says; None: leave it out."""
    plain = {"sub": "alice", "aud": AUDIENCE, "iss": ISSUER, "exp": int(time.time()) + 60}
    return {name: value for name, value in (plain | changes).items() if value is not None}


def token(said: Any = None, head: Any = None, key: Key = ISSUING, **changes: Any) -> str:
    """A token that is signed by `key`. said: all that it says; changes: what it says otherwise than a good one."""
    signed = segment({"alg": "EdDSA", "typ": "JWT", **(head or {})} if not isinstance(head, bytes) else head)
    signed += "." + segment(claims(**changes) if said is None else said)
    return f"{signed}.{segment(key.secret.sign(signed.encode()).signature)}"


def bearer(text: str) -> Header:
    return ("Authorization", f"Bearer {text}")


def pem(key: Key = ISSUING) -> str:
    """A public key's file."""
    public = Ed25519PrivateKey.from_private_bytes(bytes(key.secret)).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def jwks(**keys: Key) -> str:
    """A set of public keys by their names."""
    return json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": key.public} for kid, key in keys.items()]})


def config(file: Path, more: str = "") -> str:
    """A configuration for tokens by the keys in this file. more: further lines of [auth], then further tables."""
    named = f'token_keys = "{file}"\ntoken_audience = "{AUDIENCE}"\ntoken_issuer = "{ISSUER}"\n'
    return f'[auth]\nmode = "token"\n{named}{more}\n'
