"""Least squares of one model on several candidate parents: coefficients with intervals, and what they leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

ALIKE = 1e-9  # relative size of a singular value of the candidates' products below which they cannot be told apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Gram:
    """Products of one tensor: of the candidates with each other (k, k), with the left side (k,), and of the left side with itself."""

    parents: Matrix
    cross: Matrix
    energy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """left = sum of coefficients times candidates + residual. Intervals are 95 %, from the spread over `tensors`.

    `residual`: its energy over that of the left side. `gain`: the share of the distance to the nearest single candidate that the
    mixture removes (energies). `distinct`: whether the candidates can be told apart.
    """

    coefficients: tuple[float, ...]
    intervals: tuple[float, ...]
    residual: float
    gain: float
    tensors: int
    distinct: bool


def gram(left: Matrix, parents: Sequence[Matrix]) -> Gram:
    """The products of one tensor with its candidates, all of one shape."""
    rows = np.stack([parent.ravel() for parent in parents])
    flat = left.ravel()
    return Gram(parents=rows @ rows.T, cross=rows @ flat, energy=float(flat @ flat))


def mixture(grams: Sequence[Gram]) -> Mixture | None:
    """The coefficients over all tensors, each tensor weighing alike; None with fewer than two tensors that say anything."""
    scaled = [Gram(parents=item.parents / item.energy, cross=item.cross / item.energy, energy=1.0) for item in grams if item.energy > 0]
    if len(scaled) < 2:
        return None
    pooled = sum((item.parents for item in scaled[1:]), scaled[0].parents)
    cross = sum((item.cross for item in scaled[1:]), scaled[0].cross)
    coefficients, distinct = _solved(pooled, cross)
    each = np.stack([_solved(item.parents, item.cross)[0] for item in scaled])  # (tensors, k)
    residual = max(0.0, 1.0 - float(coefficients @ cross) / len(scaled))
    nearest = min(float(len(scaled) - 2 * cross[place] + pooled[place, place]) for place in range(len(cross))) / len(scaled)
    return Mixture(
        coefficients=tuple(float(value) for value in coefficients),
        intervals=tuple(interval(column) for column in each.T),
        residual=residual,
        gain=1.0 - residual / nearest if nearest > 0 else 0.0,
        tensors=len(scaled),
        distinct=distinct,
    )


def interval(values: NDArray[np.float64]) -> float:
    """Half the width of a 95 % interval of the mean of values that err independently (normal, two standard errors)."""
    return 2 * float(values.std(ddof=1)) / sqrt(len(values)) if len(values) > 1 else float("inf")


def _solved(parents: Matrix, cross: Matrix) -> tuple[Matrix, bool]:
    """(coefficients of least norm, whether they are the only ones)."""
    values, vectors = np.linalg.eigh(parents)
    usable = values > ALIKE * max(float(values[-1]), np.finfo(np.float64).tiny)
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=usable)
    return np.asarray(vectors @ (inverse * (vectors.T @ cross))), bool(usable.all())
