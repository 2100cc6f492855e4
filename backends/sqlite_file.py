"""A log's SQLite file; imported as sse_daemon.backends.sqlite_file, never under the bare name.

Whose it is, whether it can be used, whether it is still where it was, what its faults mean.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from urllib.parse import unquote, urlsplit

from sse_daemon.errors import BackendError, BackendUnavailable, BackendUnusable, ConfigError, StorageFull

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
APPLICATION_ID = 0x53534544
"""In the file's header (ASCII "SSED"): a database of something else is not taken for a log."""
SOUND_SQLITE = (3, 51, 3)
"""The first release in which resetting the WAL beside a reader cannot corrupt the file."""
WAL_BYTES = 16 * 1024 * 1024
"""What the WAL file is cut back to after a checkpoint; a long read can make it larger for a while."""

_SCHEMA = """
CREATE TABLE log (incarnation TEXT NOT NULL, head INTEGER NOT NULL, floor INTEGER NOT NULL, bytes INTEGER NOT NULL,
    checked REAL NOT NULL);
CREATE TABLE events (position INTEGER PRIMARY KEY, stored REAL NOT NULL, cost INTEGER NOT NULL, head TEXT NOT NULL,
    data BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE places (channel INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (channel, position)) WITHOUT ROWID;
CREATE TABLE numbers (position INTEGER PRIMARY KEY, sender TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    stored REAL NOT NULL);
CREATE TABLE senders (name TEXT PRIMARY KEY, floor INTEGER NOT NULL, last REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE snapshots (channel TEXT NOT NULL, topic TEXT NOT NULL, type TEXT NOT NULL, cost INTEGER NOT NULL, expires REAL,
    position INTEGER NOT NULL, head TEXT NOT NULL, data BLOB NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (channel, topic, type));
CREATE TABLE groups (name TEXT PRIMARY KEY, members TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE topics (name TEXT PRIMARY KEY) WITHOUT ROWID;
"""
REMEDY = "restore it from a backup, or move it and its -wal and -shm files away to begin a new log"


