"""Exact permutations: the same units in another order. Looked for only where a tensor's energy did not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import FLOATING
from modelguard.fingerprint.blocks import layer_of
from modelguard.fingerprint.tiles import whole
from modelguard.types.weights import TensorDifference

SAME_ENERGY = 1e-4  # a permutation keeps the sum of squares; sums of float32 tiles agree at least this well
MAX_ENTRIES = 1 << 28
HASHED_ROWS = 1 << 12
Order = NDArray[np.intp]
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
    plain = item.dtype in FLOATING and 1 <= len(item.shape) <= 2 and 1 < item.entries <= MAX_ENTRIES and not item.nonfinite
    return plain and item.explanation == "changed" and abs(item.energy - 1) < SAME_ENERGY


def _orders(left: Checkpoint, right: Checkpoint, item: TensorDifference) -> list[tuple[int, Order]]:
    """(axis, order) where the tensor is its partner taken in that order along that axis, and in no other."""
    ours, theirs = whole(left, item.name), whole(right, item.matched)
    found = ((axis, _row_order(*sides)) for axis, sides in enumerate(((ours, theirs), (ours.T, theirs.T))))
    return [(axis, order) for axis, order in found if order is not None]


def _row_order(ours: Matrix, theirs: Matrix) -> Order | None:
    keys, other = _row_hashes(ours), _row_hashes(theirs)
    places, order = np.argsort(other), np.argsort(keys)
    if not np.array_equal(keys[order], other[places]) or len(np.unique(keys)) < len(keys):
        return None
    result = np.empty_like(order)
    result[order] = places
    return result


def _row_hashes(rows: Matrix) -> NDArray[np.uint64]:
    """A 64-bit hash a row (multiplicative, over the bits of its entries), in pieces so that the widened copy stays small."""
    weights = np.random.default_rng(20261122).integers(1, 2**63, rows.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(rows.shape[0], dtype=np.uint64)
    for start in range(0, rows.shape[0], HASHED_ROWS):
        bits = np.ascontiguousarray(rows[start : start + HASHED_ROWS]).view(np.uint32).astype(np.uint64)
        hashes[start : start + HASHED_ROWS] = (bits * weights).sum(axis=1, dtype=np.uint64)
    return hashes


def _is_reordered(left: Checkpoint, right: Checkpoint, item: TensorDifference, orders: Mapping[tuple[str, int], Order]) -> bool:
    ours, theirs = whole(left, item.name), whole(right, item.matched)
    for axis, length in enumerate(item.shape):
        order = orders.get((layer_of(item.name), length))
        if order is not None and np.array_equal(ours, np.take(theirs, order, axis=axis)):
            return True
    return False
