"""The exact difference of two checkpoints: one pass over both, tile by tile, on as many threads as help.

Stretches whose bytes are equal are compared and nothing more. A stretch that differs is brought to float32 and counted: bit-equal
entries, largest |a - b|, and the sums of a², b² and (a - b)², in float32 within a tile of at most 2^18 entries and in float64 over tiles.
A second look is taken only at the equal stretches of tensors that differ elsewhere, for their share of the sums.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import FLOATING, NUMPY, PRECISION, itemsize, to_float32
from modelguard.correspondence.alignment import Alignment
from modelguard.correspondence.tiles import TILE_BYTES
from modelguard.types.weights import TensorDifference

EQUAL_BYTES = 2 * TILE_BYTES  # comparing alone needs no float32 copies beside it
TILES_PER_SPAN = 64  # what one thread takes at a time
THREADS = min(4, os.cpu_count() or 1)
Bytes = NDArray[np.uint8]


@dataclass(slots=True)
class Sums:
    """Totals of one stretch of one tensor pair; `complete` says whether the squares were summed."""

    entries: int = 0
    equal: int = 0
    max_abs: float = 0.0
    left: float = 0.0
    right: float = 0.0
    delta: float = 0.0
    nonfinite: int = 0
    complete: bool = True

    def add(self, other: Sums) -> None:
        self.entries += other.entries
        self.equal += other.equal
        self.max_abs = max(self.max_abs, other.max_abs)
        self.left += other.left
        self.right += other.right
        self.delta += other.delta
        self.nonfinite += other.nonfinite


class _Scratch(threading.local):
    """Buffers of one thread, made once: a tile of each side, its float32 copies, and a mask."""

    def __init__(self) -> None:
        self.tiles = bytearray(EQUAL_BYTES), bytearray(EQUAL_BYTES)  # whole bytearrays compare with memcmp, without a mask to write
        self.raw = np.empty((2, TILE_BYTES * 16), dtype=np.uint8)
        self.floats = np.empty((3, TILE_BYTES * 2), dtype=np.float32)
        self.mask = np.empty(TILE_BYTES * 2, dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two tensors of one shape."""

    sides: tuple[Checkpoint, Checkpoint]
    names: tuple[str, str]
    dtypes: tuple[str, str]
    entries: int

    @property
    def sizes(self) -> tuple[int, int]:
        return itemsize(self.dtypes[0]), itemsize(self.dtypes[1])

    @property
    def step(self) -> int:
        """Entries in a tile. A complex entry counts as two floats, so it fits the scratch twice over."""
        return TILE_BYTES // min(self.sizes)

    def read(self, first: int, count: int, scratch: _Scratch) -> tuple[Bytes, Bytes]:
        """The bytes of `count` entries of both sides, in the thread's scratch."""
        tiles = []
        for side, name, size, buffer in zip(self.sides, self.names, self.sizes, scratch.raw, strict=True):
            tile = buffer[: count * size]
            side.readinto(name, first * size, tile.data)
            tiles.append(tile)
        return tiles[0], tiles[1]


def difference(left: Checkpoint, right: Checkpoint, alignment: Alignment) -> tuple[TensorDifference, ...]:
    """The exact difference of every aligned tensor pair, in the alignment's order."""
    scratch = _Scratch()
    pairs = [_pair(left, right, *names) for names in alignment.pairs]
    with ThreadPoolExecutor(THREADS) as pool:
        jobs = [(pair, start) for pair in pairs for start in _starts(pair)]
        results = iter(list(pool.map(lambda job: _span(job[0], job[1], scratch), jobs)))
        return tuple(_tensor(pair, [next(results) for _ in _starts(pair)], scratch) for pair in pairs)


def _pair(left: Checkpoint, right: Checkpoint, left_name: str, right_name: str) -> _Pair:
    info, other = left.tensors[left_name], right.tensors[right_name]
    return _Pair((left, right), (left_name, right_name), (info.dtype, other.dtype), info.entries)


def _starts(pair: _Pair) -> range:
    return range(0, pair.entries, pair.step * TILES_PER_SPAN)


def _span(pair: _Pair, start: int, scratch: _Scratch) -> Sums:
    """Totals of one stretch: only their number while all bytes are equal, everything otherwise."""
    stop = min(pair.entries, start + pair.step * TILES_PER_SPAN)
    same = pair.dtypes[0] == pair.dtypes[1] and _equal_bytes(pair, start, stop, scratch)
    return Sums(entries=stop - start, equal=stop - start, complete=False) if same else _sums(pair, start, stop, scratch)


