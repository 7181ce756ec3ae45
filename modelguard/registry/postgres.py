"""A registry in a PostgreSQL database, for those who share one. The table and its rows are SQLite's; locking is the server's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelguard.errors import BadRequest, CannotFetch, CannotRead, Malformed, ModelguardError
from modelguard.registry.base import FIRST, SCHEMA, Cursor, Table

if TYPE_CHECKING:
    import psycopg

SCHEMES = ("postgresql://", "postgres://")
SPACE = "modelguard"  # the schema (name space) that holds the tables
LOCK = 0x6D647267  # advisory lock of writers
CONNECT_SECONDS = 15
TABLES = (
    f"CREATE SCHEMA IF NOT EXISTS {SPACE}",
    f"CREATE TABLE IF NOT EXISTS {SPACE}.version (version INTEGER NOT NULL)",
    f'CREATE TABLE IF NOT EXISTS {SPACE}.entries (name TEXT COLLATE "C" PRIMARY KEY, shown TEXT NOT NULL UNIQUE, method TEXT NOT NULL, '
    "shape TEXT NOT NULL, words TEXT NOT NULL, payload BYTEA NOT NULL, digest TEXT NOT NULL)",
    f'CREATE TABLE IF NOT EXISTS {SPACE}.activations (name TEXT COLLATE "C" PRIMARY KEY, method TEXT NOT NULL, words TEXT NOT NULL, '
    "payload BYTEA NOT NULL, digest TEXT NOT NULL)",
    f"UPDATE {SPACE}.version SET version = {SCHEMA} WHERE version = {FIRST}",
    f"INSERT INTO {SPACE}.version SELECT {SCHEMA} WHERE NOT EXISTS (SELECT 1 FROM {SPACE}.version)",
)


class PostgresStore(Table):
    """A connection to a registry. `modelguard.registry.base.Store` is the contract."""

    def __init__(self, where: str, connection: psycopg.Connection[tuple[Any, ...]], version: int) -> None:
        self.where, self.version = where, version
        self._connection = connection

    def close(self) -> None:
        self._connection.close()

    def _run(self, statement: str, values: Sequence[object] = ()) -> Cursor:
        with _translated(self.where):
            return self._connection.execute(statement.replace("?", "%s").encode(), tuple(values))

    def _transaction(self) -> AbstractContextManager[object]:
        return _transaction(self.where, self._connection)


def open_postgres(url: str, *, create: bool = False) -> PostgresStore:
    """The registry of a database. `create` makes its tables where they are not there. Raises CannotFetch, BadRequest or Malformed."""
    where = _without_password(url)
    try:
        import psycopg
    except ImportError as error:
        raise BadRequest(f"{where}: the postgres extra is not installed", advice="pip install 'modelguard[postgres]'") from error
    with _translated(where):
        connection = psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS, options=f"-c search_path={SPACE}")
    try:
        version = _prepare(connection, where, create=create)
    except ModelguardError:
        connection.close()
        raise
    return PostgresStore(where, connection, version)


def _prepare(connection: psycopg.Connection[tuple[Any, ...]], where: str, *, create: bool) -> int:
    """Makes the tables, or brings those of an earlier version to today's, where `create` says so; the version that is there."""
    with _translated(where):
        if create:
            with _transaction(where, connection):
                for statement in TABLES:
                    connection.execute(statement.encode())
        known = connection.execute("SELECT to_regclass(%s)", (f"{SPACE}.version",)).fetchall()
        if known[0][0] is None:
            raise CannotFetch(f"{where}: no registry in this database", advice="make one with `modelguard registry add`")
        versions = [version for (version,) in connection.execute("SELECT version FROM version").fetchall()]
    if versions not in ([FIRST], [SCHEMA]):
        newer = f"written by a newer modelguard (schema {max(versions, default=0)}, this one knows {SCHEMA})"
        raise Malformed(f"{where}: {newer}", advice="update modelguard")
    return int(versions[0])


@contextmanager
def _transaction(where: str, connection: psycopg.Connection[tuple[Any, ...]]) -> Iterator[None]:
    """All statements or none; one writer at a time."""
    with _translated(where), connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        yield


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """What the server or its client library says, in one line that names the registry and no password."""
    import psycopg

    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise CannotFetch(f"{where}: {_one_line(error)}", advice="check the address, and that the server runs") from error
    except psycopg.Error as error:
        raise CannotRead(f"{where}: {_one_line(error)}", advice="check that the database is a registry, and who may use it") from error


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def _without_password(url: str) -> str:
    """An address as outputs may show it: scheme, host and database."""
    try:
        parts = urlsplit(url)
        host = f"{parts.hostname or 'localhost'}" + (f":{parts.port}" if parts.port else "")
    except ValueError as error:
        raise BadRequest("the registry's address is no URL", advice="postgresql://user@host/database") from error
    return f"postgresql://{host}/{parts.path.lstrip('/')[:80]}"
