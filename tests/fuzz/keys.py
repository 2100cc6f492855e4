"""Participants' keys: a text is one key in one canonical form, or none."""

from __future__ import annotations

from sse_daemon import ed25519, participant
from sse_daemon.errors import DigestKey, InvalidParticipant
from sse_daemon.participant import Canonical
from tests.fuzz.curve import is_of_prime_order

PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


def is_key(text: str) -> bool:
    """The rule of the contract, word by word."""
    return 1 <= len(text) <= 256 and all(c in PRINTABLE for c in text) and text != "*"


def read(text: str, canonical: Canonical) -> str | None:
    """The canonical form, which is its own; or None if it is no key, and the reason does not repeat a long text."""
    try:
        key = canonical(text)
    except InvalidParticipant as error:
        assert error.code in ("bad_participant", "digest_key")
        assert len(text) < 33 or text not in str(error)
        return None
    assert canonical(key) == key
    return key


def check_opaque(text: str) -> bool:
    """An opaque key is its own canonical form, and every text that the contract calls a key is one."""
    key = read(text, participant.canonical)
    assert key == (text if is_key(text) else None)
    return key is not None


def check_ed25519(text: str) -> bool:
    """A text is exactly a spelling of 32 bytes, and all their spellings are that participant; or it is none."""
    key = read(text, ed25519.canonical)
    if key is None:
        if ed25519.is_digest(text):
            check_digest(text)
        return False
    assert check_opaque(text) and check_opaque(key)
    assert not ed25519.is_digest(text)
    raw = ed25519.raw(text)
    assert is_of_prime_order(raw)
    every = ed25519.spellings(raw)
    assert text in every and key == every.base64url
    assert {ed25519.canonical(spelling) for spelling in every} == {key}
    return True


def check_digest(text: str) -> None:
    """A digest is refused as one."""
    try:
        ed25519.canonical(text)
    except DigestKey as error:
        assert error.code == "digest_key" and text.isascii() and len(text) == 44
    else:
        raise AssertionError("a digest was taken for a key")


def check_bytes(data: bytes) -> bool:
    """What a header or a query may bring as a key, in both ways of reading keys; 32 bytes also as the key itself."""
    text = data.decode("latin-1")
    check_opaque(text)
    accepted = check_ed25519(text)
    if len(data) == ed25519.KEY_BYTES:
        spelled = {check_ed25519(spelling) for spelling in ed25519.spellings(data)}
        assert spelled == {is_of_prime_order(data)}, "one spelling is as good as another"
        accepted |= spelled.pop()
    return accepted
