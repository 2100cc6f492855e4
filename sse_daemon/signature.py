"""A signed request by RFC 9421, in the one shape that this project speaks: what is signed, and the two headers that carry it. Pure.

Of the RFC's many ways to say the same thing exactly one is read: one signature, these components and no other, these parameters and
no other, no optional spaces, no escapes. So what a verifier rebuilds is what stands in the headers, letter by letter
(docs/decisions/0015-signed-requests.md).
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import NamedTuple

COMPONENTS = ("@method", "@authority", "@path", "@query", "x-public-key")
RESUMING = "last-event-id"
"""Covered as well by a request that has this header."""
ALGORITHM = "ed25519"
TAG = "sse-daemon"
LIFETIME = 60
"""The most seconds between `created` and `expires`."""
MAX_INPUT = 1024
"""Characters of a Signature-Input header: twice what ours have."""

_PARAMETERS = frozenset({"created", "expires", "nonce", "keyid", "alg", "tag"})
_LABEL = r"[a-z*][a-z0-9_.*-]{0,63}"
_VALUE = r'0|[1-9][0-9]{0,14}|"[ !#-\[\]-~]{0,256}"'
_PARAMETER = re.compile(rf";([a-z]+)=({_VALUE})")
_INPUT = re.compile(rf'({_LABEL})=(\(("[a-z@-]+"(?: "[a-z@-]+")*)\)((?:;[a-z]+=(?:{_VALUE}))*))')
_SIGNATURE = re.compile(rf"({_LABEL})=:([A-Za-z0-9+/]{{86}}==):")
_PRINTABLE = re.compile(r"[ -~]*")
# 128 bits and more, as base64, base64url or hexadecimal: what has only hexadecimal digits needs more of them.
_NONCE = re.compile(r"[A-Za-z0-9+/_=-]{22,88}")
_HEX = re.compile(r"[0-9a-f]{0,31}|[0-9A-F]{0,31}")
_AUTHORITY = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


class Terms(NamedTuple):
    """What a signature says of itself: Unix seconds, something never used before, and the name of the key."""

    created: int
    expires: int
    nonce: str
    keyid: str


class Signed(NamedTuple):
    """The two headers of a signed request, read. parameters: the text that is signed for "@signature-params"."""

    components: tuple[str, ...]
    parameters: str
    terms: Terms
    signature: bytes


def authority(host: str) -> str:
    """A Host header as it is signed (RFC 9421, 2.2.3): in lower case, without a default port. Raises ValueError.

    Whether the client spoke http or https is not known behind a proxy: of 80 and 443 both are taken for the default.
    """
    if _AUTHORITY.fullmatch(host) is None:
        raise ValueError("the Host header names no host")
    return re.sub(r":(80|443)$", "", host).lower()


def values(method: str, authority: str, path: str, query: str, key: str, last_event_id: str | None) -> dict[str, str]:
    """The components of a request, as they are signed.

    path, query: as they stand in the request line, on either side of the first question mark. key, last_event_id: the headers.
    """
    found = dict(zip(COMPONENTS, (method, authority, path, "?" + query, key), strict=True))
    return found if last_event_id is None else {**found, RESUMING: last_event_id}


def base(values: Mapping[str, str], components: Sequence[str], parameters: str) -> bytes:
    """The bytes that are signed (RFC 9421, 2.5). Raises ValueError for values that no signature can cover."""
    if not all(_PRINTABLE.fullmatch(values[name]) for name in components):
        raise ValueError("what is signed is printable ASCII")
    lines = [f'"{name}": {values[name]}' for name in components]
    return "\n".join([*lines, f'"@signature-params": {parameters}']).encode()


def parameters(components: Sequence[str], terms: Terms) -> str:
    """The signed text about the signature itself, which is also what stands behind the label in Signature-Input."""
    names = " ".join(f'"{name}"' for name in components)
    return (
        f'({names});created={terms.created};expires={terms.expires};nonce="{terms.nonce}";keyid="{terms.keyid}"'
        f';alg="{ALGORITHM}";tag="{TAG}"'
    )


def headers(parameters: str, signature: bytes) -> dict[str, str]:
    """The two headers."""
    return {"Signature-Input": f"sig={parameters}", "Signature": f"sig=:{b64encode(signature).decode()}:"}


def read(inputs: Sequence[str], signatures: Sequence[str], *, resuming: bool) -> Signed:
    """The values of the headers Signature-Input and Signature, understood. resuming: the request has a Last-Event-ID.

    Nothing is verified. Raises ValueError, which says what is wrong without repeating any of it.
    """
    if len(inputs) != 1 or len(signatures) != 1:
        raise ValueError("a request has one Signature-Input and one Signature")
    found = _INPUT.fullmatch(inputs[0]) if len(inputs[0]) <= MAX_INPUT else None
    signed = _SIGNATURE.fullmatch(signatures[0])
    if found is None or signed is None or found[1] != signed[1]:
        raise ValueError("the signature is not one Ed25519 signature under one label, in its shortest form")
    signature = b64decode(signed[2])
    if b64encode(signature).decode() != signed[2]:
        raise ValueError("the signature's base64 has bits that have to be zero")
    components = tuple(found[3][1:-1].split('" "'))
    wanted = (*COMPONENTS, RESUMING) if resuming else COMPONENTS
    if sorted(components) != sorted(wanted):
        raise ValueError(f"the signature covers exactly {', '.join(wanted)}")
    return Signed(components, found[2], _terms(_PARAMETER.findall(found[4])), signature)


def _terms(pairs: Sequence[tuple[str, str]]) -> Terms:
    given = dict(pairs)
    if len(pairs) != len(given) or given.keys() != _PARAMETERS:
        raise ValueError("the signature has the parameters created, expires, nonce, keyid, alg and tag, each once")
    if (given["alg"], given["tag"]) != (f'"{ALGORITHM}"', f'"{TAG}"'):
        raise ValueError(f"the signature is of alg {ALGORITHM} and has the tag {TAG}")
    created, expires = _whole(given["created"]), _whole(given["expires"])
    if not 0 < expires - created <= LIFETIME:
        raise ValueError(f"a signature expires after it was created, and at most {LIFETIME} seconds later")
    nonce, keyid = _text(given["nonce"]), _text(given["keyid"])
    if not _NONCE.fullmatch(nonce) or _HEX.fullmatch(nonce):
        raise ValueError("the nonce is at least 128 random bits, in hexadecimal or base64")
    return Terms(created, expires, nonce, keyid)


def _whole(text: str) -> int:
    if text.startswith('"'):
        raise ValueError("created and expires are whole numbers")
    return int(text)


def _text(text: str) -> str:
    if not text.startswith('"'):
        raise ValueError("nonce and keyid are texts")
    return text[1:-1]
