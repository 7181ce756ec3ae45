"""How alike the mistakes of two models are, with intervals: statistics that are a function of sums over documents.

Documents are drawn with replacement (block bootstrap), because answers within one are not independent. The generator's seed is a
constant of this file, so that equal logs give equal intervals.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Interval = tuple[float, float, float]  # value, lower and upper bound
OfSums = Callable[[Array], Array]  # (..., k) sums over documents -> (...) values, NaN where they are not defined

DRAWS = 1000
TAIL = 0.005  # of either side of an interval
SEED = 20261122
CHUNK = 1 << 21  # counts at a time


def interval(parts: Array, of_sums: OfSums) -> Interval | None:
    """The statistic over all documents, and its interval; None where it is not defined.

    `parts` (documents, k) are each document's terms of the sums that the statistic is a function of.
    """
    if not len(parts):
        return None
    value = float(of_sums(parts.sum(axis=0)))
    rng, count = np.random.default_rng(SEED), len(parts)
    even, size = np.full(count, 1 / count), max(1, min(DRAWS, CHUNK // count))  # all draws of many documents at once are gigabytes
    chunks = (min(size, DRAWS - start) for start in range(0, DRAWS, size))
    drawn = np.concatenate([of_sums(rng.multinomial(count, even, many) @ parts) for many in chunks])
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(drawn) < DRAWS // 2:
        return None
    low, high = np.quantile(drawn, (TAIL, 1 - TAIL))
    return value, min(float(low), value), max(float(high), value)


def by_document(terms: Array, documents: NDArray[np.int64]) -> Array:
    """The sums (documents, k) of `terms` (n, k) over the rows of each document, numbered from 0."""
    sums = np.zeros((int(documents.max(initial=-1)) + 1, terms.shape[1]))
    np.add.at(sums, documents, terms)
    return sums


def ratio(sums: Array) -> Array:
    """First sum over second."""
    return _over(sums[..., 0], sums[..., 1])


def capa(sums: Array) -> Array:
    """Chance-adjusted probabilistic agreement (Goel et al. 2025, arXiv 2502.04313) of `capa_terms` summed.

    kappa = (observed - expected) / (1 - expected): what two models of these accuracies would agree on by chance is taken out.
    """
    observed, ours, theirs, rest, count = (sums[..., place] for place in range(5))
    a, b, share = _over(ours, count), _over(theirs, count), _over(rest, count)
    expected = a * b + (1 - a) * (1 - b) * share
    return _over(_over(observed, count) - expected, 1 - expected)


def capa_terms(same: Array, ours: Array, theirs: Array, choices: Array) -> Array:
    """(n, 5): agreement, the probability that either gives the right answer, 1 / (choices - 1), and 1."""
    return np.stack([same, ours, theirs, 1 / np.maximum(choices - 1, 1), np.ones(len(same))], axis=1)


def unique_errors(
    ours: NDArray[np.int64], theirs: NDArray[np.int64], right: NDArray[np.int64], controls: list[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """(n, 2): whether we share their mistake, and whether it is one: both are wrong, and no control makes the mistake that they make."""
    at = (ours != right) & (theirs != right)
    for control in controls:
        at &= control != theirs
    return np.stack([at & (ours == theirs), at], axis=1).astype(np.float64)


def correlation(sums: Array) -> Array:
    """Pearson's correlation of `correlation_terms` summed."""
    a, b, aa, bb, ab, n = (sums[..., place] for place in range(6))
    covariance, left, right = ab - _over(a * b, n), aa - _over(a * a, n), bb - _over(b * b, n)
    return _over(covariance, np.sqrt(np.maximum(left, 0) * np.maximum(right, 0)))


def correlation_terms(a: Array, b: Array) -> Array:
    """(n, 6) terms of a correlation of the entries of `a` and `b` (n, m)."""
    return np.stack([a.sum(1), b.sum(1), (a * a).sum(1), (b * b).sum(1), (a * b).sum(1), np.full(len(a), a.shape[1])], axis=1)


def _over(numerator: Array, denominator: Array) -> Array:
    """A quotient, NaN where there is none."""
    numerator, denominator = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    defined = np.abs(denominator) > 1e-12
    return np.asarray(np.where(defined, numerator / np.where(defined, denominator, 1.0), np.nan))