def path_of(url: str) -> Path:
    """The file that `url`, sqlite:///absolute/path, names. Raises ConfigError."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    mistake = None
    if parts.query or parts.fragment:
        mistake = "this backend has no options; a '?' or '#' in the path is written %3F or %23"
    elif parts.netloc or not url.lower().startswith("sqlite:///"):
        mistake = "an absolute path is expected, with three slashes: sqlite:///var/lib/sse-daemon/log.db"
    elif path.endswith("/") or "\0" in path:
        mistake = "the path of a file is expected, such as sqlite:///var/lib/sse-daemon/log.db"
    if mistake:
        raise ConfigError([f"{url!r}: {mistake}"])
    return Path(path)


def hold(path: Path) -> int:
    """Makes the file this process's own until the descriptor that is returned is closed or the process ends in whatever way.

    The lock is on a file beside it: locks of SQLite itself would be dropped whenever any descriptor of the database is closed.
    Raises BackendUnusable.
    """
    name = f"{path}.lock"
    try:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError as error:
        raise BackendUnusable(f"{path} cannot be made: the folder {path.parent} does not exist") from error
    except OSError as error:
        raise BackendUnusable(f"{name} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise BackendUnusable(
            f"{path} is held by another daemon (process {holder}); each daemon needs a file of its own"
        ) from None
    # Only for the message above: without room for it the lock holds all the same.
    with suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd


class Identity:
    """Which files a log was found in. Once others stand at their names, or none, what is stored is gone with this process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[tuple[int, int] | None, ...] = ()

    def note(self) -> None:
        """The files that are there now are the log's; to be called with the WAL begun."""
        self._known = self._found()

    def check(self) -> None:
        """Raises BackendUnavailable unless the log's files still stand at their names."""
        try:
            found = self._found()
        except OSError as error:
            raise fault_of(error, self._path) from error
        if found != self._known:
            raise BackendUnavailable(
                f"{self._path} or its -wal was moved, removed or replaced while the daemon ran: move it back, "
                "or restart the daemon, which begins with what is there"
            )

    def _found(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(_inode(f"{self._path}{end}") for end in ("", "-wal"))


def connect_writer(path: Path, *, create: bool) -> sqlite3.Connection:
    """The connection that writes, and the only one that checkpoints; `create` the file if need be, for its owner only.

    Raises BackendUnusable, sqlite3.Error, OSError.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600))
    connection = _connect(path)
    try:
        # Before anything is changed: what is not ours stays as it is.
        begun = _identify(connection, path)
        connection.execute("PRAGMA journal_mode=WAL")
        # A commit returns when it is on the disk; NORMAL would leave that to the next checkpoint.
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")
        connection.execute("PRAGMA cache_size=-16384")
        if not begun:
            _create(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection beside the writer's that sees what is committed and changes nothing."""
    connection = _connect(path)
    connection.execute("PRAGMA query_only=1")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    return connection


def check_sound(connection: sqlite3.Connection, path: Path) -> None:
    """Reads the whole file. Raises BackendUnusable if it is damaged, sqlite3.Error."""
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise BackendUnusable(f"{path} is damaged ({verdict}); {REMEDY}")
    (rows,) = connection.execute("SELECT count(*) FROM log").fetchone()
    if rows != 1:
        raise BackendUnusable(f"{path} is damaged (its head is gone); {REMEDY}")


def fault_of(error: sqlite3.Error | OSError, path: Path) -> BackendError:
    """What a fault means to those who asked for something."""
    if isinstance(error, OSError):
        return BackendUnavailable(f"{path}: {error.strerror}")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StorageFull(f"{path}: there is no room on the disk")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return BackendUnavailable(f"{path} is damaged ({error}); stop the daemon, then {REMEDY}")
    return BackendUnavailable(f"{path}: {error}")


def fault_of_opening(error: sqlite3.Error | OSError, path: Path) -> BackendError:
    """What a fault means while the file is opened: what cannot pass by itself makes the file unusable."""
    if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return BackendUnusable(f"{path} cannot be opened: {error.strerror}")
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return BackendUnusable(f"{path} is damaged or no database ({error}); {REMEDY}")
    if isinstance(error, sqlite3.DatabaseError) and code == sqlite3.SQLITE_ERROR:
        return BackendUnusable(f"{path} does not have the tables of a log ({error}); {REMEDY}")
    return fault_of(error, path)


def warn_if_unsound() -> None:
    """Says in the log if this process's SQLite is one that may corrupt a file."""
    if sqlite3.sqlite_version_info < SOUND_SQLITE:
        logger.warning(
            "SQLite %s has a fault that can, rarely, damage a file in WAL mode; 3.51.3 and later do not. "
            "Used as here it has no known occasion: docs/security.md, A35",
            sqlite3.sqlite_version,
        )


def _inode(name: str) -> tuple[int, int] | None:
    try:
        found = os.stat(name)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _connect(path: Path) -> sqlite3.Connection:
    # A file that is gone must not be made anew, empty, by whoever reads. Each connection is used by one thread at a time, by its
    # executor; opening and closing may be another's.
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False, timeout=5.0, cached_statements=64
    )
    connection.execute("PRAGMA temp_store=MEMORY")
    return connection


def _identify(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether a log has begun in the file. Raises BackendUnusable if the file is something else's, or newer."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables and not version:
        return False
    if application != APPLICATION_ID:
        raise BackendUnusable(f"{path} is a database of something else; name another file")
    if version > SCHEMA_VERSION:
        raise BackendUnusable(
            f"{path} was written by a newer sse-daemon (schema {version}, this one knows {SCHEMA_VERSION}); "
            "use that version, or name another file"
        )
    return True


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute("INSERT INTO log VALUES (?, 0, 0, 0, ?)", (token_hex(6), time.time()))
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise
