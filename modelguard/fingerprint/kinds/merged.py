"""Merged: a fixed share of the parent in every matrix, and behind it something as large as a second model.

With one candidate, least squares gives left = alpha * right + rest in every matrix. A merge has one alpha; what is left of it, over
(1 - alpha), is the other ingredient, of a model's size. Continued pretraining keeps about all of the parent (alpha near 1) and adds
to it, so that its rest over (1 - alpha) is many times a model; low-rank and partial changes have an alpha of their own in each matrix.
With several candidates, least squares over all of them gives the coefficients at once.
"""

from __future__ import annotations

from math import sqrt
from statistics import mean, median, pstdev

import numpy as np

from modelguard.correspondence.alignment import align
from modelguard.fingerprint.kinds.mixtures import Gram, Matrix, Mixture, gram, interval, mixture
from modelguard.fingerprint.kinds.pair import Seen
from modelguard.fingerprint.kinds.traits import Rows, sample, usable
from modelguard.types.weights import KindDetail

MOST = 0.97  # of alpha; above, the rest is too small to tell a second model from training
UNIFORM = 0.05  # standard deviation of alpha over matrices; the zoo's merges stay below 0.02
MODEL = (0.3, 16.0)  # energy of the implied second model over the parent's; 1 for a linear merge, up to 10 for a spherical one
LEAST = 0.05  # coefficient of an ingredient
GAIN = 0.8  # of the distance to the nearest candidate that a mixture must remove
MIN_MATRICES = 4
UNTOUCHED = 0.25


def shown(seen: Seen) -> KindDetail | None:
    """A mixture of several candidates where they are given and explain the weights, else of the right side and something unknown."""
    return _of_candidates(seen) or _of_one(seen)


def _of_one(seen: Seen) -> KindDetail | None:
    matrices = [trait for trait in seen.moved if trait.grid is None or trait.grid.within < 0.9]
    alphas = [trait.alpha for trait in matrices]
    if len(alphas) < MIN_MATRICES or _untouched(seen) > UNTOUCHED or not LEAST <= mean(alphas) <= MOST or pstdev(alphas) > UNIFORM:
        return None
    share = mean(alphas)
    implied = median(trait.remainder for trait in matrices) / (1 - share) ** 2
    if not MODEL[0] <= implied <= MODEL[1]:
        return None
    half = interval(np.array(alphas))
    text = f"{share:.2f} ± {half:.2f} of the parent in each of {len(alphas)} matrices, and a second ingredient of a model's size"
    if any(trait.coded for trait in matrices):
        text += "; rounding and pruning after the merge make the share look larger than it was"
    return KindDetail(
        kind="merged",
        text=text,
        numbers={
            "coefficient": share,
            "interval": half,
            "spread_over_matrices": pstdev(alphas),
            "spread_limit": UNIFORM,
            "residual_energy": median(trait.remainder / trait.energy for trait in matrices),
            "second_ingredient_energy": implied,
            "matrices": len(alphas),
        },
    )


def _untouched(seen: Seen) -> float:
    """The share of matrices that equal the parent's: a merge leaves none alone, a rewriting of the attention leaves the MLPs."""
    matrices = [item for item in seen.pair.differences if len(item.shape) > 1]
    return sum(item.explanation == "identical" for item in matrices) / max(1, len(matrices))


def _of_candidates(seen: Seen) -> KindDetail | None:
    found = of_candidates(seen) if seen.pair.candidates else None
    if found is None or not found.distinct or found.gain < GAIN:
        return None
    real = [c for c, half in zip(found.coefficients, found.intervals, strict=True) if c >= LEAST and c > half]
    if len(real) < 2:
        return None
    names = (seen.pair.right.ref, *(candidate.ref for candidate in seen.pair.candidates))
    terms = [f"{c:.2f} ± {half:.2f} of {name}" for c, half, name in zip(found.coefficients, found.intervals, names, strict=True)]
    numbers: dict[str, float | int | str] = {"residual_energy": found.residual, "gain": found.gain, "matrices": found.tensors}
    for number, (c, half) in enumerate(zip(found.coefficients, found.intervals, strict=True)):
        numbers |= {f"coefficient_{number}": c, f"interval_{number}": half}
    return KindDetail(kind="merged", text="; ".join(terms), numbers=numbers)


def of_candidates(seen: Seen) -> Mixture | None:
    """Least squares of the left checkpoint on the right one and the other candidates, over the samples of changed matrices."""
    aligned = [dict(align(seen.pair.left, candidate, by_content=False).pairs) for candidate in seen.pair.candidates]
    grams: list[Gram] = []
    for trait in seen.moved:
        others = [pairs.get(trait.name) for pairs in aligned]
        known = [(side, name) for side, name in zip(seen.pair.candidates, others, strict=True) if name is not None]
        if len(known) == len(others):
            sides = [sample(side, name) for side, name in ((seen.pair.right, trait.matched), *known)]
            grams.append(_gram(sample(seen.pair.left, trait.name), sides))
    return mixture(grams)


def _gram(left: Rows, parents: list[Rows]) -> Gram:
    """Products in units of the left side's length, over entries that are numbers on all sides."""
    kept = np.logical_and.reduce([usable(side) for side in (left, *parents)])
    return _scaled(left[kept].astype(np.float64), [parent[kept].astype(np.float64) for parent in parents])


def _scaled(left: Matrix, parents: list[Matrix]) -> Gram:
    size = max(sqrt(float(np.vdot(left, left))), np.finfo(np.float64).tiny)
    return gram(left / size, [parent / size for parent in parents])
