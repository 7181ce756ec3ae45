"""The spectrum of a change: its numerical rank above the rounding of the stored values, and whether it is as flat as noise."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

EDGE = 1.5  # singular values this far above the largest one of rounding noise are signal
ROUNDED = 0.99  # the share of entries that are a rounding, to the last bit
ROUNDING = 4.0  # a remainder of at most this many times the energy of one rounding is rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """The singular values of a change D (n, p) in short.

    `rank`: how many of them stand above rounding; `full`: the largest rank that could have been seen; `remainder`: energy behind
    those, over the energy of one rounding; `signal`: energy of the whole over that. `flatness`: the largest singular value over
    that of independent noise of D's size, rms(D)·(√n + √p) (Marchenko and Pastur's edge): 1 for noise, more for what was learnt.
    """

    rank: int
    full: int
    remainder: float
    signal: float
    flatness: float

    @property
    def low(self) -> bool:
        """Whether the change is a matrix of low rank and rounding, and nothing else."""
        return 0 < self.rank <= self.full // 2 and self.remainder <= ROUNDING

    @property
    def negligible(self) -> bool:
        return self.signal <= ROUNDING


def spectrum(change: Matrix, rounding: float) -> Spectrum:
    """The spectrum of a finite change (n, p), where storing an entry errs by `rounding` (root mean square)."""
    count, width = change.shape
    small = change if count <= width else change.T
    squares = np.clip(np.linalg.eigvalsh(small @ small.T)[::-1], 0.0, None)  # σ², falling
    energy, edge = float(squares.sum()), sqrt(count) + sqrt(width)
    floor = max(rounding**2 * change.size, 1e-14 * energy, np.finfo(np.float64).tiny)
    rank = int(np.count_nonzero(squares > floor / change.size * (EDGE * edge) ** 2))
    size = sqrt(energy / change.size) * edge
    return Spectrum(
        rank=rank,
        full=min(count, width),
        remainder=float(squares[rank:].sum()) / floor,
        signal=energy / floor,
        flatness=sqrt(float(squares[0])) / size if size > 0 else 0.0,
    )


def rounding_error(values: Matrix, bits: int) -> float:
    """Root mean square error of rounding these values to `bits` significant bits: a unit in the last place over √12."""
    exponents = np.frexp(values)[1].astype(np.float64)
    last = np.where(values != 0, np.exp2(exponents - bits), 0.0)
    return float(np.sqrt(np.mean(last * last) / 12)) if values.size else 0.0


def significant_bits(values: NDArray[np.float32]) -> int:
    """The significant bits that float32 values use: 8 for bfloat16 stored as float32, 11 for float16, at most 24."""
    mantissas = (values.view(np.uint32) & np.uint32(0x7FFFFF)).ravel()
    used = int(np.bitwise_or.reduce(mantissas)) if mantissas.size else 0
    trailing = (used & -used).bit_length() - 1 if used else 23
    return 24 - trailing


def is_rounded(values: Matrix, wider: Matrix, bits: int) -> bool:
    """Whether values are the wider ones rounded, or cut off, to so many significant bits (all but the few too small for their type)."""
    mantissas, exponents = np.frexp(wider)
    scaled = np.ldexp(mantissas, bits)
    made = (np.ldexp(whole, exponents - bits) for whole in (np.rint(scaled), np.trunc(scaled)))
    return any(float(np.mean(values == rounded)) >= ROUNDED for rounded in made)
