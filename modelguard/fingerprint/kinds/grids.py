"""Grids of quantisation: whether values are few levels at equal distances, along rows, columns or groups of a row.

A group's largest |value| is k steps for some small k, so that every other value v must be a whole number of steps s = max|v| / k, up to
the rounding of the stored values. Each k from 1 to 255 is tried. Were the values no grid's, their phases v / s mod 1 would be as
good as uniform: a value within δ of a whole number has probability 2δ, the product over values times the number of k bounds p.
Values that equal the largest, and zeros, count for nothing, so that constant and empty groups show nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log2, log10

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

MAX_STEPS = 255
SPAN = 256  # entries looked at of a group
SCREENED = 12
GROUPS = 24  # groups looked at of a tensor
TRIED = 6  # of those, to see whether the others are worth it
MIN_TIES = 4  # values that equal the largest, where a group has no others
MIN_LOG10_P = -6.0  # of one group
SHARE = 0.9  # of the groups that can show a grid
HALF_STEP = 0.502  # with room for the rounding of what is stored
SIZES = (128, 64, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A grid that a tensor's values lie on: its bits (of the levels in use), along what one step holds, and what shows it.

    `within`: the share of entries that the rounding to this grid explains, |left − right| ≤ half a step. `noise`: what rounding to it
    moves a tensor by, relative to the right side (root mean squares). `zeros`: the share of zeros that it would make
    of the right side's entries, brought to the left side's size.
    """

    bits: int
    along: str
    groups: int
    log10_p: float
    within: float
    noise: float
    zeros: float


def grid(left: Matrix, right: Matrix, bits: int) -> Grid | None:
    """The coarsest grouping in which `left` (n, p) lies on a grid and `right` does not; values are stored with so many significant bits."""
    for along, ours, theirs in _groupings(left, right):
        if not any(steps(group, bits) for group in ours[:: max(1, len(ours) // TRIED)]):
            continue
        shown = [steps(group, bits) for group in ours]
        usable = [place for place, group in enumerate(ours) if _varied(group)]
        on = [place for place in usable if shown[place] is not None]
        if len(on) < max(4, SHARE * len(usable)):
            continue
        if sum(steps(group, bits) is not None for group in theirs[on]) > len(on) / 2:
            continue
        return _grid(along, ours[on], theirs[on], [found for place in on if (found := shown[place]) is not None], bits)
    return None


def steps(values: Matrix, bits: int) -> tuple[float, float, int] | None:
    """(step, log10 of p, levels in use) of the coarsest grid of a group, from zero or from its least value, or None."""
    if not _varied(values):
        return None
    for base in (0.0, float(values.min(initial=0.0))):
        offsets = np.abs(values - base)
        largest = float(offsets.max(initial=0.0))
        others = offsets[(offsets > 0) & (offsets < largest * (1 - 1e-12))] if largest > 0 else offsets[:0]
        ties = int(np.count_nonzero(offsets == largest)) - 1
        tolerance = np.exp2(-bits) * (np.abs(values).max(initial=0.0) if base else 0.0)
        found = _coarsest(others, largest, bits, ties, float(tolerance))
        if found is not None:
            step, chance = found
            return step, chance, round((float(values.max()) - float(values.min())) / step) + 1
    return None


def _coarsest(others: Matrix, largest: float, bits: int, ties: int, tolerance: float) -> tuple[float, float] | None:
    """(step, log10 p) for the smallest k whose grid all values keep."""
    if (not len(others) and ties < MIN_TIES) or largest < 1e-30:
        return None
    for k in _screened(others[:SCREENED], largest, bits, tolerance):
        step = largest / k
        allowed = _allowed(others, step, bits, tolerance)
        if np.all(np.abs(others / step - np.rint(others / step)) <= allowed):
            chance = float(np.log10(np.minimum(1.0, 2 * allowed)).sum()) - ties * bits * log10(2) / 2 + log10(2 * MAX_STEPS)
            return (step, chance) if chance <= MIN_LOG10_P else None
    return None


def _screened(few: Matrix, largest: float, bits: int, tolerance: float) -> Iterator[int]:
    """The numbers of steps that a few of the values allow, in rising order."""
    counts = np.arange(1, MAX_STEPS + 1)
    phases = few[None] * counts[:, None] / largest  # (k, values)
    allowed = (2 * np.exp2(-bits)) * (phases + 1) + tolerance * counts[:, None] / largest
    kept = np.all(np.abs(phases - np.rint(phases)) <= allowed, axis=1)
    yield from (int(count) for count in counts[kept])


def _allowed(others: Matrix, step: float, bits: int, tolerance: float) -> Matrix:
    """How far a value may be from a whole number of steps: its own rounding, and that of the largest value the step is taken from."""
    return np.asarray((2 * np.exp2(-bits)) * (others / step + 1) + tolerance / step)


def _groupings(left: Matrix, right: Matrix) -> Iterator[tuple[str, Matrix, Matrix]]:
    """Groups of both sides as (name, (groups, entries), (groups, entries)), longest first."""
    yield "row", _few(left[:, :SPAN]), _few(right[:, :SPAN])
    yield "column", _few(left[:SPAN].T), _few(right[:SPAN].T)
    for size in SIZES:
        if left.shape[1] % size == 0 and left.shape[1] > size:
            yield f"group of {size}", _few(left.reshape(-1, size)), _few(right.reshape(-1, size))


def _few(groups: Matrix) -> Matrix:
    places = np.unique(np.linspace(0, max(0, len(groups) - 1), min(GROUPS, len(groups))).astype(int))
    return np.ascontiguousarray(groups[places])


def _varied(group: Matrix) -> bool:
    """Whether a group has more than one value besides zero."""
    values = np.abs(group[group != 0])
    return len(values) >= 8 and float(group.min()) < float(group.max())


def _grid(along: str, ours: Matrix, theirs: Matrix, shown: list[tuple[float, float, int]], bits: int) -> Grid:
    step = np.array([found[0] for found in shown])[:, None]
    return Grid(
        bits=max(1, max(ceil(log2(found[2])) for found in shown)),
        along=along,
        groups=len(shown),
        log10_p=max(found[1] for found in shown),
        within=float(np.mean(np.abs(ours - theirs) <= HALF_STEP * step + 2.0 ** (1 - bits) * np.abs(ours))),
        noise=float(np.sqrt(np.mean(step**2) / 12)) / _size(theirs),
        zeros=float(np.mean(np.abs(theirs) * min(1.0, _size(ours) / _size(theirs)) <= HALF_STEP * step)),
    )


def _size(groups: Matrix) -> float:
    """Root mean square, never zero."""
    return max(float(np.sqrt(np.mean(groups**2))), float(np.finfo(np.float32).tiny))
