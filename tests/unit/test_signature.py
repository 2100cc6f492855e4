"""The signed shape: exactly it, and what the RFC and another implementation make of it."""

from __future__ import annotations

import datetime
import re
from base64 import b64decode
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, algorithms
from http_message_signatures.resolvers import MappingKeyResolver
from hypothesis import given
from hypothesis import strategies as st

from sse_daemon import ed25519, signature
from sse_daemon.signature import COMPONENTS, RESUMING, Terms
from sse_daemon.signer import Signer

TERMS = Terms(1_700_000_000, 1_700_000_030, "n0nce-of-128-bits-and-m", "key")
INPUT = "sig=" + signature.parameters(COMPONENTS, TERMS)
SIGNATURE = signature.headers("", bytes(64))["Signature"]


def read(given: str = INPUT, signed: str = SIGNATURE, resuming: bool = False) -> signature.Signed:
    return signature.read([given], [signed], resuming=resuming)


def test_what_is_written_is_read() -> None:
    found = read()
    assert found == (COMPONENTS, INPUT.removeprefix("sig="), TERMS, bytes(64))
    resuming = "sig=" + signature.parameters((*COMPONENTS, RESUMING), TERMS)
    assert read(resuming, resuming=True).components == (*COMPONENTS, RESUMING)


def test_the_order_of_components_and_parameters_is_the_signers() -> None:
    turned = (
        'a=("@query" "x-public-key" "@method" "@path" "@authority")'
        ';tag="sse-daemon";alg="ed25519";keyid="key";nonce="n0nce-of-128-bits-and-m";expires=1700000030;created=1700000000'
    )
    found = read(turned, SIGNATURE.replace("sig=", "a="))
    assert found.components[0] == "@query"
    assert found.terms == TERMS
    assert found.parameters == turned.removeprefix("a=")


WRONG = {
    "nothing": "",
    "two signatures": f"{INPUT}, other={INPUT.partition('=')[2]}",
    "a component too few": INPUT.replace(' "@query"', ""),
    "a component too many": INPUT.replace(' "x-public-key"', ' "x-public-key" "host"'),
    "a component twice": INPUT.replace(' "@query"', ' "@path"'),
    "a component with a parameter": INPUT.replace('"x-public-key"', '"x-public-key";sf'),
    "the cursor, which was not sent": INPUT.replace('"x-public-key"', '"x-public-key" "last-event-id"'),
    "no components": re.sub(r"\(.*\)", "()", INPUT),
    "no created": INPUT.replace(";created=1700000000", ""),
    "no expires": INPUT.replace(";expires=1700000030", ""),
    "no nonce": INPUT.replace(f';nonce="{TERMS.nonce}"', ""),
    "no keyid": INPUT.replace(';keyid="key"', ""),
    "no alg": INPUT.replace(';alg="ed25519"', ""),
    "no tag": INPUT.replace(';tag="sse-daemon"', ""),
    "a parameter more": INPUT + ';more="x"',
    "a parameter twice": INPUT + ";created=1700000000",
    "another algorithm": INPUT.replace("ed25519", "hmac-sha256"),
    "another tag": INPUT.replace('tag="sse-daemon"', 'tag="other"'),
    "a created that is a text": INPUT.replace("created=1700000000", 'created="1700000000"'),
    "a created that is a fraction": INPUT.replace("created=1700000000", "created=1700000000.0"),
    "a created below zero": INPUT.replace("created=1700000000", "created=-1"),
    "a created of many digits": INPUT.replace("created=1700000000", "created=" + "1" * 16),
    "other digits": INPUT.replace("created=1700000000", "created=١٧٠٠٠٠٠٠٠٠"),
    "a leading zero": INPUT.replace("created=1700000000", "created=01700000000"),
    "a nonce that is a number": INPUT.replace(f'"{TERMS.nonce}"', "1"),
    "a short nonce": INPUT.replace(TERMS.nonce, "n0nce-of-less-bits-it"),
    "a short nonce in hexadecimal": INPUT.replace(TERMS.nonce, "0123456789abcdef0123456789abcde"),
    "a nonce with an escape": INPUT.replace(TERMS.nonce, 'n0nce-of-128-bits-and-\\"m'),
    "a life without length": INPUT.replace("1700000030", "1700000000"),
    "a life backwards": INPUT.replace("1700000030", "1699999999"),
    "a life too long": INPUT.replace("1700000030", "1700000061"),
    "spaces": INPUT.replace(";created", "; created"),
    "two spaces": INPUT.replace('" "', '"  "'),
    "a tab": INPUT.replace('" "', '"\t"'),
    "an upper-case label": INPUT.replace("sig=", "Sig="),
    "another label": INPUT.replace("sig=", "gis="),
    "something behind it": INPUT + " ",
    "a line behind it": INPUT + "\n",
    "too much": INPUT.replace('keyid="key"', f'keyid="{"k" * 255}"') + ";x=1" * 250,
}


