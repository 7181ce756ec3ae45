"""An entry as a row: its words as JSON, its numbers as bytes, and one digest over both. Rows are checked before anybody uses them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Annotated

import msgspec

from modelguard.errors import BadRequest, Malformed
from modelguard.types.registry import BlockSketch, Entry, Fingerprint

MAX_NAME = 200
MAX_PAYLOAD = 8 << 20  # bytes of one entry's numbers
MAX_WORDS = 1 << 16  # bytes of one entry's words
_ADVICE = "export the entries that can be read from a copy that is whole"

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]
Small = Annotated[int, msgspec.Meta(ge=0, le=1 << 16)]
Word = Annotated[str, msgspec.Meta(max_length=2 * MAX_NAME)]


class _Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sketch without its numbers."""

    layer: Word
    units: Count
    width: Count
    rows: Small
    columns: Small
    exponent: Annotated[int, msgspec.Meta(ge=-100, le=126)]


class _Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry without its numbers, its fields in the order in which they are written."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
    alias: Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
    reference: Word
    independent: bool
    method: Annotated[str, msgspec.Meta(min_length=1, max_length=400)]
    parameters: Count
    tensors: Count
    layers: Small
    vocabulary: Count
    shapes: Word
    digest: Word | None
    blocks: Annotated[tuple[_Block, ...], msgspec.Meta(max_length=64)]
    axes: Small
    norms: Small
    anchors: Small
    anchored: Count

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many bytes each part of the numbers takes: the sketches, the gains, the cosines."""
        return (
            *(2 * block.rows * block.columns for block in self.blocks),
            2 * self.axes * self.norms,
            self.anchors * (self.anchors - 1) // 2,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An entry as it is stored; the first columns repeat what is in `words`, so that a database can look for it."""

    name: str
    shown: str
    method: str
    shape: str
    words: str
    payload: bytes = field(repr=False)
    digest: str


def pack(entry: Entry) -> Row:
    """The row of an entry. Raises BadRequest for a name that no output could show."""
    for text in (entry.name, entry.alias):
        if len(text) > MAX_NAME or not text.isprintable() or text != text.strip() or not entry.name:
            raise BadRequest(f"{text[:80]!a} is no name for an entry", advice=f"up to {MAX_NAME} printable characters")
    if len(entry.reference) > 2 * MAX_NAME or not entry.reference.isprintable():
        raise BadRequest(f"{entry.reference[:80]!a} is no reference", advice=f"up to {2 * MAX_NAME} printable characters")
    made = entry.fingerprint
    blocks = tuple(_Block(block.layer, block.units, block.width, block.rows, block.columns, block.exponent) for block in made.blocks)
    words = msgspec.json.encode(
        _Words(
            name=entry.name,
            alias=entry.alias,
            reference=entry.reference,
            independent=entry.independent,
            method=made.method,
            parameters=made.parameters,
            tensors=made.tensors,
            layers=made.layers,
            vocabulary=made.vocabulary,
            shapes=made.shapes,
            digest=made.digest,
            blocks=blocks,
            axes=made.axes,
            norms=made.norms,
            anchors=made.anchors,
            anchored=made.anchored,
        )
    )
    payload = b"".join((*(block.values for block in made.blocks), made.gains, made.gram))
    return Row(
        name=entry.name,
        shown=entry.shown,
        method=made.method,
        shape=made.shape,
        words=words.decode(),
        payload=payload,
        digest=_digest(words, payload),
    )


def unpack(row: Row, where: str) -> Entry:
    """The entry of a row. Raises Malformed, naming the place, for a row that is not what it was when it was written."""
    words, payload = row.words.encode("utf-8", "surrogatepass"), row.payload
    if len(words) > MAX_WORDS or len(payload) > MAX_PAYLOAD:
        raise Malformed(f"{where}: entry {row.name[:80]!a} is larger than any fingerprint", advice=_ADVICE)
    if _digest(words, payload) != row.digest:
        raise Malformed(f"{where}: entry {row.name[:80]!a} does not match its digest", advice=_ADVICE)
    try:
        told = msgspec.json.decode(words, type=_Words)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"{where}: entry {row.name[:80]!a}: {' '.join(str(error).split())[:120]}", advice=_ADVICE) from error
    if sum(told.sizes) != len(payload):
        raise Malformed(f"{where}: entry {row.name[:80]!a} has {len(payload)} bytes of numbers, {sum(told.sizes)} expected", advice=_ADVICE)
    entry = _entry(told, payload)
    if (entry.name, entry.shown, told.method, entry.fingerprint.shape) != (row.name, row.shown, row.method, row.shape):
        raise Malformed(f"{where}: entry {row.name[:80]!a} is filed under another name, method or shape", advice=_ADVICE)
    return entry


def _entry(told: _Words, payload: bytes) -> Entry:
    ends = list(accumulate(told.sizes, initial=0))
    parts = [payload[start:stop] for start, stop in pairwise(ends)]
    made = Fingerprint(
        method=told.method,
        parameters=told.parameters,
        tensors=told.tensors,
        layers=told.layers,
        vocabulary=told.vocabulary,
        shapes=told.shapes,
        digest=told.digest,
        blocks=tuple(_block(block, values) for block, values in zip(told.blocks, parts, strict=False)),
        axes=told.axes,
        norms=told.norms,
        gains=parts[-2],
        anchors=told.anchors,
        anchored=told.anchored,
        gram=parts[-1],
    )
    return Entry(name=told.name, alias=told.alias, reference=told.reference, independent=told.independent, fingerprint=made)


def _block(block: _Block, values: bytes) -> BlockSketch:
    return BlockSketch(
        layer=block.layer,
        units=block.units,
        width=block.width,
        rows=block.rows,
        columns=block.columns,
        exponent=block.exponent,
        values=values,
    )


def _digest(words: bytes, payload: bytes) -> str:
    return "sha256:" + hashlib.sha256(hashlib.sha256(words).digest() + payload).hexdigest()
