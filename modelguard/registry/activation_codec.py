"""An activation fingerprint as a row: its words as JSON, its arrays as bytes, one digest over both. Rows are checked before use."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Annotated

import msgspec
import numpy as np

from modelguard.errors import BadRequest, Malformed
from modelguard.types.activations import ActivationFingerprint

MAX_ACTIVATIONS = 4_000_000  # bytes of arrays, whatever the size of the network
MAX_WORDS = 1 << 13
_ADVICE = "add the model again with --activations"

Layer = Annotated[int, msgspec.Meta(ge=0, le=256)]
Few = Annotated[int, msgspec.Meta(ge=0, le=1024)]
Some = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Log = Annotated[float, msgspec.Meta(ge=-1e12, le=0)]


class _Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fingerprint without its arrays, its fields in the order in which they are written."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    method: Annotated[str, msgspec.Meta(min_length=1, max_length=400)]
    architecture: Annotated[str, msgspec.Meta(min_length=1, max_length=400)]
    layers: Layer
    depth: Layer
    which: Annotated[tuple[Layer, ...], msgspec.Meta(min_length=1, max_length=256)]
    texts: Few
    length: Few
    tokens: Some
    anchors: Some
    axes: Some
    units: Few
    heads: Some
    groups: Some
    columns: Some
    measures: Few
    top: Few
    control: tuple[Log, Log, Log]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationRow:
    """An activation fingerprint as it is stored, under the name of its entry; `method` repeats what is in `words`."""

    name: str
    method: str
    words: str
    payload: bytes = field(repr=False)
    digest: str


def pack_activations(name: str, made: ActivationFingerprint) -> ActivationRow:
    """The row of a fingerprint. Raises BadRequest for one that is larger than any may be."""
    payload = b"".join(made.arrays)
    if len(payload) > MAX_ACTIVATIONS:
        raise BadRequest(f"{name[:80]!a}: {len(payload)} bytes of activations, more than {MAX_ACTIVATIONS}")
    numbers = {key: getattr(made, key) for key in _Words.__struct_fields__ if key != "name"}
    words = msgspec.json.encode(_Words(name=name, **numbers))
    return ActivationRow(name=name, method=made.method, words=words.decode(), payload=payload, digest=_digest(words, payload))


def unpack_activations(row: ActivationRow, where: str) -> ActivationFingerprint:
    """The fingerprint of a row. Raises Malformed, naming the place, for a row that no honest hand wrote, or that was changed since."""
    what = f"{where}: the activations of {row.name[:80]!a}"
    words = row.words.encode("utf-8", "surrogatepass")
    if len(words) > MAX_WORDS or len(row.payload) > MAX_ACTIVATIONS:
        raise Malformed(f"{what} are larger than any may be", advice=_ADVICE)
    if _digest(words, row.payload) != row.digest:
        raise Malformed(f"{what} do not match their digest", advice=_ADVICE)
    try:
        told = msgspec.json.decode(words, type=_Words)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"{what}: {' '.join(str(error).split())[:120]}", advice=_ADVICE) from error
    if (told.name, told.method) != (row.name, row.method):
        raise Malformed(f"{what} are filed under another name or method", advice=_ADVICE)
    made = _made(told, row.payload, what)
    if reason := _strange(made):
        raise Malformed(f"{what}: {reason}", advice=_ADVICE)
    return made


def _made(told: _Words, payload: bytes, what: str) -> ActivationFingerprint:
    numbers = {key: getattr(told, key) for key in _Words.__struct_fields__ if key != "name"}
    bare = ActivationFingerprint(**numbers)
    if sum(bare.sizes) != len(payload):
        raise Malformed(f"{what} have {len(payload)} bytes, {sum(bare.sizes)} expected", advice=_ADVICE)
    ends = accumulate(bare.sizes, initial=0)
    ids, states, units, patterns, statistics, gram, next_ids, next_logs = (payload[start:stop] for start, stop in pairwise(ends))
    return replace(
        bare,
        ids=ids,
        states=states,
        unit_values=units,
        patterns=patterns,
        statistics=statistics,
        gram=gram,
        next_ids=next_ids,
        next_logs=next_logs,
    )


def _strange(made: ActivationFingerprint) -> str:
    """What no network gives; "" where there is nothing of the kind."""
    if not 1 <= made.depth <= made.layers or made.which[-1] >= made.depth or any(a >= b for a, b in pairwise(made.which)):
        return "its layers are not in order"
    if made.heads % made.groups:
        return "its heads do not make groups"
    if not made.architecture.isprintable() or not made.method.isprintable():
        return "a name that no output could show"
    halves = (made.states, made.unit_values, made.patterns, made.statistics, made.next_logs)
    if not all(bool(np.isfinite(np.frombuffer(values, dtype="<f2")).all()) for values in halves):
        return "numbers that are not finite"
    return "a probability above 1" if np.frombuffer(made.next_logs, dtype="<f2").max(initial=0) > 0 else ""


def _digest(words: bytes, payload: bytes) -> str:
    return "sha256:" + hashlib.sha256(b"activations\0" + hashlib.sha256(words).digest() + payload).hexdigest()
