from __future__ import annotations

import os
import stat
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from sse_daemon import ed25519, signature
from sse_daemon.errors import KeyFileError
from sse_daemon.signer import Signer, generate

# RFC 8032, 7.1, test 1.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"


def key_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_public_key_is_the_secret_ones(tmp_path: Path) -> None:
    assert Signer(SEED).public == PUBLIC
    text = urlsafe_b64encode(SEED).decode().rstrip("=")
    for ending in ("", "\n"):
        assert Signer.from_file(key_file(tmp_path / "key", text + ending)).public == PUBLIC


def test_what_is_made_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        made = generate(tmp_path / "key")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert Signer.from_file(tmp_path / "key").public == made.public
    assert ed25519.canonical(made.public) == made.public
    assert generate(tmp_path / "other").public != made.public


def test_a_file_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = key_file(tmp_path / "key", "precious")
    with pytest.raises(KeyFileError, match="exists already"):
        generate(path)
    assert path.read_text() == "precious"
    with pytest.raises(KeyFileError, match="No such file"):
        generate(tmp_path / "nowhere" / "key")


TEXT = urlsafe_b64encode(SEED).decode().rstrip("=")


@pytest.mark.parametrize(
    "text", ["", "\n", TEXT[:-1], TEXT + "A", TEXT + "=", TEXT + "\n\n", " " + TEXT, TEXT[:-1] + "B", SEED.hex(), TEXT[:-1] + "é"]
)
def test_what_is_no_key_file_is_refused_without_repeating_it(tmp_path: Path, text: str) -> None:
    path = key_file(tmp_path / "key", text)
    with pytest.raises(KeyFileError, match="no key file") as caught:
        Signer.from_file(path)
    assert len(text) < 40 or text[:20] not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o666])
def test_a_key_that_others_can_read_is_none(tmp_path: Path, mode: int) -> None:
    with pytest.raises(KeyFileError, match="chmod 600"):
        Signer.from_file(key_file(tmp_path / "key", TEXT, mode))


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        Signer.from_file(tmp_path / "key")
    with pytest.raises(KeyFileError, match="directory"):
        Signer.from_file(tmp_path)


@pytest.mark.parametrize("cursor", [None, "0123456789ab-7", ""])
def test_what_it_signs_is_what_is_verified(cursor: str | None) -> None:
    signer = Signer(SEED)
    headers = signer.headers("POST", "Example.org:443", "/a", "b=c&d", cursor)
    signed = signature.read([headers["Signature-Input"]], [headers["Signature"]], resuming=cursor is not None)
    values = signature.values("POST", "example.org", "/a", "b=c&d", PUBLIC, cursor)
    base = signature.base(values, signed.components, signed.parameters)
    assert ed25519.verify(ed25519.raw(PUBLIC), signed.signature, base)
    assert not ed25519.verify(ed25519.raw(PUBLIC), signed.signature, base.replace(b"/a", b"/b"))
    assert headers["X-Public-Key"] == signed.terms.keyid == PUBLIC


def test_no_two_signatures_are_the_same() -> None:
    signer = Signer(SEED)
    assert len({signer.headers("GET", "h", "/", "")["Signature"] for _ in range(100)}) == 100


def test_it_signs_by_the_servers_clock() -> None:
    signer = Signer(SEED)
    before = _created(signer)
    signer.ahead = -3600.0
    assert -3601 <= _created(signer) - before <= -3598


def _created(signer: Signer) -> int:
    headers = signer.headers("GET", "h", "/", "")
    return signature.read([headers["Signature-Input"]], [headers["Signature"]], resuming=False).terms.created


def test_the_secret_is_not_shown() -> None:
    assert SEED.hex() not in repr(Signer(SEED)) and TEXT not in repr(Signer(SEED))
