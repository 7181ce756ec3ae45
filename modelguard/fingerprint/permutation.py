"""Exact permutations: the same units in another order. Looked for only where a tensor's energy did not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import FLOATING
from modelguard.fingerprint.blocks import layer_of
from modelguard.fingerprint.tiles import pieces, rows
from modelguard.types.weights import TensorDifference

SAME_ENERGY = 1e-4  # a permutation keeps the sum of squares; sums of float32 tiles agree at least this well
MAX_LENGTH = 1 << 20  # of an axis whose order is looked for: what is held of a tensor is one number a row and one a column
Order = NDArray[np.intp]
Hashes = NDArray[np.uint64]
Matrix = NDArray[np.float32]


def explain(left: Checkpoint, right: Checkpoint, differences: Sequence[TensorDifference]) -> tuple[TensorDifference, ...]:
    """The differences, with `permuted` where a tensor is its partner with the units of its layer in another order.

    The order is read off the layer's matrices and must be one for the whole layer: tensors that are equal as sets of rows, but each in
    an order of its own, compute another function and stay `changed`.
    """
    candidates = [item for item in differences if _candidate(item)]
    orders: dict[tuple[str, int], Order] = {}
    for item in candidates:
        if len(item.shape) == 2:
            for axis, order in _orders(left, right, item):
                orders.setdefault((layer_of(item.name), item.shape[axis]), order)
    sound = {item.name for item in candidates if _is_reordered(left, right, item, orders)}
    return tuple(replace(item, explanation="permuted") if item.name in sound else item for item in differences)


def _candidate(item: TensorDifference) -> bool:
    sized = 1 <= len(item.shape) <= 2 and item.entries > 1 and max(item.shape) <= MAX_LENGTH
    plain = item.dtype in FLOATING and sized and not item.nonfinite
    return plain and item.explanation == "changed" and abs(item.energy - 1) < SAME_ENERGY


def _orders(left: Checkpoint, right: Checkpoint, item: TensorDifference) -> list[tuple[int, Order]]:
    """(axis, order) where the tensor is its partner taken in that order along that axis, and in no other."""
    edges = zip(_edges(left, item.name), _edges(right, item.matched), strict=True)
    if not any(np.array_equal(ours, theirs) for ours, theirs in edges):
        return []  # the first column is no reordered first column, nor the first row a reordered first row
    hashes = zip(_hashes(left, item.name), _hashes(right, item.matched), strict=True)
    found = ((axis, _order(*sides)) for axis, sides in enumerate(hashes))
    return [(axis, order) for axis, order in found if order is not None]


def _edges(checkpoint: Checkpoint, name: str) -> tuple[Matrix, Matrix]:
    """The first column and the first row of a matrix, sorted."""
    count = checkpoint.tensors[name].shape[0]
    column = np.concatenate([piece[:, 0] for _, piece in pieces(checkpoint, name, count)])
    return np.sort(column), np.sort(rows(checkpoint, name, 0, 1)[0])


def _order(keys: Hashes, other: Hashes) -> Order | None:
    """The order in which `other` is `keys`, if there is exactly one."""
    places, order = np.argsort(other), np.argsort(keys)
    if not np.array_equal(keys[order], other[places]) or len(np.unique(keys)) < len(keys):
        return None
    result = np.empty_like(order)
    result[order] = places
    return result


def _hashes(checkpoint: Checkpoint, name: str) -> tuple[Hashes, Hashes]:
    """A 64-bit hash (multiplicative, over the bits of entries as float32) of every row and of every column of a matrix."""
    count, width = checkpoint.tensors[name].shape
    rng = np.random.default_rng(20261122)
    by_row, by_column = (rng.integers(1, 2**63, length, dtype=np.uint64) | np.uint64(1) for length in (count, width))
    of_rows, of_columns = np.empty(count, dtype=np.uint64), np.zeros(width, dtype=np.uint64)
    for stretch, piece in pieces(checkpoint, name, count):
        bits = piece.view(np.uint32).astype(np.uint64)
        of_columns += by_row[stretch] @ bits
        of_rows[stretch] = bits @ by_column
    return of_rows, of_columns


def _is_reordered(left: Checkpoint, right: Checkpoint, item: TensorDifference, orders: Mapping[tuple[str, int], Order]) -> bool:
    known = ((axis, orders.get((layer_of(item.name), length))) for axis, length in enumerate(item.shape))
    return any(order is not None and _agrees(left, right, item, axis, order) for axis, order in known)


def _agrees(left: Checkpoint, right: Checkpoint, item: TensorDifference, axis: int, order: Order) -> bool:
    """Whether a tensor is its partner taken in that order along that axis, entry by entry."""
    for stretch, ours in pieces(left, item.name, item.shape[0]):
        if axis == 0:
            theirs = _gathered(right, item.matched, order[stretch])
        else:
            theirs = rows(right, item.matched, stretch.start, stretch.stop)[:, order]
        if not np.array_equal(ours, theirs):
            return False
    return True


def _gathered(checkpoint: Checkpoint, name: str, places: Order) -> Matrix:
    """Those rows of a tensor, in that order."""
    if len(checkpoint.tensors[name].shape) == 1:
        return rows(checkpoint, name, 0, checkpoint.tensors[name].shape[0])[places]
    return np.concatenate([rows(checkpoint, name, place, place + 1) for place in places])
