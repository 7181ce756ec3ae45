"""The L2 norm of all weights that some trainers log, at both ends of the training, against the norms of the weights themselves.

It needs no bound: a log that ends where the checkpoint is has its norm there, whatever the optimizer. The base at the other end
shows that the column is of the same weights. Columns of which neither end fits are of other weights, and say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

from modelguard.types.displacement import ToldNorm
from modelguard.types.logs import Run, TrainingLog

# Megatron-LM's `params norm`, and what JAX and PyTorch trainers call theirs
COLUMN = re.compile(r"^(?:[\w\-]{1,40}/)?(?:global[_ ])?(?:param(?:eter)?s?|weights?|model)[_ ](?:l2[_ ])?norm$", re.IGNORECASE)
PART = re.compile(r"^(?:[\w\-]{1,40}/)?l2_norm/param/")  # Composer's OptimizerMonitor: a column for each tensor
SINGLE = 1e-5  # relative rounding of a sum in float32 over many entries
SHARP = 1e-2  # of the norm: a wider tolerance tells no weights apart
MOST_DIGITS = 6
NEAR = 4  # records whose changes tell how fast the norm moves there
UNRELATED = 64.0  # six deviations, where a hundredth of the entries carry the norm
Series = Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """What the norms of the log are held against: steps and L2 norms of base and checkpoint, and the relative rounding of their entries."""

    start: int
    end: int
    base: float
    checkpoint: float
    grain: float  # of one entry
    entries: int

    @property
    def rounding(self) -> float:
        """Of a norm: roundings of many entries are unrelated and cancel out, but for their own energy."""
        return self.grain * min(1.0, UNRELATED / sqrt(self.entries)) + self.grain**2


def told(log: TrainingLog, ends: Ends) -> tuple[ToldNorm, ToldNorm] | None:
    """The norms logged next to the base and next to the checkpoint; None where the log holds too few to tell."""
    candidates = [(run, name, series) for run in log.runs for name, series in _columns(run).items() if len(series) >= 2]
    if len({run.source for run, _, _ in candidates}) != 1:
        return None
    _, name, series = min(candidates, key=lambda item: item[1])
    values = np.array([value for _, value in series])
    written = _written(values)

    def held(step: int, own: float) -> ToldNorm:
        at, logged = min(series, key=lambda point: (abs(point[0] - step), point[0]))
        gap, near = max(1, abs(at - step)), sorted(sorted(series, key=lambda point: (abs(point[0] - at), point[0]))[:NEAR])
        change = max(abs(b - a) / (after - before) for (before, a), (after, b) in pairwise(near))
        tolerance = written.rounding(logged) + (ends.rounding + SINGLE) * own + 2 * change * gap
        within = bool(values.min() - tolerance <= own <= values.max() + tolerance)
        return ToldNorm(name=name, step=at, logged=logged, own=own, tolerance=tolerance, exact=gap <= 1, within=within)

    pair = held(ends.start, ends.base), held(ends.end, ends.checkpoint)
    return pair if all(item.tolerance <= SHARP * item.own for item in pair) else None


def _columns(run: Run) -> Mapping[str, Series]:
    """(step, norm) at rising steps by column; a run that steps back is of several trainings, of which the columns tell no one end."""
    found: dict[str, list[tuple[int, float]]] = {}
    for record in run.records:
        named = {name: value for name, value in record.values.items() if COLUMN.match(name)}
        parts = [value for name, value in record.values.items() if PART.match(name)]
        if parts and all(abs(value) < 1e100 for value in parts):
            named["l2_norm/param"] = sqrt(sum(value * value for value in parts))
        for name, value in named.items():
            if isfinite(value) and 0 < value < 1e30:
                found.setdefault(name, []).append((record.step, value))
    return {name: series for name, series in found.items() if all(a[0] < b[0] for a, b in pairwise(series))}


@dataclass(frozen=True, slots=True)
class _Written:
    """How finely a log writes its norms: relative to them, and in absolute terms."""

    relative: float
    absolute: float

    def rounding(self, value: float) -> float:
        return self.relative * value + self.absolute


def _written(values: NDArray[np.float64]) -> _Written:
    """16-bit numbers where all are some, else as many decimals as the longest needs."""
    if not np.any(values.astype(np.float32).view(np.uint32) & 0xFFFF):
        return _Written(2.0**-8, 0.0)
    digits = next((count for count in range(MOST_DIGITS) if np.array_equal(np.round(values, count), values)), MOST_DIGITS)
    return _Written(0.0, 0.5 * 10.0**-digits)
