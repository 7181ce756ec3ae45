"""The contract of a registry of known models, and the part that every database shares: one table, one row an entry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from modelguard.errors import BadRequest, Malformed
from modelguard.registry.activation_codec import ActivationRow, pack_activations, unpack_activations
from modelguard.registry.codec import Row, pack, unpack
from modelguard.types.activations import ActivationFingerprint
from modelguard.types.registry import Entry

SCHEMA = 2  # version of the tables; a larger number is refused, not guessed at
FIRST = 1  # without activations; still read, and brought to SCHEMA by whoever adds to it
PAGE = 64  # entries read at a time: no lock is held between two pages
COLUMNS = ("name", "shown", "method", "shape", "words", "payload", "digest")
ACTIVATION_COLUMNS = ("name", "method", "words", "payload", "digest")
_LISTED, _ACTIVATIONS = ", ".join(COLUMNS), ", ".join(ACTIVATION_COLUMNS)


class Store(Protocol):
    """Known models by name. Every operation is all or nothing; entries come in the order of their names' code points."""

    @property
    def where(self) -> str:
        """What outputs call the registry; never with a password."""
        ...

    def add(self, entries: Iterable[Entry], *, replacing: bool = False) -> int:
        """Adds all entries or none; how many. Raises BadRequest for a name that is taken."""
        ...

    def get(self, name: str) -> Entry | None:
        """The entry of that name or alias."""
        ...

    def entries(self, *, method: str = "", shape: str = "") -> Iterator[Entry]:
        """All entries, or those of one method and shape, without activations. Raises Malformed for an entry that is damaged."""
        ...

    def activations(self, name: str) -> ActivationFingerprint | None:
        """The activation fingerprint of the entry of that name or alias, if it has one. Raises Malformed."""
        ...

    def with_activations(self) -> frozenset[str]:
        """The names of the entries that have an activation fingerprint."""
        ...

    def count(self) -> int: ...

    def rename(self, name: str, alias: str) -> None:
        """Gives an entry an alias, or takes it away ("")."""
        ...

    def remove(self, name: str) -> None: ...

    def close(self) -> None: ...


def independent_entries(store: Store) -> Iterator[Entry]:
    """Entries that are marked independent and whose weights can be had: models that may serve as controls."""
    return (entry for entry in store.entries() if entry.independent and entry.reference)


class Cursor(Protocol):
    """What statements give."""

    @property
    def rowcount(self) -> int: ...
    def fetchall(self) -> list[tuple[object, ...]]: ...


