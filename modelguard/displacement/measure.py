"""Measures the movement of one tensor from its partner, tile by tile: memory does not grow with the model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import FLOATING, PRECISION, itemsize, to_float32
from modelguard.correspondence.tiles import rows
from modelguard.displacement.bounds import Bound

TILE_ENTRIES = 1 << 18
TINY = 2.0**-24  # half the distance of float16 numbers next to zero
LOW_RANK_BLOCK = 512
LOW_RANK_REST = 1e-6  # of the energy, or what rounding makes: what a sum of few outer products leaves beyond them
RANK_ROOM = 4.0  # times the energy of rounding that a matrix of the stated rank may leave beyond it: both sides may be rounded twice
# float tensors that no optimizer moves: statistics, tables, quantizer scales, routing biases
NOT_TRAINED = re.compile(
    r"(?:running_(?:mean|var)|num_batches_tracked|inv_freq|position_ids|masked_bias|attn\.bias|cluster_size|embed_avg|weight_[uv]"
    r"|(?:weight|input|output|k|v)_scale(?:_inv)?|e_score_correction_bias|expert_bias|sin_cached|cos_cached)$"
)
Array = NDArray[np.float64]
Advance = Callable[[int], None]
Sides = tuple[Checkpoint, Checkpoint]


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """One tensor pair: largest movement over the bound of an entry, sums of squares of movement and of its excess over rounding."""

    name: str
    shape: tuple[int, ...]
    ratio: float
    squares: float
    excess: float
    weights: float  # sum of squares of the base's entries
    own: float  # and of the checkpoint's
    product: float  # and their products
    grain: float  # relative size of what rounding on both sides may move

    @property
    def finite(self) -> bool:
        return all(map(isfinite, (self.squares, self.excess, self.weights, self.own, self.product)))

    @property
    def entries(self) -> int:
        return int(np.prod(self.shape))

    @property
    def cosine(self) -> float:
        return self.product / sqrt(self.own * self.weights) if self.own and self.weights else 0.0

    @property
    def rounding(self) -> float:
        """The largest sum of squares of movement that rounding alone makes."""
        return self.grain**2 * max(self.own, self.weights)


def comparable(sides: Sides, ours: str, theirs: str) -> bool:
    """Whether both tensors hold floating-point numbers of at least eight bits of significand, which an optimizer moves."""
    dtypes = sides[0].tensors[ours].dtype, sides[1].tensors[theirs].dtype
    whole = all(dtype in FLOATING and PRECISION.get(dtype, 0) >= 8 for dtype in dtypes)
    return whole and sides[0].tensors[ours].entries > 0 and not NOT_TRAINED.search(ours)


def measure(sides: Sides, names: tuple[str, str], limit: Bound, steps: int, advance: Advance | None) -> Movement:
    """One pair. An entry may move by reach + drift |base|, twice that where every step rounds to 16 bits, and by rounding of storage."""
    ours, theirs = names
    slack = 2.0 if narrow(sides[0], ours) else 1.0
    drift = 0.0 if limit.norm == "model" else limit.drift
    fine = 2.0 ** -precision(sides[0], ours)
    coarse = fine + 2.0 ** -PRECISION[sides[1].tensors[theirs].dtype] + (steps * 2.0**-24 if slack == 1.0 else 0.0)
    ratio = 0.0
    sums = np.zeros(5)  # squares of movement and of its excess, of both sides, and their product
    for after, before in _tiles(sides, names, advance):
        with np.errstate(invalid="ignore", over="ignore"):
            delta, size = np.abs(after - before), np.abs(before)
            room = slack * drift * size + coarse * size + fine * np.abs(after) + TINY
            ratio = max(ratio, float((delta / (slack * limit.reach + room)).max()))
            beyond = np.maximum(delta - room, 0.0) / slack
            sums += (delta @ delta, beyond @ beyond, size @ size, after @ after, after @ before)
    squares, excess, weights, own, product = map(float, sums)
    return Movement(
        name=ours,
        shape=sides[0].tensors[ours].shape,
        ratio=ratio,
        squares=squares,
        excess=excess,
        weights=weights,
        own=own,
        product=product,
        grain=fine + 2.0 ** -precision(sides[1], theirs),
    )


def _tiles(sides: Sides, names: tuple[str, str], advance: Advance | None) -> Iterator[tuple[Array, Array]]:
    """Stretches of both tensors as float64."""
    infos = [side.tensors[name] for side, name in zip(sides, names, strict=True)]
    for first in range(0, infos[0].entries, TILE_ENTRIES):
        count = min(TILE_ENTRIES, infos[0].entries - first)
        raw = [_raw(side, info.name, first, count) for side, info in zip(sides, infos, strict=True)]
        if advance is not None:
            advance(len(raw[0]) + len(raw[1]))
        yield _float64(raw[0], infos[0].dtype), _float64(raw[1], infos[1].dtype)


def _raw(side: Checkpoint, name: str, first: int, count: int) -> NDArray[np.uint8]:
    size = itemsize(side.tensors[name].dtype)
    raw = np.empty(count * size, dtype=np.uint8)
    side.readinto(name, first * size, raw.data)
    return raw


def _float64(raw: NDArray[np.uint8], dtype: str) -> Array:
    return raw.view(np.float64).copy() if dtype == "F64" else to_float32(raw, dtype).astype(np.float64)


def precision(checkpoint: Checkpoint, name: str) -> int:
    """Bits of significand of a tensor's entries; float32 whose first entries are all bfloat16 numbers counts as those."""
    dtype = checkpoint.tensors[name].dtype
    if dtype == "F32":
        raw = _raw(checkpoint, name, 0, min(4096, checkpoint.tensors[name].entries))
        return 24 if np.any(raw.view(np.uint32) & 0xFFFF) else 8
    return PRECISION[dtype]


