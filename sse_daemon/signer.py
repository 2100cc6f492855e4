"""Signing requests, for clients: a participant's secret key, the file that it is kept in, and the headers that prove it.

    signer = Signer.from_file("alice.key")
    headers = signer.headers("GET", "127.0.0.1:8080", "/events", "types=note", last_event_id=None)

The file holds the 32 secret bytes (the seed of RFC 8032) as 43 characters base64url on one line; only its owner may read it.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Self

from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_seed_keypair

from sse_daemon import signature
from sse_daemon.errors import KeyFileError

SEED_BYTES = 32
LASTS = 30
"""Seconds that a signature of ours is good for: half of what is allowed."""

_LINE = re.compile(r"([A-Za-z0-9_-]{43})\n?")


class Signer:
    """Signs as one participant. public: its key, base64url. ahead: seconds by which the server's clock is ahead of ours."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes")
        public, self._secret = crypto_sign_seed_keypair(seed)
        self.public = _text(public)
        self.ahead = 0.0

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a key file. Raises KeyFileError, which does not repeat what is in it."""
        try:
            with open(path, encoding="ascii") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    raise KeyFileError(f"{path}: others than its owner may read or write it; chmod 600")
                found = _LINE.fullmatch(file.read(100))
        except OSError as error:
            raise KeyFileError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError:
            found = None
        seed = urlsafe_b64decode(found[1] + "=") if found else b""
        if found is None or _text(seed) != found[1]:
            raise KeyFileError(f"{path}: it is no key file; `sse-daemon keygen` makes one")
        return cls(seed)

    def headers(self, method: str, host: str, path: str, query: str, last_event_id: str | None = None) -> dict[str, str]:
        """The headers to add to this request, of which each can be used once.

        host: as in the Host header; path, query: as they will be sent; last_event_id: the value of that header, None without it.
        """
        created = int(time.time() + self.ahead)
        terms = signature.Terms(created, created + LASTS, secrets.token_urlsafe(24), self.public)
        covered = signature.values(method, signature.authority(host), path, query, self.public, last_event_id)
        parameters = signature.parameters(tuple(covered), terms)
        signed = crypto_sign(signature.base(covered, tuple(covered), parameters), self._secret)[:crypto_sign_BYTES]
        return {"X-Public-Key": self.public, **signature.headers(parameters, signed)}


def generate(path: str | os.PathLike[str]) -> Signer:
    """A new key, in a new file. Raises KeyFileError; a file that is there is never replaced."""
    seed = secrets.token_bytes(SEED_BYTES)
    try:
        # With its mode from the start: what others could read for a moment would be theirs as well.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{path}: exists already, and a key that is gone cannot be made again") from None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    try:
        with open(fd, "w", encoding="ascii") as file:
            file.write(_text(seed) + "\n")
            file.flush()
            os.fsync(fd)
    except OSError as error:
        os.unlink(path)
        raise KeyFileError(f"{path}: {error.strerror}") from None
    return Signer(seed)


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")
