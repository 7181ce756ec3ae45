"""Positive controls: what the declared base would look like had the checkpoint been made from it and then maltreated.

A test that stays silent says something only if it speaks on these. They are made from the base's own rows, at the same place and of
the same number as the rows under test, so that they measure the power of exactly this comparison.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Control = Callable[[Matrix, Matrix], Matrix]

DILUTED_SHARE = 0.2
ROWS_AT_A_TIME = 256


def four_bit(base: Matrix, _other: Matrix) -> Matrix:
    """Rounded to 16 levels a row (symmetric, absolute maximum)."""
    scale = np.abs(base).max(axis=1, keepdims=True, initial=0.0) / 7
    levels = np.divide(base, scale, out=np.zeros_like(base), where=scale > 0)
    return np.asarray(np.clip(np.rint(levels), -8, 7) * scale, dtype=np.float32)


def half_pruned(base: Matrix, _other: Matrix) -> Matrix:
    """The smaller half of every row's entries set to zero."""
    middle = np.median(np.abs(base), axis=1, keepdims=True)
    return np.where(np.abs(base) >= middle, base, np.float32(0))


def diluted(base: Matrix, other: Matrix) -> Matrix:
    """A merge that holds 20 % of the base and 80 % of the checkpoint in question, at equal size of every row."""
    own, size = (np.sqrt(np.einsum("ij,ij->i", side, side, dtype=np.float64))[:, None] for side in (base, other))
    ratio = np.divide(own, size, out=np.ones_like(own), where=size > 0).astype(np.float32)
    return np.asarray(DILUTED_SHARE * base + (1 - DILUTED_SHARE) * ratio * other, dtype=np.float32)


def made_by(control: Control, base: Matrix, other: Matrix) -> Matrix:
    """The control of every row (n, p), made a few rows at a time: controls know no more than the row they change."""
    made = np.empty_like(base)
    for start in range(0, len(base), ROWS_AT_A_TIME):
        stretch = slice(start, start + ROWS_AT_A_TIME)
        with np.errstate(over="ignore", invalid="ignore"):  # rows that are not numbers, or too small for one, make rows that say nothing
            made[stretch] = control(base[stretch], other[stretch])
    return made


CONTROLS: dict[str, Control] = {"4-bit": four_bit, "half pruned": half_pruned, "20 % diluted": diluted}
