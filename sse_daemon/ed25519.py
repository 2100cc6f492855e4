"""A participant's key where it has to be an Ed25519 public key: every spelling of one key is one participant.

Accepted are 64 hexadecimal digits (all lower or all upper case), 43 characters of base64url (RFC 4648 section 5, no padding; the
`x` of a JWK, RFC 8037), CESR's `D` and `B` (44 characters) and did:key. The length says which one a text is meant to be.

The canonical form is the base64url one: the shortest, it stands in headers and URLs as it is, and browsers export keys so. It is
what channels, the log, listings and the `connected` event have.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import NamedTuple

from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_sign_open
from nacl.exceptions import BadSignatureError

from sse_daemon.errors import DigestKey, InvalidParticipant

KEY_BYTES = 32
DIGESTS = frozenset("EFGHI")
"""CESR's codes of 32-byte digests: BLAKE3, BLAKE2b, BLAKE2s, SHA3, SHA2. An identifier of this kind says nothing of its key."""

_MULTICODEC = b"\xed\x01"
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGIT = {character: value for value, character in enumerate(_BASE58)}
_DID = "did:key:z"


class Spellings(NamedTuple):
    """Every text that names one key. cesr_d, cesr_b: as a transferable and as a non-transferable prefix."""

    base64url: str
    hex: str
    hex_upper: str
    cesr_d: str
    cesr_b: str
    did_key: str


def canonical(text: str) -> str:
    """The canonical form of the key that `text` spells. Raises InvalidParticipant, with the reason; DigestKey for a digest."""
    return spellings(raw(text)).base64url


def raw(text: str) -> bytes:
    """The 32 bytes of the key that `text` spells. Raises like `canonical`, TypeError for what is no text.

    Python's decoders skip and ignore what does not belong: a text counts only if its key is spelled exactly so.
    """
    read = _READERS.get(len(text))
    if read is None:
        raise InvalidParticipant("a key is 64 hexadecimal digits, 43 characters base64url, 44 of CESR, or a did:key of Ed25519")
    try:
        key = read(text)
    except (ValueError, OverflowError, KeyError):  # a character that none of the decoders takes, or a number that is too large
        raise _misspelled() from None
    if len(key) != KEY_BYTES or text not in spellings(key):
        raise _misspelled()
    check(key)
    return key


def check(key: bytes) -> None:
    """Raises InvalidParticipant unless 32 bytes are the one encoding of a point of the prime-order group, and not its zero.

    For others signatures can be forged that verifiers accept (small order), or one key has several encodings.
    """
    if not crypto_core_ed25519_is_valid_point(key):
        raise InvalidParticipant("these 32 bytes are no Ed25519 key: no point of the curve's prime-order group")


def verify(key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature`, 64 bytes, is one of `message` by `key`, which `check` has found to be a key.

    libsodium refuses what RFC 8032 allows to be refused: an S that is not reduced, and an R of small order.
    """
    try:
        crypto_sign_open(signature + message, key)
    except BadSignatureError:
        return False
    return True


def is_digest(text: str) -> bool:
    """True if `text` is a CESR identifier, strictly spelled, that is the digest of something."""
    if len(text) != 44 or text[0] not in DIGESTS:
        return False
    try:
        return _cesr(text[0], _of_cesr(text)) == text
    except ValueError:
        return False


def spellings(key: bytes) -> Spellings:
    """Every text that names the key of these 32 bytes."""
    digits = key.hex()
    return Spellings(_base64url(key), digits, digits.upper(), _cesr("D", key), _cesr("B", key), _did_key(key))


def _misspelled() -> InvalidParticipant:
    return InvalidParticipant("this is not exactly how a key is spelled: a character, its case, or bits that have to be zero")


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _of_base64url(text: str) -> bytes:
    return urlsafe_b64decode(text + "=")


def _cesr(code: str, key: bytes) -> str:
    """CESR, "Master code table for genus/version": a zero byte before the key makes 33, so 44 characters; the first is the code."""
    return code + _base64url(b"\0" + key)[1:]


def _of_cesr(text: str) -> bytes:
    return urlsafe_b64decode("A" + text[1:])[1:]


def _read_cesr(text: str) -> bytes:
    if is_digest(text):
        raise DigestKey("this identifier is a digest and not a key; [auth] key_resolver names what can look its key up")
    if text[0] not in "DB":
        raise InvalidParticipant("44 characters are CESR's, and of that a key begins with D or B")
    return _of_cesr(text)


def _did_key(key: bytes) -> str:
    """Multibase "z" is base58btc; two bytes of multicodec say Ed25519. The first of them is not zero, so no leading "1" is needed."""
    number = int.from_bytes(_MULTICODEC + key)
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_BASE58[digit])
    return _DID + "".join(reversed(digits))


def _of_did_key(text: str) -> bytes:
    number = 0
    for character in text[len(_DID) :]:
        number = number * 58 + _DIGIT[character]
    return number.to_bytes(len(_MULTICODEC) + KEY_BYTES)[len(_MULTICODEC) :]


_READERS: Mapping[int, Callable[[str], bytes]] = {64: bytes.fromhex, 43: _of_base64url, 44: _read_cesr, 56: _of_did_key}
"""How a text of so many characters is read; it is compared with what it should be afterwards."""
