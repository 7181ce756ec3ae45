"""An exact test of independence: how many rows of one matrix find their own partner in another.

Let row i of `left` point at f(i), the row of `right` that is strictly most similar to it, if there is one. K counts the i with
f(i) = i. When the two sides are independent and the rows of one are exchangeable (units of a layer, heads of a layer, axes of a
residual stream: initialised alike, trained by an update that does not know their order), the pairing is as good as a uniform
permutation s, and K counts the i with s(i) = f(i). For k distinct rows whose images are distinct, s agrees with f on all of them
with probability (n - k)! / n!; rows that share an image cannot agree at once; there are at most n! / (n - k)! ordered choices.
So the k-th factorial moment of K is at most 1, whatever f is, and P(K >= k) <= E[(K)_k] / k! <= 1 / k!. For L independent blocks
the factorial moments of the sum are at most L^k, so P(K >= k) <= L^k / k!.

Where one side has fewer rows than the other, none has a place of its own, but rows that were picked or cut out keep their order: the
images f(1), f(2), … grow. Under the same null the images stand in an order that is as good as shuffled, so that k given ones grow
strictly with probability at most 1/k! (equal ones never do), and P(the longest growing run of images, others left out, has k or more)
<= C(n, k) / k!.

No assignment is solved and a tie points nowhere, so matrices of zeros or of few levels cannot make fixed points. Exactness by
exchangeability of units is the idea of Zhu et al. 2025 (arXiv 2502.12292); the bound is the factorial-moment inequality.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.floating]

NEAREST_ROWS = 512  # rows whose cosines with all others are held at a time
TIE = 1e-9  # cosines closer than this differ by the order of float64 additions, not by their rows


def strict_nearest(similarity: Matrix, *, margin: float = 0.0) -> NDArray[np.bool_]:
    """Which rows i of an (n, n) matrix have entry i above every other entry by more than `margin`, as (n,). NaN never wins."""
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:
        raise ValueError(f"a square matrix is needed, not {similarity.shape}")
    own = np.diagonal(similarity)
    others = np.where(np.isnan(similarity), -np.inf, similarity)
    np.fill_diagonal(others, -np.inf)
    return np.asarray((own > others.max(axis=1, initial=-np.inf) + margin) & (own > -np.inf))


def cosines(left: Matrix, right: Matrix) -> NDArray[np.float64]:
    """Cosine of every row of `left` (n, p) with every row of `right` (m, p) after centring features over rows, as (n, m).

    A row that is zero after centring, or not finite, gives NaN.
    """
    return np.asarray(_directions(left) @ _directions(right).T)


def fixed_points(left: Matrix, right: Matrix) -> int:
    """Number of rows of `left` (n, p) that are strictly nearest, by cosine, to their own partner among the rows of `right` (n, p)."""
    if left.shape != right.shape:
        raise ValueError(f"{left.shape} and {right.shape} do not pair up")
    return int(strict_nearest(cosines(left, right), margin=TIE).sum())


def nearest(left: Matrix, right: Matrix) -> NDArray[np.intp]:
    """For every row of `left` (n, p) the row of `right` (m, p) that is strictly nearest by cosine, as (n,); -1 where none is."""
    images = np.full(len(left), -1, dtype=np.intp)
    if not len(right) or not len(left):
        return images
    ours, theirs = _directions(left), _directions(right)
    for start in range(0, len(left), NEAREST_ROWS):
        similarity = ours[start : start + NEAREST_ROWS] @ theirs.T
        similarity = np.where(np.isnan(similarity), -np.inf, similarity)
        best = similarity.argmax(axis=1)
        top = similarity[np.arange(len(best)), best]
        similarity[np.arange(len(best)), best] = -np.inf
        clear = (top > -np.inf) & (top > similarity.max(axis=1, initial=-np.inf) + TIE)
        images[start : start + len(best)] = np.where(clear, best, -1)
    return images


def growing(images: NDArray[np.intp]) -> NDArray[np.intp]:
    """The positions of one longest strictly growing subsequence of the images, in order; images below zero are left out."""
    ends: list[int] = []  # the position at which the best subsequence of each length ends
    tails: list[int] = []
    before = np.full(len(images), -1, dtype=np.intp)
    for position, image in enumerate(images.tolist()):
        if image >= 0:
            length = bisect_left(tails, image)
            before[position] = ends[length - 1] if length else -1
            ends[length : length + 1], tails[length : length + 1] = [position], [image]
    found, position = [], ends[-1] if ends else -1
    while position >= 0:
        found.append(position)
        position = int(before[position])
    return np.array(found[::-1], dtype=np.intp)


def log10_growing_tail(k: int, n: int) -> float:
    """log10 of min(1, C(n, k) / k!): bounds the chance that k or more of n images grow."""
    ways = math.lgamma(n + 1) - math.lgamma(n - k + 1) - 2 * math.lgamma(k + 1)
    return min(0.0, ways / math.log(10)) if k > 0 else 0.0


def log10_tail(k: int, blocks: int = 1) -> float:
    """log10 of min(1, blocks^k / k!): bounds the chance of k or more fixed points in that many independent blocks."""
    return min(0.0, (k * math.log(blocks) - math.lgamma(k + 1)) / math.log(10)) if k > 0 else 0.0


def _directions(rows: Matrix) -> NDArray[np.float64]:
    """Rows (n, p) centred over n and scaled to length 1; NaN where a row is not finite, or nothing but rounding after centring."""
    usable: NDArray[np.bool_] = np.asarray(np.isfinite(rows).all(axis=1))
    kept: NDArray[np.float64] = rows[usable].astype(np.float64)
    largest = np.abs(kept).max(initial=0.0)
    kept -= kept.mean(axis=0) if len(kept) else 0.0
    scale = np.abs(kept).max(axis=1, keepdims=True, initial=0.0)
    kept /= np.where(scale > 1e-12 * largest, scale, np.nan)
    directions = np.full(rows.shape, np.nan)
    directions[usable] = kept / np.linalg.norm(kept, axis=1, keepdims=True)
    return directions
