"""A registry in one SQLite file.

The file keeps a rollback journal, not a write-ahead log: a registry is committed, copied and mailed as one file, and of a file in
write-ahead mode the last entries stand in another one. A writer that is killed leaves a journal from which whoever opens the file next
restores the last commit. Readers take the lock for one page of entries at a time, so they do not starve writers.

A file that somebody else wrote (a base commit's, say) is opened immutable, read-only and without trust in its schema, as
https://www.sqlite.org/security.html section 1.2 advises; its schema must be ours to the letter.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from modelguard.errors import BadRequest, CannotFetch, Malformed, ModelguardError
from modelguard.registry.base import FIRST, SCHEMA, Cursor, Table
from modelguard.registry.codec import MAX_PAYLOAD

MAGIC = b"SQLite format 3\0"
APPLICATION = 0x6D647267  # "mdrg", in the header's application id
CREATE = (
    "CREATE TABLE entries (name TEXT PRIMARY KEY NOT NULL, shown TEXT NOT NULL UNIQUE, method TEXT NOT NULL, shape TEXT NOT NULL, "
    "words TEXT NOT NULL, payload BLOB NOT NULL, digest TEXT NOT NULL)"
)
CREATE_ACTIVATIONS = (
    "CREATE TABLE activations (name TEXT PRIMARY KEY NOT NULL, method TEXT NOT NULL, words TEXT NOT NULL, payload BLOB NOT NULL, "
    "digest TEXT NOT NULL)"
)
TABLES = {1: [("table", CREATE)], 2: [("table", CREATE), ("table", CREATE_ACTIVATIONS)]}  # by version of the schema
BUSY_SECONDS = 30.0
MAX_FILE = 8 << 30
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 2 * MAX_PAYLOAD,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 1 << 16,
    sqlite3.SQLITE_LIMIT_COLUMN: 32,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
}
_SETTINGS = ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "temp_store = MEMORY")
_ADVICE = "restore it from a copy or an export; it was not changed"


class SqliteStore(Table):
    """An open registry file. `modelguard.registry.base.Store` is the contract."""

    def __init__(self, where: str, connection: sqlite3.Connection, version: int) -> None:
        self.where, self.version = where, version
        self._connection = connection

    def close(self) -> None:
        self._connection.close()

    def _run(self, statement: str, values: Sequence[object] = ()) -> Cursor:
        with _translated(self.where):
            return self._connection.execute(statement, tuple(values))

    def _transaction(self) -> AbstractContextManager[object]:
        return _transaction(self.where, self._connection)


def open_sqlite(path: Path, where: str, *, create: bool = False, foreign: bool = False) -> SqliteStore:
    """The registry in a file. `create` makes it where it is not there; `foreign` is for a file that somebody else wrote.

    Raises Malformed for a file that is damaged, newer, or no registry; such a file is left as it is.
    """
    present = path.exists()
    if not present and not create:
        raise CannotFetch(f"{where}: no such registry", advice="make one with `modelguard registry add`, or check --registry")
    if present:
        _whole(path, where)
    mode = "ro&immutable=1" if foreign else "rwc" if create else "rw" if os.access(path, os.W_OK) else "ro"
    with _translated(where):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_SECONDS)
    try:
        version = _prepare(connection, where, create=create, foreign=foreign)
    except ModelguardError:
        connection.close()
        raise
    return SqliteStore(where, connection, version)


def _whole(path: Path, where: str) -> None:
    """Raises Malformed for a file that is no database, or shorter than its own header says."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise CannotFetch(f"{where}: {error.strerror}", advice="check --registry") from error
    page, pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")  # https://www.sqlite.org/fileformat.html
    if head and not head.startswith(MAGIC):
        raise Malformed(f"{where}: not an SQLite database", advice="check --registry; an export is read with `modelguard registry import`")
    if size > MAX_FILE:
        raise Malformed(f"{where}: {size} bytes, more than the {MAX_FILE} that are read of a registry")
    if not path.with_name(path.name + "-journal").exists() and size < (1 << 16 if page == 1 else page) * pages:
        raise Malformed(f"{where}: {size} bytes, cut short: its header tells of {pages} pages", advice=_ADVICE)


def _prepare(connection: sqlite3.Connection, where: str, *, create: bool, foreign: bool) -> int:
    """Bounds what a file can do to us, makes sure that its schema is ours, and brings it to today's where `create` says so; its version."""
    with _translated(where):
        for limit, value in _LIMITS.items():
            connection.setlimit(limit, value)
        for setting in (*_SETTINGS, "query_only = ON" if foreign else "synchronous = FULL"):
            connection.execute(f"PRAGMA {setting}")
        if create:
            with _transaction(where, connection):
                if _schema(connection) == (0, 0, []):
                    connection.execute(CREATE)
                    connection.execute(f"PRAGMA application_id = {APPLICATION}")
                    connection.execute(f"PRAGMA user_version = {FIRST}")
                if _schema(connection) == (APPLICATION, FIRST, TABLES[FIRST]):
                    connection.execute(CREATE_ACTIVATIONS)
                    connection.execute(f"PRAGMA user_version = {SCHEMA}")
        application, version, tables = _schema(connection)
    if application != APPLICATION:
        raise Malformed(f"{where}: an SQLite database, but no registry", advice="check --registry")
    if version > SCHEMA:
        raise Malformed(f"{where}: written by a newer modelguard (schema {version}, this one knows {SCHEMA})", advice="update modelguard")
    if tables != TABLES.get(version):
        raise Malformed(f"{where}: its schema is not a registry's", advice=_ADVICE)
    return version


def _schema(connection: sqlite3.Connection) -> tuple[int, int, list[tuple[str, str]]]:
    """(application id, version, everything that the schema defines but automatic indexes)."""
    (application,), (version,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version"))
    return application, version, connection.execute("SELECT type, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()


@contextmanager
def _transaction(where: str, connection: sqlite3.Connection) -> Iterator[None]:
    """All statements or none; the lock is taken at once, so that two writers wait for each other instead of failing half-way."""
    with _translated(where):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """What SQLite says, in one line that names the registry."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        reason = " ".join(str(error).split())[:120]
        if code == sqlite3.SQLITE_READONLY:
            raise BadRequest(f"{where}: is read-only", advice="check who may write to the file") from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL):
            raise CannotFetch(f"{where}: {reason}", advice="check the path, and that no other process holds the file") from error
        raise Malformed(f"{where}: SQLite cannot read it ({reason!a})", advice=_ADVICE) from error
