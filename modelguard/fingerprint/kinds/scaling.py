"""Factors by row and by column: whether one matrix is another with rows and columns multiplied by constants."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

EXACT = 4.0  # units of relative rounding that an exact factor may leave
EXPLAINED = 0.01  # of the spread of logarithms of ratios, left by exact factors
SPREAD = 0.2  # of logarithms of factors, above which norms of units differ by a factor
BEYOND_CHANGE = 1.0  # how many times larger than the change of direction (its sine) that spread must be


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Factors between two matrices: exact ones up to rounding, or of the norms of rows or columns beside another change.

    `spread`: standard deviation of the factors' logarithms; `turned`: the median sine of the angle between partners.
    """

    along: str
    exact: bool
    smallest: float
    largest: float
    spread: float
    turned: float


def scaling(left: Matrix, right: Matrix, bits: int) -> Scaling | None:
    """The factors between two matrices (n, p) whose values hold so many significant bits, or None where there are none."""
    return _exact(left, right, bits) or _of_norms(left, right, "row") or _of_norms(left.T, right.T, "column")


def _exact(left: Matrix, right: Matrix, bits: int) -> Scaling | None:
    """Factors r c, one a row and one a column, with L = r R c up to rounding; zeros must stand where zeros stand."""
    usable = right != 0
    if not np.array_equal(usable, left != 0) or np.mean(usable) < 0.5:
        return None
    with np.errstate(over="ignore"):
        ratios = np.abs(np.divide(left, right, out=np.ones_like(left), where=usable))
    logs = np.log(np.clip(ratios, 1e-300, 1e300))
    rows, columns = _additive(logs, usable)
    rest = float(np.sqrt(np.mean((logs - rows - columns)[usable] ** 2)))
    whole = float(np.sqrt(np.mean(logs[usable] ** 2)))
    if whole < 10 * EXACT * 2.0**-bits or rest > EXACT * 2.0**-bits or rest > sqrt(EXPLAINED) * whole or not _signs_agree(left, right):
        return None
    spans = float(rows.std()), float(columns.std())
    along = "row and column" if min(spans) > 10 * rest else "row" if spans[0] > spans[1] else "column"
    if max(spans) <= 10 * rest:
        along = "tensor"
    factors = np.exp((rows + columns)[usable])
    return Scaling(along=along, exact=True, smallest=float(factors.min()), largest=float(factors.max()), spread=max(spans), turned=0.0)


def _additive(logs: Matrix, usable: NDArray[np.bool_]) -> tuple[Matrix, Matrix]:
    """Row terms (n, 1) and column terms (1, p) whose sums come nearest to the usable logarithms."""
    rows, columns = np.zeros((logs.shape[0], 1)), np.zeros((1, logs.shape[1]))
    for _ in range(1 if usable.all() else 20):
        rows = np.mean(logs - columns, axis=1, keepdims=True, where=usable | ~usable.any(axis=1, keepdims=True))
        columns = np.mean(logs - rows, axis=0, keepdims=True, where=usable | ~usable.any(axis=0, keepdims=True))
    return rows, columns


def _signs_agree(left: Matrix, right: Matrix) -> bool:
    """Whether the signs of the ratios are a sign of the row times a sign of the column."""
    signs = np.sign(left) * np.sign(right)
    pivot = int(np.argmax(np.count_nonzero(signs, axis=1)))
    by_row = np.sign(signs @ signs[pivot])[:, None]
    return bool(np.all((signs == by_row * signs[pivot]) | (signs == 0) | (signs[pivot] == 0)))


def _of_norms(left: Matrix, right: Matrix, along: str) -> Scaling | None:
    """Factors of the norms of rows, where they spread more than another change explains."""
    ours, theirs = np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1)
    usable = (ours > 1e-6 * ours.max()) & (theirs > 1e-6 * theirs.max())
    if np.count_nonzero(usable) < max(8, len(ours) / 2):
        return None
    ours, theirs = ours[usable], theirs[usable]
    cosines = np.einsum("ij,ij->i", left[usable], right[usable]) / (ours * theirs)
    turned = float(np.median(np.sqrt(np.clip(1 - cosines**2, 0.0, 1.0))))
    logs = np.log(ours / theirs)
    spread = float(np.subtract(*np.quantile(logs, (0.84, 0.16)))) / 2
    if spread < SPREAD or spread < BEYOND_CHANGE * turned:
        return None
    low, high = np.exp(np.quantile(logs, (0.05, 0.95)))
    return Scaling(along=along, exact=False, smallest=float(low), largest=float(high), spread=spread, turned=turned)