def narrow(checkpoint: Checkpoint, name: str) -> bool:
    """Whether a tensor holds 16-bit numbers, whatever its type."""
    return precision(checkpoint, name) < 24


def beyond_rank(sides: Sides, names: tuple[str, str], rank: int) -> bool:
    """Whether the movement of a block of a matrix needs more directions than `rank`, by more than rounding makes.

    The block's rank is at most the matrix's, and by Weyl's inequality rounding E leaves no more than |E|_F^2 beyond the rank.
    """
    blocks = _block(sides, names, 4 * rank)
    if blocks is None or min(blocks[0].shape) <= rank:
        return False
    after, before = blocks
    energy = np.linalg.svd(after - before, compute_uv=False) ** 2
    allowed = RANK_ROOM * _grain(sides, names) ** 2 * float(np.maximum(after**2, before**2).sum())
    return float(energy[rank:].sum()) > allowed + LOW_RANK_REST * float(energy.sum())


def low_rank(sides: Sides, names: tuple[str, str]) -> bool:
    """Whether a quarter of the directions of a matrix's movement (its first rows and columns) carry all of it but rounding."""
    blocks = _block(sides, names, 0)
    if blocks is None:
        return False
    after, before = blocks
    energy = np.linalg.svd(after - before, compute_uv=False) ** 2
    rest = float(energy[max(1, len(energy) // 4) :].sum())
    return rest <= max(LOW_RANK_REST * float(energy.sum()), _grain(sides, names) ** 2 * float((before**2).sum()))


def _grain(sides: Sides, names: tuple[str, str]) -> float:
    return float(2.0 ** -precision(sides[0], names[0]) + 2.0 ** -precision(sides[1], names[1]))


def _block(sides: Sides, names: tuple[str, str], rows_wanted: int) -> tuple[Array, Array] | None:
    """The first rows and columns of both matrices (after, before); None for vectors, small matrices and numbers that are not finite."""
    shape = sides[0].tensors[names[0]].shape
    if len(shape) != 2 or min(shape) < 16:
        return None
    count = max(16, min(shape[0], max(LOW_RANK_BLOCK, rows_wanted), (1 << 23) // shape[1]))
    wide = slice(0, max(LOW_RANK_BLOCK, rows_wanted))
    count = min(count, shape[0])
    after, before = (rows(side, name, 0, count)[:, wide].astype(np.float64) for side, name in zip(sides, names, strict=True))
    return (after, before) if np.isfinite(after).all() and np.isfinite(before).all() else None


def reencoded(checkpoint: Checkpoint, name: str) -> bool:
    """Whether a tenth of a matrix's first entries are zero, or none of its first rows holds more distinct numbers than a byte counts."""
    sample = rows(checkpoint, name, 0, min(16, checkpoint.tensors[name].shape[0]))[:, : 1 << 14]
    distinct = max(len(np.unique(row)) for row in sample)
    return bool((sample == 0).mean() > 0.1) or (sample.shape[1] >= 1024 and distinct <= 256)
