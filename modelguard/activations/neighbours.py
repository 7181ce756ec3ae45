"""How alike two sets of features are: the share of each example's nearest neighbours that both agree on (Huh et al. 2024)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 10

Grams = NDArray[np.float64]


def neighbour_map(left: Grams, right: Grams, count: int = NEIGHBOURS) -> Grams:
    """Mutual nearest neighbours of every layer of `left` (a, n, n) and of `right` (b, n, n), as Gram matrices, as (a, b), in [0, 1].

    Nearest is by cosine; of examples that are equally near the earlier one is. By chance it is `count` / (n - 1). NaN where a
    layer has fewer than two examples that are not zero.
    """
    sets = [_neighbours(gram, count) for gram in left], [_neighbours(gram, count) for gram in right]
    return np.array([[np.nan if a is None or b is None else float((a & b).sum() / a.sum()) for b in sets[1]] for a in sets[0]])


def _neighbours(gram: Grams, count: int) -> NDArray[np.bool_] | None:
    """Which examples (n, n) are among the nearest of each; None where there is nothing to be near to."""
    length = np.sqrt(np.maximum(np.diagonal(gram), 0))
    if (length > 0).sum() < 2 or not np.isfinite(gram).all():
        return None
    cosine = gram / np.outer(*(np.where(length > 0, length, np.inf),) * 2)  # (n, n)
    np.fill_diagonal(cosine, -np.inf)
    nearest = np.argsort(-np.round(cosine, 12), axis=1, kind="stable")[:, : min(count, len(gram) - 1)]
    marked = np.zeros(gram.shape, dtype=np.bool_)
    np.put_along_axis(marked, nearest, True, axis=1)
    return marked
