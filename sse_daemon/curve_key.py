"""CURVE keys (https://rfc.zeromq.org/spec/26/): their text form, and the files that keep them.

A key is 32 bytes, written as 40 characters of Z85 (https://rfc.zeromq.org/spec/32/). A secret's file is TOML with `public_key` and
`secret_key`, and only its owner may read it.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import NamedTuple

import zmq

from sse_daemon import key_file

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_DIGITS = {character: digit for digit, character in enumerate(_ALPHABET)}
LENGTH = 40

_SECRET_FILE = "a file as `sse-daemon keygen --curve` makes it"


class KeyPair(NamedTuple):
    """Both halves of a key, as Z85. It does not show its secret half."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"KeyPair({self.public!r})"


class Curve(NamedTuple):
    """What a producer needs for CURVE: its own key, and the daemon's public one."""

    own: KeyPair
    server: str

    @classmethod
    def read(cls, key_file: str | Path, server_key: str) -> Curve:
        """From the producer's key file, and the daemon's public key as text. Raises ValueError."""
        try:
            own = read_secret(Path(key_file))
        except ValueError as error:
            raise ValueError(f"{key_file} {error}") from None
        try:
            return cls(own, check_key(server_key))
        except ValueError as error:
            raise ValueError(f"the daemon's key is {error}") from None


def check_key(text: object) -> str:
    """`text`, if it is a key in its one spelling. Raises ValueError, and does not repeat it: it may be the secret half of one.

    Five characters are 32 bits, so that the larger ones of what five can say would be second spellings of others.
    """
    if not isinstance(text, str) or len(text) != LENGTH or not _DIGITS.keys() >= set(text):
        raise ValueError(f"no key; {LENGTH} characters of Z85, as `sse-daemon keygen --curve` prints them")
    for at in range(0, LENGTH, 5):
        value = 0
        for character in text[at : at + 5]:
            value = value * 85 + _DIGITS[character]
        if value >= 1 << 32:
            raise ValueError("no key: it is no spelling of any bytes")
    return text


def generate() -> KeyPair:
    """A new key."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def write_secret(path: Path, pair: KeyPair) -> None:
    """Makes the file that `read_secret` reads. Raises OSError, FileExistsError among them: no key is ever written over."""
    text = (
        "# A CURVE key for ZeroMQ: whoever has this file is its owner. Only the public half may be given to others.\n"
        f'public_key = "{pair.public}"\nsecret_key = "{pair.secret}"\n'
    )
    # The mode is there from the first moment on, whatever the umask.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)


def read_secret(path: Path, credentials: str | None = None) -> KeyPair:
    """The key in a file. Raises ValueError with what is wrong and what would be right; never with any of the content.

    credentials: a folder whose files are not for others whatever their mode looks like, as systemd's CREDENTIALS_DIRECTORY: it lets
    the service's user read them by an access list, which shows as the group's bits.
    """
    guarded = credentials is not None and path.parent == Path(credentials)
    return _pair(table(path, _SECRET_FILE, 0o007 if guarded else 0o077))


def table(path: Path, wanted: str, forbidden: int = 0) -> dict[str, object]:
    """The TOML in a key's file. wanted: what would be right; forbidden: the bits of a mode that let others read it.

    Raises ValueError like `read_secret`.
    """
    content = key_file.read(path, "a key's file", forbidden, "others may read the key; chmod 600")
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ValueError(f"is not TOML; {wanted}") from None


def _pair(found: dict[str, object]) -> KeyPair:
    try:
        secret = check_key(found.get("secret_key"))
        public = zmq.curve_public(secret.encode()).decode()
    except ValueError:
        raise ValueError(f"has no secret_key; {_SECRET_FILE}") from None
    if found.get("public_key", public) != public:
        raise ValueError("has a public_key that does not belong to its secret_key; the file as it was made")
    return KeyPair(public, secret)
