"""The file of those who sign tokens: one key or a set, public halves, Ed25519, and nothing that is not clear."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from sse_daemon import key_file, token_keys
from sse_daemon.auth_book import TokenKey
from tests.hardening.signing import ALICE, BOB


def pem(key: Any) -> bytes:
    return bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def jwk(**changes: Any) -> dict[str, Any]:
    plain = {"kty": "OKP", "crv": "Ed25519", "x": ALICE.public, "kid": "a", "use": "sig", "alg": "EdDSA"}
    return {name: value for name, value in (plain | changes).items() if value is not None}


def jwks(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


SECRET = Ed25519PrivateKey.from_private_bytes(bytes(ALICE.secret))
PEM = pem(SECRET.public_key())
RSA = {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "r", "use": "sig", "alg": "RS256"}
EC = {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "e"}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (PEM, [(None, ALICE.public)]),
        (b"# whose it is\n" + PEM + b"\n", [(None, ALICE.public)]),
        (jwks(jwk()), [("a", ALICE.public)]),
        (jwks(jwk(kid=None, use=None, alg=None)), [(None, ALICE.public)]),
        (jwks(jwk(alg="Ed25519")), [("a", ALICE.public)]),
        (b"\n " + jwks(jwk(), jwk(kid="b", x=BOB.public)), [("a", ALICE.public), ("b", BOB.public)]),
        (jwks(RSA, jwk(), EC, jwk(use="enc", kid="c"), jwk(crv="X25519", kid="d")), [("a", ALICE.public)]),
    ],
)
def test_what_can_be_used_is_found(content: bytes, found: list[TokenKey]) -> None:
    assert token_keys.parse(content) == tuple(found)


def small_order() -> bytes:
    return pem(Ed25519PublicKey.from_public_bytes(bytes(32)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"garbage", "is no key"),
        (b"\x00\xff" * 100, "is no key"),
        (PEM[:60], "is no key"),
        (PEM + PEM, "several keys"),
        (SECRET.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "has a secret key"),
        (pem(ec.generate_private_key(ec.SECP256R1()).public_key()), "of another kind"),
        (pem(rsa.generate_private_key(65537, 2048).public_key()), "of another kind"),
        (pem(Ed448PrivateKey.generate().public_key()), "of another kind"),
        (small_order(), "no key that could be used"),
        (b"{", "is not JSON"),
        (b'{"keys":' + b"[" * 30000, "is not JSON"),
        (b"{}", 'no list "keys"'),
        (b'{"keys": {}}', 'no list "keys"'),
        (b'{"keys": ["a"]}', 'no list "keys"'),
        (b'{"keys": []}', "no key of Ed25519"),
        (jwks(RSA, EC), "no key of Ed25519"),
        (jwks(jwk(d="AA")), "has a secret in key 1"),
        (jwks(jwk(), {"kty": "oct", "k": "AA"}), "has a secret in key 2"),
        (jwks(jwk(), jwk()), "not told apart"),
        (jwks(jwk(), jwk(kid=None)), "not told apart"),
        (jwks(jwk(kid="")), "kid"),
        (jwks(jwk(kid=7)), "kid"),
        (jwks(jwk(kid="k" * 257)), "kid"),
        (jwks(jwk(x=None)), "its x"),
        (jwks(jwk(x=ALICE.public + "=")), "its x"),
        (jwks(jwk(x=ALICE.public[:42] + "!")), "key 1"),
        (jwks(jwk(x="A" * 43)), "key 1"),
    ],
)
def test_anything_else_is_a_mistake_that_says_what_would_be_right(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        token_keys.parse(content)
    assert ALICE.public not in str(caught.value)


def test_a_file_that_anybody_may_write_is_none(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(PEM)
    for mode in (0o400, 0o600, 0o644, 0o664):
        file.chmod(mode)
        assert token_keys.read(file) == ((None, ALICE.public),)
    file.chmod(0o666)
    with pytest.raises(ValueError, match="mode 0666.*chmod o-w"):
        token_keys.read(file)


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none", "No such file"), (tmp_path, "directory")):
        with pytest.raises(ValueError, match=said):
            token_keys.read(path)
    (tmp_path / "long").write_bytes(PEM + b"#" * key_file.MAX_FILE)
    with pytest.raises(ValueError, match="more than"):
        token_keys.read(tmp_path / "long")


A, B, NAMELESS = TokenKey("a", ALICE.public), TokenKey("b", BOB.public), TokenKey(None, ALICE.public)


@pytest.mark.parametrize(
    ("keys", "kid", "found"),
    [
        ([NAMELESS], None, NAMELESS),
        ([NAMELESS], "anything", NAMELESS),
        ([A], None, A),
        ([A], "a", A),
        ([A], "b", None),
        ([A, B], "b", B),
        ([A, B], None, None),
        ([A, B], "c", None),
        ([A, B], ["a"], None),
        ([A], 7, None),
        ([], None, None),
    ],
)
def test_which_key_a_token_means(keys: list[TokenKey], kid: object, found: TokenKey | None) -> None:
    assert token_keys.chosen(keys, kid) == found
