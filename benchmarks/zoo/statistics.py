"""Intervals and nulls: Wilson's interval, a bootstrap over models, and T1's fixed points over blocks of independent models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import factorial, sqrt

import numpy as np
from numpy.typing import NDArray

from benchmarks.zoo.training import Recipe, Tensors, trained
from modelguard.fingerprint.matching import fixed_points

Z = 1.959964  # two-sided 95 %
DRAWS = 2000
BLOCK = 64  # units that T1 looks at
BOUNDED = range(1, 9)
UNITS = re.compile(r"\.(\d+)\.(?:.*\.)?(mlp\.up_proj|mlp\.c_proj|intermediate\.dense|mlp\.gate_up_proj)\.weight$")  # (units, width)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of Wilson for a share of `hits` out of `n`."""
    if n == 0:
        return 0.0, 1.0
    share, weight = hits / n, Z * Z / n
    centre, half = (share + weight / 2) / (1 + weight), Z * sqrt(share * (1 - share) / n + weight / n / 4) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def interval(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f"{hits} of {n} ({low:.1%} to {high:.1%})"


def over_models(pairs: Sequence[tuple[tuple[Recipe, ...], bool]]) -> tuple[float, float]:
    """95 % interval of a share of pairs when models, not pairs, are drawn again: a pair counts as often as both its models were drawn.

    Draws that hold no pair are left out.
    """
    models = {recipe: place for place, recipe in enumerate(dict.fromkeys(recipe for members, _ in pairs for recipe in members))}
    ends = np.array([[models[members[0]], models[members[-1]]] for members, _ in pairs])
    hits = np.array([hit for _, hit in pairs], dtype=np.float64)
    rng, shares = np.random.default_rng(20261122), []
    for _ in range(DRAWS):
        weight = rng.multinomial(len(models), np.full(len(models), 1 / len(models)))[ends].prod(axis=1)
        if weight.sum() > 0:
            shares.append(float(weight @ hits / weight.sum()))
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(low), float(high)


def none_of(models: int) -> float:
    """Upper 95 % bound of a share of which none was seen, if only pairs without a common model are counted as independent."""
    return float(1 - 0.05 ** (1 / max(1, models // 2)))


def null_counts(ours: Recipe, theirs: Recipe) -> NDArray[np.int64]:
    """Blocks by their fixed points K (index), of two models: all pairs of layers of equal shape and all windows of 64 units."""
    counts = np.zeros(BLOCK + 1, dtype=np.int64)
    for left in unit_matrices(trained(ours)):
        for right in unit_matrices(trained(theirs)):
            for start in range(0, len(left) - BLOCK + 1, BLOCK) if left.shape == right.shape else ():
                counts[fixed_points(left[start : start + BLOCK], right[start : start + BLOCK])] += 1
    return counts


def unit_matrices(tensors: Tensors) -> list[NDArray[np.float32]]:
    """One matrix (units, width) a layer: the same that T1 reads, in layer order."""
    found = sorted((int(match[1]), name) for name in tensors if (match := UNITS.search(name)) and tensors[name].ndim == 2)
    return [tensors[name][len(tensors[name]) // 2 if "gate_up" in name else 0 :] for _, name in found]


def tails(counts: NDArray[np.int64]) -> list[tuple[int, int, float, float]]:
    """(k, blocks with K >= k, their share, the bound 1 / k!) of every k."""
    n = int(counts.sum())
    return [(k, int(counts[k:].sum()), float(counts[k:].sum() / n) if n else 0.0, 1 / factorial(k)) for k in BOUNDED]