@pytest.mark.parametrize("kind", WRONG)
def test_nothing_else_is_read(kind: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(WRONG[kind])
    assert "1700" not in str(caught.value) and TERMS.nonce not in str(caught.value)


SIGNATURES = {
    "nothing": "",
    "two": f"{SIGNATURE}, b=:{'A' * 86}==:",
    "short": f"sig=:{'A' * 84}:",
    "long": f"sig=:{'A' * 88}==:",
    "unpadded": f"sig=:{'A' * 86}:",
    "with bits that nobody needs": f"sig=:{'A' * 85}B==:",
    "base64url": f"sig=:{'-' * 85}A==:",
    "no bytes": f'sig="{"A" * 86}=="',
    "with a parameter": SIGNATURE + ";x",
}


@pytest.mark.parametrize("kind", SIGNATURES)
def test_a_signature_is_64_bytes_spelled_in_one_way(kind: str) -> None:
    with pytest.raises(ValueError):
        read(signed=SIGNATURES[kind])


@pytest.mark.parametrize(
    ("inputs", "signatures"), [([], [SIGNATURE]), ([INPUT], []), ([INPUT] * 2, [SIGNATURE]), ([INPUT], [SIGNATURE] * 2)]
)
def test_each_header_stands_once(inputs: list[str], signatures: list[str]) -> None:
    with pytest.raises(ValueError, match="one Signature-Input"):
        signature.read(inputs, signatures, resuming=False)


def test_a_cursor_that_is_sent_is_covered() -> None:
    with pytest.raises(ValueError, match="last-event-id"):
        read(resuming=True)


@given(st.text(max_size=300))
def test_whatever_it_is_it_is_read_or_refused(text: str) -> None:
    for given_ in (text, INPUT + text, text + INPUT, INPUT.replace("key", text)):
        try:
            found = read(given_)
        except ValueError:
            continue
        assert f"sig={found.parameters}" == given_


@pytest.mark.parametrize(
    ("host", "normal"),
    [
        ("Example.ORG", "example.org"),
        ("a:8080", "a:8080"),
        ("a:80", "a"),
        ("a:443", "a"),
        ("[::1]:80", "[::1]"),
        ("[::A]:1", "[::a]:1"),
    ],
)
def test_a_host_has_one_form(host: str, normal: str) -> None:
    assert signature.authority(host) == normal


@pytest.mark.parametrize("host", ["", "a b", "a/b", "a:b", "user@a", "a:80:80", "é", "a\n", "a,b", "[::1"])
def test_what_is_no_host_has_none(host: str) -> None:
    with pytest.raises(ValueError):
        signature.authority(host)


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "\0", "é", "\x7f", "\t"])
def test_nothing_of_a_request_becomes_a_line_of_its_own(value: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        signature.base({"@path": value}, ["@path"], "()")


# RFC 9421, B.2.6: a request signed with the Ed25519 key of B.1.4.
RFC_KEY = b64decode("MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=")[-32:]
RFC_PARAMETERS = (
    '("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"'
)
RFC_VALUES = {
    "date": "Tue, 20 Apr 2021 02:07:55 GMT",
    "@method": "POST",
    "@path": "/foo",
    "@authority": "example.com",
    "content-type": "application/json",
    "content-length": "18",
}
RFC_SIGNATURE = b64decode("wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==")


def test_the_rfcs_own_example_verifies() -> None:
    base = signature.base(RFC_VALUES, tuple(RFC_VALUES), RFC_PARAMETERS)
    assert base.endswith(b'"@signature-params": ' + RFC_PARAMETERS.encode())
    assert ed25519.verify(RFC_KEY, RFC_SIGNATURE, base)
    assert not ed25519.verify(RFC_KEY, RFC_SIGNATURE, base + b"\n")


# Another implementation, in both directions.

SEED = bytes(range(32))
URLS = (
    "http://127.0.0.1:8080/events",
    "https://Events.example.org/a/b?types=x,y&public_key=%41+b",
    "http://h:80/?",
    "http://h/e?a=?b#f",
)


def request(url: str, headers: dict[str, str]) -> Any:
    return SimpleNamespace(method="GET", url=url, headers=headers)


def parts(url: str) -> tuple[str, str, str]:
    """Host header, path and query of a request for this URL."""
    authority, _, target = url.partition("://")[2].partition("/")
    path, _, query = ("/" + target.partition("#")[0]).partition("?")
    return authority, path, query


def resolver(public: str) -> MappingKeyResolver:
    secret = Ed25519PrivateKey.from_private_bytes(SEED)
    return MappingKeyResolver(public_keys={public: secret.public_key()}, private_keys={public: secret})


@pytest.mark.parametrize("cursor", [None, "abc-12"])
@pytest.mark.parametrize("url", URLS)
def test_another_implementation_accepts_ours(url: str, cursor: str | None) -> None:
    signer = Signer(SEED)
    host, path, query = parts(url)
    headers = {**signer.headers("GET", host, path, query, cursor), **({} if cursor is None else {"Last-Event-ID": cursor})}
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=resolver(signer.public))
    (result,) = verifier.verify(request(url, headers), expect_tag="sse-daemon", require_components=COMPONENTS)
    assert ('"last-event-id"' in result.covered_components) == (cursor is not None)


@pytest.mark.parametrize("url", URLS)
def test_ours_accepts_another_implementations(url: str) -> None:
    public = Signer(SEED).public
    headers = {"X-Public-Key": public}
    now = datetime.datetime.now(tz=datetime.UTC).replace(microsecond=0)
    HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=resolver(public)).sign(
        request(url, headers),
        key_id=public,
        created=now,
        expires=now + datetime.timedelta(seconds=60),
        nonce="0123456789abcdef0123456789abcdef",
        tag="sse-daemon",
        covered_component_ids=COMPONENTS,
    )
    found = signature.read([headers["Signature-Input"]], [headers["Signature"]], resuming=False)
    host, path, query = parts(url)
    values = signature.values("GET", signature.authority(host), path, query, public, None)
    assert ed25519.verify(ed25519.raw(public), found.signature, signature.base(values, found.components, found.parameters))
