"""The daemon's own CURVE key and the folder of the producers that may publish, as `[ingest]` names them.

The folder has one file a producer, NAME.toml: its `public_key`, and what it may publish (see `Rights`). Nothing else in the folder
counts, so that an editor's backup gives nobody back what was taken away.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from sse_daemon.config_tables import IngestConfig
from sse_daemon.curve_key import KeyPair, check_key, read_secret, table
from sse_daemon.errors import ConfigError, InvalidParticipant
from sse_daemon.participant import Canonical
from sse_daemon.rights import Rights

MAX_PRODUCERS = 10_000
"""Files in the folder that are looked at; all of them are in memory."""

_FILE = 'a file with a line public_key = "...": what `sse-daemon keygen --curve` prints, never the file that it makes'
_MEMBERS = frozenset({"public_key", "topics", "recipients", "public", "from"})

Authorized = Mapping[str, Rights]
"""By public key."""


class ProducerKeys(NamedTuple):
    """What CURVE needs: who we are, and who may come in."""

    own: KeyPair
    authorized: Authorized
    read_again: Callable[[], tuple[Authorized, list[str]]]
    """Who the folder lets in now, and its mistakes."""


def load(ingest: IngestConfig, read_key: Canonical) -> ProducerKeys | None:
    """What `[ingest] curve_secret` and `authorized_keys` name; None if they are not set. Raises ConfigError with all mistakes."""
    if ingest.curve_secret is None or ingest.authorized_keys is None:
        return None
    mistakes: list[str] = []
    own = None
    try:
        own = read_secret(Path(ingest.curve_secret), os.environ.get("CREDENTIALS_DIRECTORY"))
    except ValueError as error:
        mistakes.append(f"[ingest] curve_secret: {ingest.curve_secret} {error}")
    folder = Path(ingest.authorized_keys)
    authorized, wrong = read_authorized(folder, read_key)
    mistakes += wrong
    if own is None or mistakes:
        raise ConfigError(mistakes)
    return ProducerKeys(own, authorized, lambda: read_authorized(folder, read_key))


def read_authorized(folder: Path, read_key: Canonical) -> tuple[Authorized, list[str]]:
    """Who the folder lets in, and its mistakes, a line each. A file with a mistake lets nobody in."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".toml" and not path.name.startswith("."))
    except OSError as error:
        return {}, [f"[ingest] authorized_keys: {folder} cannot be read: {error.strerror}; a folder with one file a producer"]
    if len(paths) > MAX_PRODUCERS:
        return {}, [f"[ingest] authorized_keys: {folder} has {len(paths)} files; at most {MAX_PRODUCERS}"]
    authorized: dict[str, Rights] = {}
    mistakes = []
    for path in paths:
        try:
            key, rights = _read(path, read_key)
            if key in authorized:
                raise ValueError(f"has the key of {authorized[key].name!r} too; one file a key")
            authorized[key] = rights
        except ValueError as error:
            mistakes.append(f"[ingest] authorized_keys: {path} {error}")
    return authorized, mistakes


def _read(path: Path, read_key: Canonical) -> tuple[str, Rights]:
    found = table(path, _FILE)
    if "secret_key" in found:
        raise ValueError(f"has a secret_key, which is for its producer alone; {_FILE}")
    # A misspelt limit would be none.
    if unknown := sorted(found.keys() - _MEMBERS):
        raise ValueError(f"has {unknown[0]!r}, which is unknown; known are {', '.join(sorted(_MEMBERS))}")
    try:
        key = check_key(found.get("public_key"))
    except ValueError as error:
        raise ValueError(f"public_key: {error}") from None
    return key, _rights(path.stem, found, read_key)


def _rights(name: str, found: Mapping[str, object], read_key: Canonical) -> Rights:
    recipients = _patterns("recipients", found)
    # Whoever was given a list of recipients was not given everybody, unless it says so.
    public = found.get("public", recipients is None)
    if not isinstance(public, bool):
        raise ValueError("public: is neither true nor false")
    if recipients is not None:
        recipients = tuple(_recipient(each, read_key) for each in recipients)
    return Rights(name, _patterns("topics", found), recipients, public, _patterns("from", found))


def _patterns(member: str, found: Mapping[str, object]) -> tuple[str, ...] | None:
    value = found.get(member)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ValueError(f'{member}: is no list of texts; such as ["chat.*"], where * stands for any text')
    return tuple(value)


def _recipient(text: str, read_key: Canonical) -> str:
    """A key in its canonical form, in whichever it was written; a pattern as it is, to be compared with canonical forms."""
    if "*" in text:
        return text
    try:
        return read_key(text)
    except InvalidParticipant as error:
        raise ValueError(f"recipients: {error}") from None
