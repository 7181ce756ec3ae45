"""Registries as text, `modelguard.registry/1`: a line that says how many entries follow, then one line an entry, each with its digest."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO

from modelguard.documents import json_object
from modelguard.errors import Malformed
from modelguard.registry import activation_codec
from modelguard.registry.activation_codec import MAX_ACTIVATIONS, ActivationRow, pack_activations, unpack_activations
from modelguard.registry.codec import MAX_PAYLOAD, MAX_WORDS, Row, pack, unpack
from modelguard.types.activations import ActivationFingerprint
from modelguard.types.registry import Entry

SCHEMA = "modelguard.registry/1"
MAX_LINE = 2 * (MAX_PAYLOAD + MAX_WORDS + MAX_ACTIVATIONS + activation_codec.MAX_WORDS)
MAX_ENTRIES = 1_000_000

Activations = Callable[[str], ActivationFingerprint | None]


def _none(_name: str) -> ActivationFingerprint | None:
    """No activations."""
    return None


def written(entries: Iterable[Entry], *, names: bool = False, activations: Activations = _none) -> Iterator[str]:
    """The lines of an export. Private entries go by their alias and without a reference, unless their `names` are wanted.

    The entries are held together once, because the first line counts them; their activations are asked for one by one, by name.
    """
    listed = list(entries)
    yield json.dumps({"schema": SCHEMA, "entries": len(listed)}) + "\n"
    for entry in listed:
        shown = entry if names or not entry.private else _unnamed(entry)
        line: dict[str, object] = _encoded(pack(shown))
        made = activations(entry.name)
        yield json.dumps(line if made is None else line | {"activations": _encoded(pack_activations(shown.name, made))}) + "\n"


def _encoded(row: Row | ActivationRow) -> dict[str, object]:
    return {"words": row.words, "payload": base64.b64encode(row.payload).decode(), "digest": row.digest}


def _unnamed(entry: Entry) -> Entry:
    """A private entry without whatever says which model it is."""
    return replace(entry, name=entry.alias, alias="", reference="", fingerprint=replace(entry.fingerprint, digest=None))


def read(file: BinaryIO, name: str) -> Iterator[Entry]:
    """The entries of an export. Raises Malformed for anything but what `written` writes, cut short or changed."""
    head = json_object(_line(file, name, 1), f"{name} line 1")
    count = head.get("entries")
    if head.get("schema") != SCHEMA or set(head) != {"schema", "entries"}:
        raise Malformed(f"{name}: does not begin as {SCHEMA}", advice="write it with `modelguard registry export`")
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MAX_ENTRIES:
        raise Malformed(f"{name}: says no number of entries between 0 and {MAX_ENTRIES}")
    for number in range(2, count + 2):
        yield _entry(_line(file, name, number), f"{name} line {number}")
    if file.read(1):
        raise Malformed(f"{name}: goes on after the {count} entries that it announces")


def _line(file: BinaryIO, name: str, number: int) -> bytes:
    line = file.readline(MAX_LINE + 1)
    if not line.endswith(b"\n"):
        why = "is longer than any entry" if len(line) > MAX_LINE else "is missing or cut short"
        raise Malformed(f"{name}: line {number} {why}", advice="export the registry again")
    return line


def _entry(line: bytes, where: str) -> Entry:
    document = json_object(line, where)
    activations = document.pop("activations", None)
    told, words, numbers, digest = _decoded(document, where)
    row = Row(
        name=_text(told, "name"),
        shown=_text(told, "alias") or _text(told, "name"),
        method=_text(told, "method"),
        shape=_shape(told),
        words=words,
        payload=numbers,
        digest=digest,
    )
    entry = unpack(row, where)
    pack(entry)  # the names must be such as may be stored
    return entry if activations is None else replace(entry, activations=_activations(activations, entry.name, where))


def _activations(document: object, name: str, where: str) -> ActivationFingerprint:
    if not isinstance(document, dict):
        raise Malformed(f"{where}: the activations are no object")
    told, words, numbers, digest = _decoded(document, f"{where}, activations")
    return unpack_activations(ActivationRow(name=name, method=_text(told, "method"), words=words, payload=numbers, digest=digest), where)


def _decoded(document: dict[str, object], where: str) -> tuple[dict[str, object], str, bytes, str]:
    """(words as JSON, as text, the payload's bytes, the digest) of one row. Raises Malformed."""
    words, payload, digest = (document.get(key) for key in ("words", "payload", "digest"))
    if len(document) != 3 or not (isinstance(words, str) and isinstance(payload, str) and isinstance(digest, str)):
        raise Malformed(f"{where}: is no entry: words, payload and digest are expected")
    told = json_object(words.encode("utf-8", "surrogatepass"), where)
    try:
        return told, words, base64.b64decode(payload, validate=True), digest
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"{where}: the payload is not base64") from error


def _text(told: dict[str, object], key: str) -> str:
    value = told.get(key)
    return value if isinstance(value, str) else ""


def _shape(told: dict[str, object]) -> str:
    blocks = told.get("blocks")
    first = blocks[0] if isinstance(blocks, list) and blocks else {}
    return f"{first.get('units')}x{first.get('width')}" if isinstance(first, dict) and first else ""