class Table(ABC):
    """The operations over the tables. A database says how to run a statement and how to hold a transaction."""

    where: str
    version: int

    @abstractmethod
    def _run(self, statement: str, values: Sequence[object] = ()) -> Cursor:
        """Runs a statement with `?` for values. Raises ModelguardError for whatever the database says."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[object]:
        """Everything within happens, or nothing does."""

    def add(self, entries: Iterable[Entry], *, replacing: bool = False) -> int:
        with self._transaction():
            count = 0
            for entry in entries:
                self._put(pack(entry), replacing=replacing)
                self._put_activations(entry)
                count += 1
        return count

    def get(self, name: str) -> Entry | None:
        rows = self._rows("WHERE name = ? OR shown = ? ORDER BY name", (name, name))
        return unpack(rows[0], self.where) if rows else None

    def entries(self, *, method: str = "", shape: str = "") -> Iterator[Entry]:
        last, filters = "", ""
        values: list[str] = []
        for column, value in (("method", method), ("shape", shape)):
            if value:
                filters, values = f"{filters} AND {column} = ?", [*values, value]
        while rows := self._rows(f"WHERE name > ?{filters} ORDER BY name LIMIT {PAGE}", (last, *values)):
            yield from (unpack(row, self.where) for row in rows)
            last = rows[-1].name

    def activations(self, name: str) -> ActivationFingerprint | None:
        entry = self.get(name)
        if entry is None or self.version < SCHEMA:
            return None
        records = self._run(f"SELECT {_ACTIVATIONS} FROM activations WHERE name = ?", (entry.name,)).fetchall()
        return unpack_activations(self._activation_row(records[0]), self.where) if records else None

    def with_activations(self) -> frozenset[str]:
        if self.version < SCHEMA:
            return frozenset()
        return frozenset(str(name) for (name,) in self._run("SELECT name FROM activations").fetchall())

    def count(self) -> int:
        counted = self._run("SELECT count(*) FROM entries").fetchall()[0][0]
        return counted if isinstance(counted, int) else 0

    def rename(self, name: str, alias: str) -> None:
        with self._transaction():
            self._put(pack(replace(self._known(name), alias=alias)), replacing=True)

    def remove(self, name: str) -> None:
        with self._transaction():
            known = self._known(name).name
            self._forget_activations(known)
            self._run("DELETE FROM entries WHERE name = ?", (known,))

    def _known(self, name: str) -> Entry:
        entry = self.get(name)
        if entry is None:
            raise BadRequest(f"{self.where}: no entry {name[:80]!a}", advice="`modelguard registry list` lists them")
        return entry

    def _put(self, row: Row, *, replacing: bool) -> None:
        taken = self._run("SELECT name FROM entries WHERE name IN (?, ?) OR shown IN (?, ?)", (row.name, row.shown) * 2).fetchall()
        if strangers := [str(name) for (name,) in taken if not (replacing and name == row.name)]:
            raise BadRequest(
                f"{self.where}: an entry {(row.shown if row.name not in strangers else row.name)[:80]!a} is there already",
                advice="choose another name or alias, or replace it (--replace)",
            )
        self._run("DELETE FROM entries WHERE name = ?", (row.name,))
        marks = ", ".join("?" * len(COLUMNS))
        self._run(f"INSERT INTO entries ({_LISTED}) VALUES ({marks})", tuple(getattr(row, column) for column in COLUMNS))

    def _put_activations(self, entry: Entry) -> None:
        """Those of an entry that was just added: what an entry of its name had before does not outlive it."""
        self._forget_activations(entry.name)
        if entry.activations is None:
            return
        if self.version < SCHEMA:
            raise BadRequest(f"{self.where}: an older registry holds no activations", advice="add to it with `modelguard registry add`")
        row = pack_activations(entry.name, entry.activations)
        marks = ", ".join("?" * len(ACTIVATION_COLUMNS))
        values = tuple(getattr(row, column) for column in ACTIVATION_COLUMNS)
        self._run(f"INSERT INTO activations ({_ACTIVATIONS}) VALUES ({marks})", values)

    def _forget_activations(self, name: str) -> None:
        if self.version >= SCHEMA:
            self._run("DELETE FROM activations WHERE name = ?", (name,))

    def _activation_row(self, record: tuple[object, ...]) -> ActivationRow:
        name, method, words, payload, digest = record
        texts = (name, method, words, digest)
        if not all(isinstance(text, str) for text in texts) or not isinstance(payload, bytes):
            raise Malformed(f"{self.where}: a row holds no activations", advice="restore the registry from an export")
        return ActivationRow(name=str(name), method=str(method), words=str(words), payload=payload, digest=str(digest))

    def _rows(self, clause: str, values: Sequence[object]) -> list[Row]:
        return [self._row(record) for record in self._run(f"SELECT {_LISTED} FROM entries {clause}", values).fetchall()]

    def _row(self, record: tuple[object, ...]) -> Row:
        name, shown, method, shape, words, payload, digest = record
        texts = (name, shown, method, shape, words, digest)
        if not all(isinstance(text, str) for text in texts) or not isinstance(payload, bytes):
            raise Malformed(f"{self.where}: a row is no entry", advice="restore the registry from an export")
        return Row(
            name=str(name), shown=str(shown), method=str(method), shape=str(shape), words=str(words), payload=payload, digest=str(digest)
        )
