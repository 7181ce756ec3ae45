"""What one tensor pair shows of how one side was made from the other, from a stated sample of rows of both.

At most ROWS rows in STRETCHES evenly spread stretches, of at most WIDTH entries each, are read, and the first COLUMNS entries of each
are looked at; a vector is one row. Whatever is not finite on either side counts as zero on both.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint, TensorInfo
from modelguard.checkpoints.dtypes import PRECISION, itemsize, to_float32
from modelguard.fingerprint.blocks import layer_of
from modelguard.fingerprint.kinds.grids import Grid, grid
from modelguard.fingerprint.kinds.scaling import Scaling, scaling
from modelguard.fingerprint.kinds.spectra import Spectrum, is_rounded, rounding_error, significant_bits, spectrum

ROWS = 256
STRETCHES = 4
WIDTH = 4096  # rows up to this are read whole, in one go
COLUMNS = 1024
MIN_SIDE = 16  # of a matrix whose spectrum, grid or factors say anything
LARGEST = 1e18  # entries beyond this count as not finite: their squares must stay numbers
WITHIN = 0.999  # the share of entries that a rewriting must explain
PRUNED = 0.05  # how much larger the share of zeros must be
HALF = (8, 11)  # significant bits of bfloat16 and float16

Rows = NDArray[np.float32]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """Numbers about one tensor pair, over its sample of `n` entries; L is left, R right, D = L - R.

    `relative`: |D| / |R|; `noise`: rms(D) over R's standard deviation; `alpha`: <L, R> / |R|², least squares of L on R; `energy`:
    |L|² / |R|²; all but `noise` over the entries where L is not zero, if it was pruned. `bits`: significant bits in use (left,
    right); `zeros`: share of zeros (left, right); `kept`: share of L's entries that are not zero and equal R's; `pattern`: N and M
    where every M entries of a row hold N zeros or more, for the smallest M; `rounded`: L is R rounded to the bits in use.
    """

    name: str
    matched: str
    matrix: bool
    small: bool  # more than a vector, and too small for its spectrum, grid or factors to say anything
    layered: bool
    n: int
    equal: float
    relative: float
    noise: float
    alpha: float
    energy: float
    kurtosis: float
    bits: tuple[int, int]
    zeros: tuple[float, float]
    kept: float
    pattern: tuple[int, int] | None
    grid: Grid | None
    spectrum: Spectrum | None
    scaling: Scaling | None
    rounded: bool

    @property
    def cosine(self) -> float:
        return self.alpha / sqrt(self.energy) if self.energy > 0 else 0.0

    @property
    def remainder(self) -> float:
        """|L - alpha R|² / |R|²."""
        return max(0.0, self.energy - self.alpha**2)

    @property
    def pruned(self) -> bool:
        return _pruned(self.zeros, self.grid)

    @property
    def coded(self) -> bool:
        """Whether values were rounded to a grid or set to zero."""
        return self.grid is not None or self.pruned

    @property
    def explained(self) -> bool:
        """Whether a rewriting of the same values explains the change up to rounding."""
        by_grid = self.grid is not None and self.grid.within >= WITHIN
        by_zeros = self.pruned and self.kept >= WITHIN
        return self.rounded or by_grid or by_zeros or (self.scaling is not None and self.scaling.exact)

    @property
    def movement(self) -> float:
        """How far training moved the tensor, relative to it: without what its grid or its factors account for."""
        if self.scaling is not None:
            return self.scaling.turned
        rounding = self.grid.noise if self.grid is not None else 0.0
        return sqrt(max(0.0, self.relative**2 - rounding**2))


def trait(left: Checkpoint, right: Checkpoint, name: str, other: str) -> Trait | None:
    """The traits of a tensor pair, or None where the samples are equal or empty, or one side is zero."""
    ours, theirs = sample(left, name), sample(right, other)
    finite = usable(ours) & usable(theirs)
    ours, theirs = np.where(finite, ours, np.float32(0)), np.where(finite, theirs, np.float32(0))
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    if not ours.size or np.array_equal(ours, theirs) or min(float(np.vdot(a, a)), float(np.vdot(b, b))) < 1e-30:
        return None
    bits = _bits(left.tensors[name], ours), _bits(right.tensors[other], theirs)
    return _trait(name, other, a, b, bits, vector=len(left.tensors[name].shape) < 2)


def usable(values: Rows) -> NDArray[np.bool_]:
    """Which values are numbers whose squares stay numbers."""
    return np.asarray(np.abs(values) < LARGEST)


def _trait(name: str, other: str, a: Matrix, b: Matrix, bits: tuple[int, int], *, vector: bool) -> Trait:
    matrix = not vector and min(a.shape) >= MIN_SIDE
    levels = grid(a, b, bits[0] if bits[0] in HALF else 24) if matrix else None
    zeros = float(np.mean(a == 0)), float(np.mean(b == 0))
    kept = a != 0 if _pruned(zeros, levels) else np.ones_like(a, dtype=np.bool_)
    energy = max(float(np.vdot(b[kept], b[kept])), np.finfo(np.float64).tiny)
    change, spread = a - b, float(b.std())
    return Trait(
        name=name,
        matched=other,
        matrix=matrix,
        small=not vector and not matrix,
        layered=layer_of(name) != name,
        n=a.size,
        equal=float(np.mean(a == b)),
        relative=sqrt(float(np.vdot(change[kept], change[kept])) / energy),
        noise=float(np.sqrt(np.mean(change**2))) / spread if spread > 1e-12 * float(np.abs(b).max()) else float("inf"),
        alpha=float(np.vdot(a[kept], b[kept])) / energy,
        energy=float(np.vdot(a, a)) / energy,
        kurtosis=_kurtosis(change),
        bits=bits,
        zeros=zeros,
        kept=float(np.mean(a[a != 0] == b[a != 0])),
        pattern=_pattern(a) if matrix else None,
        grid=levels,
        spectrum=spectrum(change, rounding_error(a, bits[0])) if matrix else None,
        scaling=scaling(a, b, min(bits)) if matrix else None,
        rounded=bits[0] < bits[1] and is_rounded(a, b, bits[0]),
    )


def _pruned(zeros: tuple[float, float], levels: Grid | None) -> bool:
    """Whether there are more zeros than before, and than rounding to a grid makes."""
    return zeros[0] - max(zeros[1], levels.zeros if levels else 0.0) >= PRUNED


def sample(checkpoint: Checkpoint, name: str) -> Rows:
    """The sample of a tensor, (rows, entries) float32."""
    info = checkpoint.tensors[name]
    count = info.shape[0] if len(info.shape) > 1 else 1
    width = info.entries // max(1, count)
    taken, length = min(count, ROWS), width if width <= WIDTH else COLUMNS
    stretches = STRETCHES if taken < count else 1
    size = taken // stretches
    starts = [round(place * (count - size) / max(1, stretches - 1)) for place in range(stretches)]
    parts = [_stretch(checkpoint, info, start, size, width, length) for start in starts]
    return np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)


def _stretch(checkpoint: Checkpoint, info: TensorInfo, start: int, count: int, width: int, length: int) -> Rows:
    """`count` rows from `start`, of each the first `length` of its `width` entries."""
    size = itemsize(info.dtype)
    whole = length == width
    reads = [(start, count * length)] if whole else [(row, length) for row in range(start, start + count)]
    raw = np.empty(count * length * size, dtype=np.uint8)
    place = 0
    for row, entries in reads:
        checkpoint.readinto(info.name, row * width * size, raw[place : place + entries * size].data)
        place += entries * size
    return np.ascontiguousarray(to_float32(raw, info.dtype).reshape(count, length)[:, :COLUMNS])


def _bits(info: TensorInfo, values: Rows) -> int:
    """The significant bits that the values use, at most what their type holds."""
    return min(PRECISION.get(info.dtype, 24), significant_bits(values), 24)


def _kurtosis(change: Matrix) -> float:
    """The fourth moment over the squared second: 3 for Gaussian noise, 1.8 for uniform noise, more where few entries carry most."""
    centred = change - change.mean()
    second = float(np.mean(centred**2))
    return float(np.mean(np.square(np.square(centred / sqrt(second))))) if second > 1e-300 else 0.0


def _pattern(values: Matrix) -> tuple[int, int] | None:
    """(N, M) of structured sparsity: every M neighbours of a row hold at least N zeros, N at least a half; None without."""
    for length in (4, 8):
        if values.shape[1] % length == 0:
            zeros = int((values.reshape(-1, length) == 0).sum(axis=1).min())
            if length // 2 <= zeros < length:
                return zeros, length
    return None
