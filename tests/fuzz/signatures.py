"""Signed requests: whatever the two headers are, they are refused or understood as others understand them, and what verifies was signed."""

from __future__ import annotations

import re
from functools import cache
from types import SimpleNamespace
from typing import Any, TypeAlias

import http_sf
from http_message_signatures import HTTPMessageVerifier, algorithms
from nacl.signing import SigningKey

from sse_daemon import ed25519, signature
from sse_daemon.signature import COMPONENTS, RESUMING, Signed, Terms
from tests.fuzz.targets import FRAME_END

SECRET = SigningKey(b"\1" * 32)
KEY = ed25519.spellings(bytes(SECRET.verify_key)).base64url
"""Whose signatures stand in the seeds."""
TERMS = Terms(1_700_000_000, 1_700_000_030, "6fTFJYTdnEpVEbW8B29vqQ", KEY)
Request: TypeAlias = tuple[str, str, str, str, "str | None"]
REQUESTS: tuple[Request, ...] = (
    ("GET", "events.example.org", "/events", KEY, None),
    ("GET", "127.0.0.1:8080", "/events?types=note&a=?%0a", KEY, None),
    ("GET", "[::1]:8080", "/chats/a/events?", KEY, "0123456789ab-3"),
    ("POST", "events.example.org", "/session", KEY, None),
)
"""What it has signed: method, host, target, key, cursor."""

_LINE = re.compile(r'"([a-z@-]+)": ([ -~]*)')
_PRINTABLE = re.compile(r"[ -~]*")


def check_bytes(data: bytes) -> bool:
    """Lines: Signature-Input and Signature, several values of one with FRAME_END between them; method, host, target, key, cursor.

    True if the request is signed by KEY.
    """
    lines = data.decode("latin-1").split("\n")
    inputs, signatures = (line.split(FRAME_END.decode()) if line else [] for line in (lines + [""] * 2)[:2])
    signed = read(inputs, signatures, resuming=len(lines) > 6)
    if signed is None:
        return False
    check_understood(signed, inputs[0], signatures[0])
    base = base_of(signed, lines[2:])
    if base is None or not ed25519.verify(ed25519.raw(KEY), signed.signature, base):
        return False
    assert base in signed_bases(), "it verifies, and nobody has signed it"
    return True


def read(inputs: list[str], signatures: list[str], *, resuming: bool) -> Signed | None:
    """What is understood; the reason of a refusal repeats nothing."""
    try:
        return signature.read(inputs, signatures, resuming=resuming)
    except ValueError as error:
        assert not any(value in str(error) for value in (*inputs, *signatures) if len(value) > 9)
        return None


def check_understood(signed: Signed, given: str, written: str) -> None:
    """A parser of RFC 9651 reads the same in both headers, and writes it in the same way."""
    ((label, (items, parameters)),) = parsed(given).items()
    assert [(value, dict(more)) for value, more in items] == [(name, {}) for name in signed.components]
    terms = signed.terms._asdict()
    assert dict(parameters) == {**terms, "alg": "ed25519", "tag": "sse-daemon"}
    assert all(type(parameters[name]) is type(value) for name, value in terms.items())
    assert http_sf.ser({label: (items, parameters)}) == given == f"{label}={signed.parameters}"
    assert parsed(written) == {label: (signed.signature, {})}
    assert sorted(signed.components) in (sorted(COMPONENTS), sorted((*COMPONENTS, RESUMING)))
    assert 0 < signed.terms.expires - signed.terms.created <= 60


def parsed(header: str) -> Any:
    """A Dictionary, in which nothing may stand twice."""

    def refuse(key: str, context: str) -> None:
        raise AssertionError(f"{context}: {key} stands twice")

    return http_sf.parse(header.encode("ascii"), tltype="dictionary", on_duplicate_key=refuse)


def base_of(signed: Signed, request: list[str]) -> bytes | None:
    """What is signed of a request: what another implementation signs, from which what it says can be read again. None: refused."""
    method, host, target, key, *rest = (*request, "", "", "", "")
    cursor = rest[0] if len(request) > 4 else None
    path, _, query = target.partition("?")
    try:
        values = signature.values(method, signature.authority(host), path, query, key, cursor)
    except ValueError:
        return None
    try:
        base = signature.base(values, signed.components, signed.parameters)
    except ValueError:
        assert not all(_PRINTABLE.fullmatch(value) for value in values.values())
        return None
    check_base(base, values, signed)
    return base


def check_base(base: bytes, values: dict[str, str], signed: Signed) -> None:
    """Two requests never have one base: whatever is in it can be read again, line by line."""
    *lines, last = base.decode().split("\n")
    found = [_LINE.fullmatch(line) for line in lines]
    assert [(match[1], match[2]) for match in found if match] == [(name, values[name]) for name in signed.components]
    assert len(lines) == len(values) and last == f'"@signature-params": {signed.parameters}'
    if all(value == value.strip(" ") for value in values.values()):
        assert others_base(values, signed) == base


def others_base(values: dict[str, str], signed: Signed) -> bytes:
    """The same by another implementation."""
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=None)  # type: ignore[arg-type]
    node = verifier._parse_signature_dictionary(f"sig={signed.parameters}")["sig"]
    resolver = SimpleNamespace(resolve=lambda component: values[component.value])
    base, _, _ = verifier._build_signature_base(
        None, covered_component_ids=list(node), signature_params=dict(node.params), component_resolver=resolver
    )
    return str(base).encode()


@cache
def signed_bases() -> frozenset[bytes]:
    """Everything that KEY has ever signed."""
    return frozenset(others_base(values, Signed(tuple(values), text, TERMS, b"")) for values, text in map(_written, REQUESTS))


def signed_lines() -> list[bytes]:
    """The same as seeds: the two headers, and the request."""
    found = []
    for request in REQUESTS:
        values, text = _written(request)
        headers = signature.headers(text, SECRET.sign(others_base(values, Signed(tuple(values), text, TERMS, b""))).signature)
        found.append("\n".join([*headers.values(), *(part for part in request if part is not None)]).encode())
    return found


def _written(request: Request) -> tuple[dict[str, str], str]:
    method, host, target, key, cursor = request
    path, _, query = target.partition("?")
    values = signature.values(method, host, path, query, key, cursor)
    return values, signature.parameters(tuple(values), TERMS)
