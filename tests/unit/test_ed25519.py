"""Keys: every spelling of one is one, everything else is none. Vectors are others'; the curve's arithmetic is done again."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from sse_daemon import ed25519
from sse_daemon.ed25519 import Spellings, canonical, is_digest, raw, spellings
from sse_daemon.errors import DigestKey, InvalidParticipant
from tests.fuzz.curve import ZERO, P, add, decoded, encoded, is_of_prime_order, of_small_order, times

SIZES = (43, 44, 56, 64)
"""The lengths that a spelling can have."""
CHARACTERS = "".join(map(chr, range(0x20, 0x7F))) + "\n\t\0é\u0661"
"""What may stand in the place of one that belongs: all printable ASCII, controls, and a digit that is none of ours."""

# RFC 8032, 7.1, test 1, with its JWK in RFC 8037, A.2; keripy's tests; the did:key specification's example.
VECTORS = [
    ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"),
    ("694e894769e6c3267e8b477c2590284cd647dd42ef6007d254fce1cd2e9be423", "BGlOiUdp5sMmfotHfCWQKEzWR91C72AH0lT84c0um-Qj"),
    (
        "2e6fcce36701dc791488e0d0b1745cc1e33a4c1c9fcc41c63bd343dbbe0970e6",
        "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
    ),
]
KEY = bytes.fromhex(VECTORS[0][0])

keys = st.binary(min_size=32, max_size=32).map(lambda seed: bytes(SigningKey(seed).verify_key))


def refused(text: str) -> str:
    """Why it is no key; the reason does not repeat it."""
    with pytest.raises(InvalidParticipant) as caught:
        canonical(text)
    assert caught.value.code == "bad_participant"
    assert len(text) < 40 or text not in str(caught.value)
    return str(caught.value)


# Spellings --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("digits", "text"), VECTORS)
def test_others_spell_keys_as_we_do(digits: str, text: str) -> None:
    assert raw(text) == raw(digits) == bytes.fromhex(digits)
    assert text in spellings(bytes.fromhex(digits))


@given(keys)
def test_every_spelling_of_a_key_is_the_same_participant(key: bytes) -> None:
    every = spellings(key)
    assert {canonical(text) for text in every} == {every.base64url}
    assert {raw(text) for text in every} == {key}
    assert [len(text) for text in every] == [43, 64, 64, 44, 44, 56]
    assert every.base64url == urlsafe_b64encode(key).decode()[:43]


@given(keys, keys)
def test_two_keys_are_two_participants(one: bytes, other: bytes) -> None:
    shared = set(spellings(one)) & set(spellings(other))
    assert bool(shared) == (one == other)


@pytest.mark.parametrize("name", Spellings._fields)
def test_a_changed_character_makes_another_key_or_none(name: str) -> None:
    text = getattr(spellings(KEY), name)
    valid = 0
    for place in range(len(text)):
        for character in CHARACTERS:
            changed = text[:place] + character + text[place + 1 :]
            if changed in spellings(KEY):
                continue  # itself, or CESR's other code
            try:
                other = raw(changed)
            except InvalidParticipant:
                continue
            assert other != KEY
            assert changed in spellings(other)
            valid += 1
    assert valid > 20, "else everything is refused, which would pass as well"


@given(st.one_of([st.text(alphabet, min_size=n, max_size=n) for n in SIZES for alphabet in ("019azAZ_-", CHARACTERS)]))
def test_any_text_of_the_right_length_is_exactly_a_spelling_or_refused(text: str) -> None:
    try:
        key = raw(text)
    except InvalidParticipant:
        return
    assert text in spellings(key)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    refused(text)


SPELLED = spellings(KEY)
PADDED = urlsafe_b64encode(KEY).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "alice",
        PADDED,
        PADDED + "=",
        b64encode(KEY).decode().rstrip("="),  # of this key it has a / where base64url has _
        SPELLED.base64url[:-1],
        SPELLED.base64url + "A",
        " " + SPELLED.base64url[1:],
        SPELLED.base64url[:-1] + "\n",
        SPELLED.base64url[:-1] + "p",  # bits that have to be zero: o is what the last four of the key's bits are
        SPELLED.base64url[:-1] + "r",
        SPELLED.hex + "\n",
        "0x" + SPELLED.hex,
        "0x" + SPELLED.hex[2:],
        SPELLED.hex[:2] + " " + SPELLED.hex[3:],
        SPELLED.hex[:32] + SPELLED.hex_upper[32:],
        "D" + "Q" + SPELLED.cesr_d[2:],  # bits of the pad byte
        "C" + SPELLED.cesr_d[1:],  # X25519
        "A" + SPELLED.cesr_d[1:],  # a private seed
        "1" + SPELLED.cesr_d[1:],
        "d" + SPELLED.cesr_d[1:],
        SPELLED.did_key.upper(),
        "DID" + SPELLED.did_key[3:],
        "did:key:Z" + SPELLED.did_key[9:],
        "did:web:z" + SPELLED.did_key[9:],
        SPELLED.did_key[8:],
        SPELLED.did_key + "#" + SPELLED.did_key[8:],
        SPELLED.did_key.replace("6Mk", "6LS"),  # X25519's multicodec
        "did:key:z" + "z" * 47,  # a number of more bytes
        "did:key:z" + "1" * 47,
        "did:key:z" + "0" * 47,  # no digit of base58
        "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in SPELLED.hex),  # full-width digits
    ],
)
def test_what_is_nearly_a_key_is_none(text: str) -> None:
    refused(text)


@pytest.mark.parametrize("value", [None, 0, 1.5, True, [SPELLED.base64url], {"a": 1}, ["E"] * 44, dict.fromkeys(range(44))])
def test_what_is_no_text_is_a_type_error(value: object) -> None:
    with pytest.raises((TypeError, InvalidParticipant)):
        canonical(value)  # type: ignore[arg-type]


# Digests ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", "EFGHI")
def test_a_digest_is_refused_as_one(code: str) -> None:
    text = code + SPELLED.cesr_d[1:]
    assert is_digest(text)
    with pytest.raises(DigestKey) as caught:
        canonical(text)
    assert caught.value.code == "digest_key" and "key_resolver" in str(caught.value) and text not in str(caught.value)


@pytest.mark.parametrize("tail", ["Q" + SPELLED.cesr_d[2:], SPELLED.cesr_d[1:-1] + "=", "A" * 42 + " ", "é" * 43])
def test_what_only_begins_like_a_digest_is_none(tail: str) -> None:
    assert not is_digest("E" + tail)
    refused("E" + tail)


@pytest.mark.parametrize("text", ["", "E", *SPELLED, "E" + SPELLED.cesr_d])
def test_a_key_is_no_digest(text: str) -> None:
    assert not is_digest(text)


# Points -----------------------------------------------------------------------------------------------------------------------

WEAK = of_small_order()


def test_there_are_fourteen_weak_encodings() -> None:
    assert len(set(WEAK)) == 14
    for key in WEAK:
        point = decoded(key, strict=False)
        assert point is not None and times(8, point) == ZERO
    assert sum(decoded(key) is not None for key in WEAK) == 8, "the others are no canonical encodings"


@pytest.mark.parametrize("key", WEAK, ids=bytes.hex)
def test_a_weak_key_is_refused_in_every_spelling(key: bytes) -> None:
    for text in spellings(key):
        assert "prime-order" in refused(text)


def test_a_point_with_a_torsion_part_is_refused() -> None:
    point = decoded(KEY)
    assert point is not None and encoded(point) == KEY
    for weak in filter(None, map(decoded, WEAK)):
        mixed = encoded(add(point, weak))
        if mixed != KEY:
            assert "prime-order" in refused(mixed.hex())


@given(st.one_of(st.binary(min_size=32, max_size=32), keys, st.integers(P, 2**255 - 1).map(lambda y: y.to_bytes(32, "little"))))
@settings(max_examples=60, deadline=None)
def test_a_key_is_a_point_of_prime_order_in_its_one_encoding(key: bytes) -> None:
    if is_of_prime_order(key):
        ed25519.check(key)
    else:
        with pytest.raises(InvalidParticipant):
            ed25519.check(key)
