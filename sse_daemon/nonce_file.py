"""The nonces on disk, so that a signature that was used before a restart is known after it.

A file of one line, which says in which run of the kernel it was written, and a record of fixed length for each nonce. A record is
one write, and nothing is ever synced: what was written outlives the process in any case, and after a crash of the machine the line
names another run of the kernel. Then nothing that stands there is believed to be complete, and whoever opened the file is told so.
Where nobody says which run this is, none is believed to be the same.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from sse_daemon.errors import AuthUnusable

NAME = "nonces"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
DIGEST = 16
"""Bytes of a nonce's digest."""

_RECORD = struct.Struct(f">{DIGEST}sQ")
_KIND = b"sse-daemon nonces 1 "


class NonceFile:
    """The file in `directory`, held by one process at a time. Raises AuthUnusable if that cannot be.

    existed: there was such a file. complete: it has every record that was written to it. damaged: it was none of ours, or not whole.
    """

    def __init__(self, directory: Path, boot_id: str | None = None) -> None:
        self._path = directory / NAME
        self._head = _KIND + (boot_id or _boot_id()).encode() + b"\n"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(directory / f"{NAME}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._fd = -1
        except OSError as error:
            raise _unusable(directory, error) from None
        try:
            self._take_lock(directory)
            self._open()
        except OSError as error:
            self.close()
            raise _unusable(directory, error) from None
        except BaseException:
            self.close()
            raise

    def _take_lock(self, directory: Path) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AuthUnusable(f"another daemon keeps its nonces in {directory}; [auth] state names a folder for each") from None

    def _open(self) -> None:
        self.existed = self._path.exists()
        content = self._path.read_bytes() if self.existed else b""
        self.complete = content.startswith(self._head)
        self.damaged = self.existed and not (content.startswith(_KIND) and b"\n" in content)
        self.found = [*_records(content[len(self._head) :])] if self.complete else []
        self.records = 0
        """Records in the file, those included that nobody needs any more."""
        self.rewrite(self.found)

    def append(self, digest: bytes, expires: int) -> None:
        """Adds one record. Raises OSError; then the file is as it was before, or every further call raises too."""
        record = _RECORD.pack(digest, expires)
        if self._broken:
            raise OSError(self._broken, os.strerror(self._broken))
        try:
            if os.write(self._fd, record) == len(record):
                self.records += 1
                return
        except OSError as error:
            self._cut(error.errno or errno.EIO)
            raise
        self._cut(errno.ENOSPC)  # a full disk takes a part first
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _cut(self, reason: int) -> None:
        """Takes back the part of a record: what follows it would not be read."""
        try:
            os.ftruncate(self._fd, len(self._head) + self.records * _RECORD.size)
        except OSError:
            self._broken = reason

    def rewrite(self, records: Iterable[tuple[bytes, int]]) -> None:
        """Makes the file anew of these records. Raises OSError; the file is then as it was."""
        new = self._path.with_suffix(".new")
        packed = [_RECORD.pack(*record) for record in records]
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, self._head + b"".join(packed))
            new.replace(self._path)
        except BaseException:
            os.close(fd)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self.records, self._broken = fd, len(packed), 0

    def close(self) -> None:
        """Lets go of the file."""
        for fd in (self._fd, self._lock):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock = -1


def _records(content: bytes) -> Iterator[tuple[bytes, int]]:
    # A last record that is not whole was never answered: its write had not returned.
    whole = len(content) - len(content) % _RECORD.size
    yield from _RECORD.iter_unpack(content[:whole])


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _boot_id() -> str:
    """The kernel's name for its present run; a service that does not see it there is told by its unit (`%b`)."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return os.environ.get("BOOT_ID") or secrets.token_hex(16)


def _unusable(directory: Path, error: OSError) -> AuthUnusable:
    reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
    return AuthUnusable(f"nonces cannot be kept in {directory}: {reason}; [auth] state names a folder that this user can write")
