"""Exports, and what is no export."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelguard.attempt import attempt
from modelguard.errors import Malformed
from modelguard.registry.exchange import read, written
from modelguard.types.findings import Missing
from modelguard.types.registry import Entry
from tests.registry.entries import entry

ENTRIES = [entry("org/a", 1, reference="hf:org/a"), entry("b", 2, alias="project x", reference="hf:org/b"), entry("c", 3, independent=True)]


def exported(entries: list[Entry], *, names: bool = True) -> bytes:
    return "".join(written(entries, names=names)).encode()


def imported(data: bytes) -> list[Entry]:
    return list(read(io.BytesIO(data), "export.jsonl"))


def test_what_is_exported_is_imported() -> None:
    assert imported(exported(ENTRIES)) == ENTRIES
    assert imported(exported([])) == []


def test_an_export_names_private_entries_by_alias() -> None:
    hidden = replace(ENTRIES[1], fingerprint=replace(ENTRIES[1].fingerprint, digest="sha256:feed"))
    data = exported([ENTRIES[0], hidden], names=False)
    assert b"org/b" not in data
    assert b"feed" not in data
    assert [item.name for item in imported(data)] == ["org/a", "project x"]
    assert imported(data)[1].fingerprint.blocks == hidden.fingerprint.blocks


def changed(change: Callable[[list[dict[str, object]]], object]) -> bytes:
    lines = [json.loads(line) for line in exported(ENTRIES).splitlines()]
    change(lines)
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def words(lines: list[dict[str, object]], **more: object) -> None:
    lines[1]["words"] = json.dumps({**json.loads(str(lines[1]["words"])), **more})


REJECTED: dict[str, bytes] = {
    "empty": b"",
    "no line end": exported(ENTRIES).rstrip(b"\n"),
    "an entry short": b"".join(exported(ENTRIES).splitlines(keepends=True)[:-1]),
    "more than announced": exported(ENTRIES) + exported(ENTRIES).splitlines(keepends=True)[-1],
    "another schema": exported(ENTRIES).replace(b"registry/1", b"registry/2", 1),
    "no JSON": exported(ENTRIES).replace(b'{"words"', b'{"words', 1),
    "a key twice": exported(ENTRIES).replace(b'{"words"', b'{"digest": "", "words"', 1),
    "one more key": changed(lambda lines: lines[1].update(more=1)),
    "a digest of another": changed(lambda lines: lines[1].update(digest=lines[2]["digest"])),
    "changed words": changed(lambda lines: words(lines, independent=True)),
    "numbers cut short": changed(lambda lines: lines[1].update(payload=str(lines[1]["payload"])[:-8])),
    "numbers that are no base64": changed(lambda lines: lines[1].update(payload="!!!!")),
    "a count that is no count": changed(lambda lines: lines[0].update(entries=True)),
    "a huge count": changed(lambda lines: lines[0].update(entries=10**12)),
    "a list": b"[]\n",
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_is_no_export(name: str) -> None:
    with pytest.raises(Malformed) as caught:
        imported(REJECTED[name])
    assert str(caught.value).startswith("export.jsonl")
    assert len(str(caught.value).splitlines()) == 1


@given(st.integers(0, 10**6), st.binary(max_size=12), st.integers(0, 8))
def test_a_damaged_export_is_refused_or_means_the_same(place: int, inserted: bytes, removed: int) -> None:
    small = [
        replace(entry("a", 1, blocks=0), fingerprint=replace(entry("a", 1, blocks=0).fingerprint, gains=b"", norms=0, gram=b"", anchors=0))
    ]
    data = exported(small)
    place %= len(data)
    told = attempt(lambda: imported(data[:place] + inserted + data[place + removed :]), what="import")
    assert told == small or (isinstance(told, Missing) and "crashed" not in told.why and len(told.why.splitlines()) == 1)


def test_huge_shapes_that_a_digest_vouches_for_are_refused() -> None:
    """A digest only says that nobody changed a line since it was written, not that an honest hand wrote it."""
    line = json.loads(exported([entry("a", 1)]).splitlines()[1])
    told = json.loads(line["words"])
    told["blocks"][0]["rows"] = 60_000
    from modelguard.registry.codec import _digest

    line["words"] = json.dumps(told)
    line["digest"] = _digest(line["words"].encode(), base64.b64decode(line["payload"]))
    with pytest.raises(Malformed, match="bytes of numbers"):
        imported(json.dumps({"schema": "modelguard.registry/1", "entries": 1}).encode() + b"\n" + json.dumps(line).encode() + b"\n")
