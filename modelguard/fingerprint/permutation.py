"""Exact permutations: the same units in another order. Looked for only where a tensor's energy did not change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import FLOATING
from modelguard.correspondence.tiles import pieces, rows
from modelguard.fingerprint.blocks import ATTENTION, layer_of
from modelguard.types.weights import TensorDifference

SAME_ENERGY = 1e-4  # a permutation keeps the sum of squares; sums of float32 tiles agree at least this well
MAX_LENGTH = 1 << 20  # of an axis whose order is looked for: what is held of a tensor is one number a row and one a column
Order = NDArray[np.intp]
Hashes = NDArray[np.uint64]
Matrix = NDArray[np.float32]


def explain(left: Checkpoint, right: Checkpoint, differences: Sequence[TensorDifference]) -> tuple[TensorDifference, ...]:
    """The differences, with `permuted` where a tensor is its partner with the units of its layer in another order.

    The order is read off the layer's matrices and must be one for the whole layer: tensors that are equal as sets of rows, but each in
    an order of its own, compute another function and stay `changed`. So do units that are written in another order than they are read.
    """
    candidates = [item for item in differences if _candidate(item)]
    orders: dict[tuple[str, int], Order] = {}
    for item in candidates:
        if len(item.shape) == 2:
            for axis, order in _orders(left, right, item):
                orders.setdefault((layer_of(item.name), item.shape[axis]), order)
    found = {item.name: _reordered_axis(left, right, item, orders) for item in candidates}
    axes = {name: place for name, place in found.items() if place is not None}
    sound = _sound(left, differences, axes, orders)
    return tuple(replace(item, explanation="permuted") if item.name in sound else item for item in differences)


def _sound(
    left: Checkpoint, differences: Sequence[TensorDifference], axes: Mapping[str, int], orders: Mapping[tuple[str, int], Order]
) -> set[str]:
    """The reordered tensors whose layer writes and reads the units in that order, with no tensor of theirs left behind."""
    layers: dict[str, list[TensorDifference]] = defaultdict(list)
    for item in differences:
        layers[layer_of(item.name)].append(item)
    return {name for layer in layers.values() for name in _whole(layer, axes, orders) if name in left.tensors}


def _whole(layer: Sequence[TensorDifference], axes: Mapping[str, int], orders: Mapping[tuple[str, int], Order]) -> set[str]:
    """The reordered tensors of one layer, by what they belong to: an order holds for attention or for the rest, each on its own."""
    found: set[str] = set()
    for attention in (False, True):
        items = [item for item in layer if bool(ATTENTION.search(item.name)) is attention]
        moved = [item for item in items if item.name in axes]
        lengths = {item.shape[axes[item.name]] for item in moved}
        for length in sorted(lengths):
            group = [item for item in moved if item.shape[axes[item.name]] in (length, *_doubled(layer, length, lengths, orders))]
            sides = {axes[item.name] for item in group if len(item.shape) == 2}
            behind = [item for item in items if length in item.shape and item.name not in axes and not _square(layer, length)]
            if sides == {0, 1} and (attention or not behind):
                found |= {item.name for item in group}
    return found


def _doubled(
    layer: Sequence[TensorDifference], length: int, lengths: Collection[int], orders: Mapping[tuple[str, int], Order]
) -> tuple[int, ...]:
    """The length of a fused gate and up that is in this order twice over."""
    name = layer_of(layer[0].name)
    if 2 * length not in lengths:
        return ()
    order = orders[name, length]
    return (2 * length,) if np.array_equal(orders[name, 2 * length], np.concatenate([order, order + length])) else ()


def _square(layer: Sequence[TensorDifference], length: int) -> bool:
    """Whether a length is that of the residual stream too, so that not every tensor that has it holds these units."""
    return any(item.shape == (length,) and "norm" in item.name.lower() for item in layer)


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


def _reordered_axis(left: Checkpoint, right: Checkpoint, item: TensorDifference, orders: Mapping[tuple[str, int], Order]) -> int | None:
    """The axis along which a tensor is its partner in its layer's order; None where it is not."""
    known = ((axis, orders.get((layer_of(item.name), length))) for axis, length in enumerate(item.shape))
    return next((axis for axis, order in known if order is not None and _agrees(left, right, item, axis, order)), None)


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