def _equal_bytes(pair: _Pair, start: int, stop: int, scratch: _Scratch) -> bool:
    (left, right), size = scratch.tiles, pair.sizes[0]
    for place in range(start * size, stop * size, EQUAL_BYTES):
        length = min(EQUAL_BYTES, stop * size - place)
        for side, name, tile in zip(pair.sides, pair.names, (left, right), strict=True):
            side.readinto(name, place, memoryview(tile)[:length])
        if left != right if length == EQUAL_BYTES else left[:length] != right[:length]:
            return False
    return True


def _sums(pair: _Pair, start: int, stop: int, scratch: _Scratch) -> Sums:
    total = Sums()
    for first in range(start, stop, pair.step):
        total.add(_tile(pair, first, min(pair.step, stop - first), scratch))
    return total


def _tile(pair: _Pair, first: int, count: int, scratch: _Scratch) -> Sums:
    raw = pair.read(first, count, scratch)
    equal = _bit_equal(raw, pair.dtypes, scratch.mask[:count])
    floats = count * (2 if "C64" in pair.dtypes else 1)
    left, right, delta = (row[:floats] for row in scratch.floats)
    for bytes_, dtype, out in zip(raw, pair.dtypes, (left, right), strict=True):
        to_float32(bytes_, dtype, out if dtype == "C64" or floats == count else out[:count])
    with np.errstate(over="ignore", invalid="ignore"):
        np.subtract(left, right, out=delta)
        sums = [float(np.dot(vector, vector)) for vector in (left, right, delta)]
    if not all(map(isfinite, sums)):
        return _careful(left, right, count, equal)
    largest = max(float(delta.max(initial=0.0)), -float(delta.min(initial=0.0)))
    return Sums(entries=count, equal=equal, max_abs=largest, left=sums[0], right=sums[1], delta=sums[2])


def _careful(left: NDArray[np.float32], right: NDArray[np.float32], count: int, equal: int) -> Sums:
    """A tile with NaN, infinities or squares beyond float32: those entries are counted and left out, the rest is summed in float64."""
    finite = np.isfinite(left) & np.isfinite(right)
    a, b = left[finite].astype(np.float64), right[finite].astype(np.float64)
    largest = float(np.abs(a - b).max(initial=0.0))
    sums = [float(np.dot(vector, vector)) for vector in (a, b, a - b)]
    nonfinite = int(finite.size - finite.sum())
    return Sums(entries=count, equal=equal, max_abs=largest, left=sums[0], right=sums[1], delta=sums[2], nonfinite=nonfinite)


def _bit_equal(raw: tuple[Bytes, Bytes], dtypes: tuple[str, str], mask: NDArray[np.bool_]) -> int:
    """Entries that agree to the bit; of two types, those whose wider value rounds to exactly the narrower one."""
    if dtypes[0] == dtypes[1]:
        words = _words(itemsize(dtypes[0]))
        left, right = raw[0].view(words), raw[1].view(words)
    else:
        narrow, wide = sorted((0, 1), key=lambda side: (itemsize(dtypes[side]), PRECISION.get(dtypes[side], 0)))
        if not {dtypes[0], dtypes[1]} <= FLOATING:
            return int(np.count_nonzero(raw[0].view(NUMPY[dtypes[0]]) == raw[1].view(NUMPY[dtypes[1]])))
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = raw[wide].view(NUMPY[dtypes[wide]]).astype(NUMPY[dtypes[narrow]])
        words = _words(itemsize(dtypes[narrow]))
        left, right = raw[narrow].view(words), rounded.view(words)
    np.equal(left, right, out=mask)
    return int(np.count_nonzero(mask))


def _words(size: int) -> np.dtype[Any]:
    return np.dtype(f"<u{size}")


def _tensor(pair: _Pair, spans: Sequence[Sums], scratch: _Scratch) -> TensorDifference:
    """One tensor's difference from its stretches."""
    total = Sums()
    differs = any(span.complete for span in spans)
    for span, start in zip(spans, _starts(pair), strict=True):
        stop = min(pair.entries, start + pair.step * TILES_PER_SPAN)
        total.add(_sums(pair, start, stop, scratch) if differs and not span.complete else span)
    same = total.equal == pair.entries
    kind = ("identical" if pair.dtypes[0] == pair.dtypes[1] else "cast") if same else "changed"
    norm = sqrt(total.left * total.right)
    return TensorDifference(
        name=pair.names[0],
        matched=pair.names[1],
        dtype=pair.dtypes[0],
        shape=pair.sides[0].tensors[pair.names[0]].shape,
        entries=pair.entries,
        equal=total.equal,
        max_abs=total.max_abs,
        relative=sqrt(total.delta / total.right) if total.right else float(total.delta > 0),
        cosine=1.0 if kind == "identical" else (total.left + total.right - total.delta) / (2 * norm) if norm else 0.0,
        energy=total.left / total.right if total.right else 1.0,
        nonfinite=total.nonfinite,
        explanation=kind,
    )
