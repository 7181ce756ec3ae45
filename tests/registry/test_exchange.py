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
from modelguard.errors import BadRequest, Malformed
from modelguard.registry.exchange import read, written
from modelguard.types.findings import Missing
from modelguard.types.registry import Entry
from tests.registry.entries import activations, entry

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


BEHAVING = replace(ENTRIES[1], activations=activations(2))


def behaving(*, names: bool = True) -> bytes:
    """An export of one private entry with its activations."""
    bare = replace(BEHAVING, activations=None)
    return "".join(written([bare], names=names, activations=lambda name: activations(2) if name == "b" else None)).encode()


def test_activations_travel_with_their_entry() -> None:
    assert imported(behaving()) == [BEHAVING]
    (hidden,) = imported(behaving(names=False))
    assert (hidden.name, hidden.activations) == ("project x", activations(2))
    assert b'"b"' not in behaving(names=False)


def altered(**more: object) -> bytes:
    head, line = behaving().splitlines()
    document = json.loads(line)
    document["activations"] |= more
    return head + b"\n" + json.dumps(document).encode() + b"\n"


def vouched(change: dict[str, object], payload: bytes | None = None) -> bytes:
    """Other words or numbers under a digest that fits: a digest vouches for no honest hand."""
    from modelguard.registry.activation_codec import _digest

    line = json.loads(behaving().splitlines()[1])["activations"]
    words = json.dumps(json.loads(line["words"]) | change)
    numbers = base64.b64decode(line["payload"]) if payload is None else payload
    return altered(words=words, payload=base64.b64encode(numbers).decode(), digest=_digest(words.encode(), numbers))


NUMBERS = b"".join(activations(2).arrays)
HOSTILE_ACTIVATIONS: dict[str, tuple[bytes, str]] = {
    "no digest": (altered(digest="sha256:0"), "digest"),
    "one more key": (altered(more=1), "no entry"),
    "no object": (behaving().replace(b'"activations": {', b'"activations": [{').replace(b"}}", b"}]}"), "no object"),
    "another entry's": (vouched({"name": "org/a"}), "another name"),
    "huge": (vouched({"tokens": 1024, "axes": 1024}), "bytes"),
    "beyond any size": (vouched({"anchors": 10**9}), "anchors"),
    "not whole": (vouched({"anchors": 12.5}), "anchors"),
    "negative": (vouched({"axes": -1}), "axes"),
    "cut short": (vouched({}, NUMBERS[:-2]), "bytes"),
    "not a number": (vouched({}, NUMBERS[:1000] + b"\x00\x7e" + NUMBERS[1002:]), "not finite"),
    "endless": (vouched({}, NUMBERS[:1000] + b"\x00\x7c" + NUMBERS[1002:]), "not finite"),
    "a probability above 1": (vouched({}, NUMBERS[:-2] + b"\x00\x3c"), "above 1"),
    "no layers": (vouched({"which": []}), "which"),
    "layers out of order": (vouched({"which": [0, 2, 1, 3]}), "order"),
    "a layer twice": (vouched({"which": [0, 1, 1, 3]}), "order"),
    "a layer that was not run": (vouched({"which": [0, 1, 2, 4]}), "order"),
    "deeper than the network": (vouched({"depth": 5}), "order"),
    "heads that make no groups": (vouched({"groups": 3}), "groups"),
    "a control that is no probability": (vouched({"control": [1.0, 0.0, 0.0]}), "control"),
    "words that no output could show": (vouched({"architecture": "llama\x1b[31m"}), "no output"),
    "one more word": (vouched({"more": 1}), "more"),
}


@pytest.mark.parametrize("name", HOSTILE_ACTIVATIONS)
def test_activations_that_no_network_gives(name: str) -> None:
    data, reason = HOSTILE_ACTIVATIONS[name]
    with pytest.raises(Malformed) as caught:
        imported(data)
    assert reason in str(caught.value)
    assert str(caught.value).startswith("export.jsonl")
    assert str(caught.value).isprintable()


def test_activations_larger_than_any_are_neither_written_nor_read() -> None:
    large = activations(layers=256)
    grown = replace(large, tokens=64, states=bytes(2 * 256 * 64 * 64), unit_values=bytes(2 * 256 * 64 * 96))
    with pytest.raises(BadRequest, match="more than 4000000"):
        "".join(written([BEHAVING], activations=lambda _name: grown))
    with pytest.raises(Malformed, match="larger than any"):
        imported(vouched({}, bytes(4_000_001)))


@given(st.integers(0, 10**6), st.binary(max_size=12), st.integers(0, 8))
def test_damaged_activations_are_refused_or_mean_the_same(place: int, inserted: bytes, removed: int) -> None:
    bare = replace(
        entry("b", 1, blocks=0), fingerprint=replace(entry("b", 1, blocks=0).fingerprint, gains=b"", norms=0, gram=b"", anchors=0)
    )
    data = "".join(written([bare], activations=lambda _name: activations(2))).encode()
    place = data.index(b'"activations"') + place % (len(data) - data.index(b'"activations"'))
    told = attempt(lambda: imported(data[:place] + inserted + data[place + removed :]), what="import")
    same = [replace(bare, activations=activations(2))]
    assert told in (same, [bare]) or (isinstance(told, Missing) and "crashed" not in told.why and len(told.why.splitlines()) == 1)
