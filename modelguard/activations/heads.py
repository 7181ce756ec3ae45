"""What each attention head looks at, in a few numbers between 0 and 1 that no rewriting of the weights changes.

Entropy, mean distance, mass by distance, mass on the first token, and the spectrum of the pattern; the choice follows descriptors of
attention routing in the literature (AttnDiff, arXiv 2604.05502). They have no exact null: heads of independent networks learn alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEAREST = (0, 1, 2, 4, 8, 16, 32)  # where the bins of distances begin, in tokens; the last one is open
SPECTRUM = 8  # leading singular values of a pattern
MEASURES = 3 + len(NEAREST) + SPECTRUM

Half = NDArray[np.float16]


def head_statistics(attention: NDArray[np.float32]) -> Half:
    """Of attention (texts, heads, from, to), whose rows sum to 1, as (heads, MEASURES), means over texts.

    Entropy over log(to); mean distance over the longest one; mass on the first token; mass in each bin of distances; singular values
    over their sum.
    """
    count = attention.shape[3]
    apart = np.abs(np.arange(attention.shape[2])[:, None] - np.arange(count)[None, :])  # (from, to)
    with np.errstate(all="ignore"):  # what is not finite is said once, of the whole trace
        rows = attention.astype(np.float64).mean(axis=0)  # every measure but two is linear in the pattern
        distance = (rows * apart).sum(axis=-1).mean(axis=-1) / max(1, count - 1)
        binned = np.digitize(apart, NEAREST) - 1
        mass = [np.where(binned == place, rows, 0).sum(axis=-1).mean(axis=-1) for place in range(len(NEAREST))]
        simple = [_entropy(attention), distance, rows[:, :, 0].mean(axis=-1), *mass]
    return np.concatenate([np.stack(simple, axis=-1), _spectrum(attention)], axis=-1).astype(np.float16)


def _entropy(attention: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean entropy of a head's rows over the logarithm of their length, as (heads,)."""
    logs = np.log(np.where(attention > 0, attention, 1))
    told = -(attention * logs).sum(axis=-1, dtype=np.float64).mean(axis=(0, 2)) / np.log(max(2, attention.shape[3]))
    return np.asarray(told)


def _spectrum(attention: NDArray[np.float32]) -> NDArray[np.float64]:
    """Leading singular values of each pattern over the sum of all, mean over texts, as (heads, SPECTRUM)."""
    texts, heads = attention.shape[:2]
    told = np.full((heads, SPECTRUM), 0.0)
    if not np.isfinite(attention).all():
        return np.full((heads, SPECTRUM), np.nan)
    for patterns in attention:  # one text at a time
        values = np.linalg.svd(patterns.astype(np.float64), compute_uv=False)  # (heads, min(from, to))
        share = values / np.maximum(values.sum(axis=-1, keepdims=True), 1e-300)
        told[:, : share.shape[1]] += share[:, :SPECTRUM] / texts
    return told
