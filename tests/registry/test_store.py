"""The contract of registries, on both databases."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from modelguard.errors import BadRequest, CannotFetch, ModelguardError
from modelguard.registry.base import PAGE, Store, independent_entries
from modelguard.registry.opening import open_registry
from tests.registry.entries import activations, entry
from tests.registry.postgres import server


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with server() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty registry may be made."""
    if request.param == "sqlite":
        return str(tmp_path / "registry.sqlite")
    import psycopg

    base: str = request.getfixturevalue("postgres")
    name = "r" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    with psycopg.connect(base, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{base.rpartition('/')[0]}/{name}"


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    with closing(open_registry(address, create=True)) as opened:
        yield opened


def test_what_is_added_is_there_again(store: Store, address: str) -> None:
    entries = [entry("org/b", 1, reference="hf:org/b"), entry("org/a", 2, independent=True), entry("c", 3, alias="project x")]
    assert store.add(entries) == 3
    with closing(open_registry(address)) as again:
        assert [item.name for item in again.entries()] == ["c", "org/a", "org/b"]
        assert {item.name: item for item in again.entries()} == {item.name: item for item in entries}
        assert again.count() == 3
        assert again.get("org/b") == entries[0]
        assert again.get("project x") == entries[2]
        assert again.get("absent") is None


def test_entries_of_one_method_and_shape(store: Store) -> None:
    other = replace(entry("other"), fingerprint=replace(entry("other").fingerprint, method="weights-0:other"))
    store.add([entry("a"), other, entry("none", blocks=0)])
    method = entry("a").fingerprint.method
    assert [item.name for item in store.entries(method=method, shape="11008x4096")] == ["a"]
    assert [item.name for item in store.entries(method="weights-0:other")] == ["other"]


def test_more_entries_than_a_page(store: Store) -> None:
    names = [f"m{number:04}" for number in range(2 * PAGE + 3)]
    store.add(entry(name, blocks=1) for name in names)
    assert [item.name for item in store.entries()] == names


def test_a_name_is_taken_once(store: Store) -> None:
    store.add([entry("a", 1, alias="x"), entry("b", 2)])
    for taken in (entry("a", 3), entry("x", 3), entry("c", 3, alias="b"), entry("c", 3, alias="x"), entry("c", 3, alias="a")):
        with pytest.raises(BadRequest, match="is there already"):
            store.add([taken])
    store.add([entry("a", 4)], replacing=True)
    kept = store.get("a")
    assert kept is not None
    assert kept == entry("a", 4)
    assert store.count() == 2


def test_adding_is_all_or_nothing(store: Store) -> None:
    store.add([entry("a", 1)])

    def broken() -> Iterator[object]:
        yield entry("b", 2)
        raise CannotFetch("the source ended")

    with pytest.raises(CannotFetch, match="the source ended"):
        store.add(broken())  # type: ignore[arg-type]
    with pytest.raises(BadRequest):
        store.add([entry("c", 3), entry("a", 4)])
    assert [item.name for item in store.entries()] == ["a"]


def test_an_alias_comes_and_goes(store: Store) -> None:
    store.add([entry("a", 1)])
    store.rename("a", "secret project")
    hidden = store.get("secret project")
    assert hidden is not None
    assert (hidden.name, hidden.shown, hidden.private) == ("a", "secret project", True)
    store.rename("a", "")
    assert store.get("secret project") is None
    with pytest.raises(BadRequest, match="no entry"):
        store.rename("b", "x")


def test_an_entry_is_removed(store: Store) -> None:
    store.add([entry("a", 1), entry("b", 2)])
    store.remove("a")
    assert [item.name for item in store.entries()] == ["b"]
    with pytest.raises(BadRequest, match="no entry"):
        store.remove("a")


def test_references_of_independent_entries(store: Store) -> None:
    store.add([entry("a", 1, independent=True, reference="hf:o/a"), entry("b", 2, reference="hf:o/b"), entry("c", 3, independent=True)])
    assert [entry.reference for entry in independent_entries(store)] == ["hf:o/a"]


def test_readers_while_somebody_writes(address: str, store: Store) -> None:
    """Every reader sees whole commits of ten, and nobody fails."""
    failures: list[str] = []
    done = threading.Event()

    def write() -> None:
        with closing(open_registry(address, create=True)) as writer:
            for commit in range(12):
                writer.add(entry(f"{commit:02}-{place}", place, blocks=1) for place in range(10))
        done.set()

    def look() -> None:
        while not done.is_set():
            try:
                with closing(open_registry(address)) as reader:
                    if reader.count() % 10:
                        failures.append(f"{reader.count()} entries")
            except ModelguardError as error:
                failures.append(str(error))

    threads = [threading.Thread(target=write), *(threading.Thread(target=look) for _ in range(2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert store.count() == 120


@pytest.mark.parametrize("name", ["", " a", "a\n", "a\x1b[31m", "x" * 201])
def test_names_that_no_output_could_show(store: Store, name: str) -> None:
    with pytest.raises(BadRequest):
        store.add([entry(name)])
    with pytest.raises(BadRequest):
        store.add([entry("a", alias=name or "\n")])
    assert store.count() == 0


def test_no_registry_is_said(address: str) -> None:
    with pytest.raises(CannotFetch, match=r"no (such )?registry"):
        open_registry(address)


@pytest.mark.parametrize("place", ["mysql://host/db", "https://host/file.sqlite"])
def test_other_addresses_are_refused(place: str) -> None:
    with pytest.raises(BadRequest, match="is no registry"):
        open_registry(place)


def test_a_server_that_is_not_there_keeps_the_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(CannotFetch) as caught:
        open_registry("postgresql://tester:hunter2@127.0.0.1:1/db")
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "postgresql://127.0.0.1:1/db" in str(caught.value)


def test_activations_are_kept_beside_their_entry(store: Store, address: str) -> None:
    store.add(
        [replace(entry("a", 1), activations=activations(1)), entry("b", 2), replace(entry("c", 3, alias="x"), activations=activations(3))]
    )
    with closing(open_registry(address)) as again:
        assert (again.activations("a"), again.activations("b"), again.activations("absent")) == (activations(1), None, None)
        assert again.activations("x") == again.activations("c") == activations(3)
        assert [item.activations for item in again.entries()] == [None] * 3
        assert again.with_activations() == {"a", "c"}


def test_activations_follow_what_becomes_of_their_entry(store: Store) -> None:
    store.add([replace(entry(name, 1), activations=activations(1)) for name in "abc"])
    store.rename("a", "project x")
    assert store.activations("project x") == activations(1)
    store.remove("a")
    store.add([entry("a", 4)])
    assert store.activations("a") is None
    store.add([entry("b", 5)], replacing=True)
    assert store.activations("b") is None
    store.add([replace(entry("c", 6), activations=activations(7))], replacing=True)
    assert store.activations("c") == activations(7)
    with pytest.raises(BadRequest):
        store.add([replace(entry("d", 1), activations=activations(8)), entry("c", 1)])
    assert store.with_activations() == {"c"}


def back_to_the_first_schema(address: str) -> None:
    """Leaves the registry as the first version of this program would have written it."""
    if "://" in address:
        import psycopg

        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("DROP TABLE modelguard.activations")
            connection.execute("UPDATE modelguard.version SET version = 1")
        return
    with closing(sqlite3.connect(address, isolation_level=None)) as connection:
        connection.execute("DROP TABLE activations")
        connection.execute("PRAGMA user_version = 1")


def test_a_registry_of_the_first_schema_is_read_and_brought_up_by_an_addition(store: Store, address: str) -> None:
    store.add([entry("a", 1), entry("b", 2)])
    store.close()
    back_to_the_first_schema(address)
    with closing(open_registry(address)) as old:
        assert [item.name for item in old.entries()] == ["a", "b"]
        assert (old.activations("a"), old.with_activations()) == (None, frozenset())
        old.rename("a", "x")
        old.remove("b")
        with pytest.raises(BadRequest, match="older registry"):
            old.add([replace(entry("c", 3), activations=activations())])
    with closing(open_registry(address, create=True)) as new:
        assert new.get("x") == entry("a", 1, alias="x")
        new.add([replace(entry("c", 3), activations=activations(3))])
    with closing(open_registry(address)) as again:
        assert again.activations("c") == activations(3)
        assert again.count() == 2
