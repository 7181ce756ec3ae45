"""Exact tests of independence on the weights of one layer, each blind to a disguise that another one sees.

Every test compares descriptions of things that are exchangeable under independence, and counts how many are strictly nearest to their
own partner (matching.py: P(K >= k) <= 1 / k! a block, L^k / k! over L independent blocks).

T1  units by their weights. Sees through any change that keeps the order and the frame; blind to permuted units and to rotations.
T2  axes of the residual stream by their cosines with other axes over all units. Blind to rotations, sees through permuted or
    rescaled units. Null: axes of the residual stream are exchangeable.
T3  units by their cosines with other units. Blind to permuted units, sees through any rotation or permutation of the residual
    stream and through rescaled units. Null: units are exchangeable.

Source: fixed points of a matching and the Gram statistic over units, from the family of tests of Zhu et al. 2025 (arXiv 2502.12292);
splitting units into anchors and tested ones makes the Gram test one of fixed points, with a bound that does not end at 1 / draws.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.correspondence.tiles import pieces, rows
from modelguard.fingerprint.blocks import Block
from modelguard.fingerprint.matching import fixed_points

Matrix = NDArray[np.float32]

T1 = "t1-unit-fixed-points-v1-m64"
T2 = "t2-axis-gram-fixed-points-v1-m128"
T3 = "t3-unit-gram-fixed-points-v3-m256-w2048-e23"
ASSUMPTION = {
    T1: "independent initialisation; units of a layer exchangeable under training",
    T2: "independent initialisation; axes of the residual stream exchangeable under training",
    T3: "independent initialisation; units of a layer exchangeable under training",
}
TESTED_UNITS = 64
TESTED_GRAM_UNITS = 256  # more than for T1: cosines between units carry a diluted share quadratically weaker than weights do
TESTED_AXES = 128
WINDOW = 2048  # units read of a layer for T1 and T3
WINDOW_ENTRIES = 1 << 23  # fewer units of a layer wider than 4096, so that memory has a bound; wide rows have less noise in their cosines
MAX_AXIS_UNITS = 16_384  # units read of a layer for T2


@dataclass(frozen=True, slots=True)
class Sample:
    """The same stretch of units of both sides as (n, width) float32."""

    left: Matrix
    right: Matrix

    @property
    def count(self) -> int:
        return len(self.left)


def window(block: Block) -> tuple[int, int]:
    """The stretch of units that is read: its place depends on the shape alone, so that any two layers of one shape can be compared."""
    count = min(block.units, WINDOW, max(2 * TESTED_GRAM_UNITS, WINDOW_ENTRIES // max(1, block.width)))
    seed = hashlib.sha256(f"modelguard/window/v2/{block.units}/{block.width}".encode()).digest()
    start = int.from_bytes(seed[:8], "little") % (block.units - count + 1)
    return start, start + count


def sample(left: Checkpoint, right: Checkpoint, block: Block) -> Sample:
    """Reads the stretch of units of a block on both sides."""
    start, stop = window(block)
    return Sample(rows(left, block.left, start, stop), rows(right, block.right, start, stop))


def t1(units: Sample) -> tuple[int, int]:
    """T1 on the first units of the stretch: (fixed points, units tested)."""
    tested = min(TESTED_UNITS, units.count)
    return fixed_points(units.left[:tested], units.right[:tested]), tested


def t3(units: Sample) -> tuple[int, int]:
    """T3 on the first units of the stretch, with all others as anchors: (fixed points, units tested)."""
    tested = min(TESTED_GRAM_UNITS, units.count // 2)
    return fixed_points(_profiles(units.left, tested), _profiles(units.right, tested)), tested


def t2(left: Matrix, right: Matrix) -> tuple[int, int]:
    """T2 on what `axis_profiles` gave for both sides: (fixed points, axes tested)."""
    return fixed_points(left, right), len(left)


def axis_profiles(checkpoint: Checkpoint, name: str, block: Block) -> Matrix:
    """Cosines of the first axes of the residual stream with all others over the units of a layer, (tested, width - tested).

    Every unit is given length 1 first, so that rescaled units count alike. The units are walked over, never held at once.
    """
    tested = min(TESTED_AXES, block.width // 2)
    products = np.zeros((tested, block.width))
    squares = np.zeros(block.width)
    for _, piece in pieces(checkpoint, name, min(block.units, MAX_AXIS_UNITS)):
        units = directions(piece)
        products += units[:, :tested].T @ units
        squares += np.einsum("ij,ij->j", units, units)
    length = np.sqrt(squares[:tested, None] * squares[tested:])
    return np.asarray(np.divide(products[:, tested:], length, out=np.zeros_like(length), where=length > 0), dtype=np.float32)


def _profiles(things: Matrix, tested: int) -> Matrix:
    """Cosines of the first `tested` rows with all the others, (tested, n - tested)."""
    unit = directions(things)
    return np.asarray(unit[:tested] @ unit[tested:].T)


def directions(things: Matrix) -> Matrix:
    """Rows scaled to length 1, in a copy; zero and non-finite rows become zero."""
    made = np.nan_to_num(things, nan=0.0, posinf=0.0, neginf=0.0)
    scale = np.maximum(made.max(axis=1, keepdims=True, initial=0.0), -made.min(axis=1, keepdims=True, initial=0.0))
    np.divide(made, scale, out=made, where=scale > 0)
    length = np.sqrt(np.einsum("ij,ij->i", made, made))[:, None]
    return np.asarray(np.divide(made, length, out=made, where=length > 0))
