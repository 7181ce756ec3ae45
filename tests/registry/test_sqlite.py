"""The file: what is damaged, newer, foreign or left behind by a killed writer."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from modelguard.attempt import attempt
from modelguard.errors import CannotRead, Malformed, ModelguardError
from modelguard.registry.opening import open_foreign, open_registry
from modelguard.registry.sqlite import APPLICATION, CREATE
from modelguard.types.findings import Missing
from modelguard.types.registry import Entry
from tests.registry.entries import activations, entry

WRITER = """
import sys
from tests.registry.entries import activations, entry
from modelguard.registry.opening import open_registry
store = open_registry(sys.argv[1], create=True)
for number in range(int(sys.argv[2]), 10**6):
    store.add(entry(f"{number:06}-{place}", place) for place in range(5))
    print(number, flush=True)
"""


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    path = tmp_path / "registry.sqlite"
    with closing(open_registry(str(path), create=True)) as store:
        store.add(entry(f"m{number}", number) for number in range(20))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def entries_of(path: Path) -> dict[str, Entry]:
    with closing(open_registry(str(path))) as store:
        return {item.name: item for item in store.entries()}


def altered(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def test_a_writer_that_is_killed_loses_nothing_that_it_committed(tmp_path: Path) -> None:
    path, first = tmp_path / "registry.sqlite", 0
    for delay in (0.02, 0.05, 0.11, 0.17, 0.23):
        command = [sys.executable, "-c", WRITER, str(path), str(first)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        assert writer.stdout is not None
        said = [int(writer.stdout.readline())]
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        said += [int(line) for line in writer.stdout.read().splitlines()]
        writer.wait()
        writer.stdout.close()
        with closing(open_registry(str(path))) as store:
            names = [item.name for item in store.entries()]
        committed = [f"{number:06}-{place}" for number in range(said[-1] + 1) for place in range(5)]
        assert names[: len(committed)] == committed
        assert len(names) in (len(committed), len(committed) + 5)  # one commit may have ended before it was said
        first = len(names) // 5


def test_a_hot_journal_is_rolled_back(registry: Path, tmp_path: Path) -> None:
    """The state that a power cut in the middle of a commit leaves: pages overwritten, the journal there."""
    torn = tmp_path / "torn.sqlite"
    with closing(sqlite3.connect(registry, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 2")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE entries SET payload = zeroblob(length(payload))")
        torn.write_bytes(registry.read_bytes())
        journal = registry.with_name(registry.name + "-journal").read_bytes()
        torn.with_name(torn.name + "-journal").write_bytes(journal)
        connection.execute("ROLLBACK")
    with closing(open_registry(str(torn))) as store:
        assert {item.name: item for item in store.entries()} == {f"m{number}": entry(f"m{number}", number) for number in range(20)}


@pytest.mark.parametrize("keep", [0.03, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_refused_and_left_alone(registry: Path, keep: float) -> None:
    data = registry.read_bytes()
    registry.write_bytes(data[: int(len(data) * keep)])
    before = digest(registry)
    with pytest.raises(Malformed, match="cut short"):
        open_registry(str(registry), create=True)
    assert digest(registry) == before


def test_a_changed_byte_anywhere_is_noticed_or_harmless(registry: Path) -> None:
    """Whatever byte changes: the entries are what they were, or one line says that they are not."""
    data = registry.read_bytes()
    expected = {f"m{number}": entry(f"m{number}", number) for number in range(20)}
    refused = 0
    for place in range(16, len(data), len(data) // 97):
        registry.write_bytes(data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :])
        told = attempt(lambda: entries_of(registry), what="reading")
        if isinstance(told, Missing):
            refused += 1
            assert str(registry) in told.why
            assert len(told.why.splitlines()) == 1
        else:
            assert told == expected
    assert refused > 60


def test_a_newer_file_is_refused_and_left_alone(registry: Path) -> None:
    altered(registry, "PRAGMA user_version = 3")
    before = digest(registry)
    for create in (False, True):
        with pytest.raises(Malformed, match="newer modelguard"):
            open_registry(str(registry), create=create)
    assert digest(registry) == before


def test_another_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = altered(tmp_path / "other.sqlite", "CREATE TABLE t (x)")
    before = digest(path)
    for create in (False, True):
        with pytest.raises(Malformed, match="no registry"):
            open_registry(str(path), create=create)
    assert digest(path) == before


@pytest.mark.parametrize("content", [b"not a database, but long enough to be looked at", b"\x80\x04pickle"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(Malformed, match="not an SQLite database"):
        open_registry(str(path), create=True)
    assert path.read_bytes() == content


HOSTILE = {
    "a view": (
        "CREATE VIEW entries AS SELECT 'a' AS name, 'a' AS shown, '' AS method, '' AS shape, '' AS words, x'' AS payload, '' AS digest",
    ),
    "a trigger": (CREATE, "CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM entries; END"),
    "a generated column": (CREATE.replace("digest TEXT NOT NULL", "digest TEXT AS (hex(zeroblob(900000000)))"),),
    "an index over an expression": (CREATE, "CREATE INDEX i ON entries (hex(payload))"),
    "one more table": (CREATE, "CREATE TABLE more (x)"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_schema_that_is_not_ours_is_refused(name: str, tmp_path: Path) -> None:
    path = altered(tmp_path / "r.sqlite", *HOSTILE[name], "PRAGMA user_version = 1", f"PRAGMA application_id = {APPLICATION}")
    for opener in (open_registry, lambda place: open_foreign(Path(place), place)):
        with pytest.raises(Malformed, match="schema"):
            opener(str(path))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET payload = zeroblob(length(payload)) WHERE name = 'm3'",
        "UPDATE entries SET words = replace(words, '\"independent\":false', '\"independent\":true') WHERE name = 'm3'",
        "UPDATE entries SET name = 'other', shown = 'other' WHERE name = 'm3'",
        "UPDATE entries SET words = '{}' WHERE name = 'm3'",
        "UPDATE entries SET payload = 'text' WHERE name = 'm3'",
        "UPDATE entries SET method = 'another' WHERE name = 'm3'",
    ],
)
def test_an_entry_that_somebody_changed_is_refused(registry: Path, statement: str) -> None:
    altered(registry, statement)
    with closing(open_registry(str(registry))) as store, pytest.raises(Malformed) as caught:
        list(store.entries())
    assert len(str(caught.value).splitlines()) == 1


def test_a_foreign_file_is_read_and_never_written(registry: Path) -> None:
    before = digest(registry)
    with closing(open_foreign(registry, "registry at base")) as store:
        assert store.count() == 20
        assert store.get("m3") == entry("m3", 3)
        with pytest.raises(ModelguardError):
            store.add([entry("new")])
    assert digest(registry) == before
    assert sorted(path.name for path in registry.parent.iterdir()) == [registry.name]


def test_a_file_without_permission_to_write_is_read(registry: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anything")
    registry.chmod(0o444)
    with closing(open_registry(str(registry))) as store:
        assert store.count() == 20


def test_a_directory_is_no_registry(tmp_path: Path) -> None:
    with pytest.raises(CannotRead):
        open_registry(str(tmp_path))


@pytest.mark.parametrize("create", [False, True])
def test_a_first_schema_with_more_in_it_is_refused_and_left_alone(registry: Path, create: bool) -> None:
    """Only a file that is the first schema's to the letter is brought to today's."""
    altered(registry, "DROP TABLE activations", "CREATE TABLE more (x)", "PRAGMA user_version = 1")
    before = digest(registry)
    with pytest.raises(Malformed, match="schema"):
        open_registry(str(registry), create=create)
    assert digest(registry) == before


def test_a_foreign_file_of_the_first_schema_is_read(registry: Path) -> None:
    altered(registry, "DROP TABLE activations", "PRAGMA user_version = 1")
    before = digest(registry)
    with closing(open_foreign(registry, "registry at base")) as store:
        assert (store.count(), store.activations("m3")) == (20, None)
    assert digest(registry) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE activations SET payload = substr(payload, 2)",
        "UPDATE activations SET payload = zeroblob(length(payload))",
        "UPDATE activations SET words = replace(words, '\"depth\":4', '\"depth\":3')",
        "UPDATE activations SET words = '{}'",
        "UPDATE activations SET payload = 'text'",
        "UPDATE activations SET method = 'another'",
        "UPDATE activations SET name = 'm4'",
    ],
)
def test_activations_that_somebody_changed_are_refused(registry: Path, statement: str) -> None:
    with closing(open_registry(str(registry), create=True)) as store:
        store.add([replace(entry("m3", 3), activations=activations(3))], replacing=True)
    altered(registry, statement)
    with closing(open_registry(str(registry))) as store, pytest.raises(Malformed) as caught:
        store.activations(*store.with_activations())
    assert len(str(caught.value).splitlines()) == 1
