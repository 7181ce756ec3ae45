"""How alike two sets of features are: centred kernel alignment with linear kernels, from Gram matrices, without its small-sample bias.

The usual CKA of independent features is far from 0 as soon as there are more features than examples. The unbiased estimator of HSIC
(Song et al. 2012, theorem 5) is 0 in the mean: the diagonal, where an example meets itself, is left out, and the centring corrects
for that ("U-centring", Székely and Rizzo 2014). The ratio can be slightly negative.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Grams = NDArray[np.float64]
FEWEST = 4  # examples that the estimator is defined for
NOTHING = 1e-12  # of its Frobenius norm: a Gram matrix that is no more than this after centring holds rounding errors


def unbiased_hsic(left: Grams, right: Grams) -> float:
    """The unbiased estimate of HSIC of two Gram matrices (n, n), n >= 4: U-centred inner product over n (n - 3)."""
    count = len(left)
    return float((u_centred(left) * u_centred(right)).sum() / (count * (count - 3)))


def cka_map(left: Grams, right: Grams) -> Grams:
    """Debiased CKA of every layer of `left` (a, n, n) with every layer of `right` (b, n, n) as (a, b), in [-1, 1].

    NaN where a layer's features do not vary.
    """
    return np.asarray(_directions(left) @ _directions(right).T)


def u_centred(gram: Grams) -> Grams:
    """A Gram matrix (n, n) whose off-diagonal entries sum to 0 in every row and column, with zeros on the diagonal."""
    count = len(gram)
    if gram.shape != (count, count) or count < FEWEST:
        raise ValueError(f"a square matrix of at least {FEWEST} examples is needed, not {gram.shape}")
    hollow = gram - np.diag(np.diagonal(gram))
    rows = hollow.sum(axis=1) / (count - 2)  # (n,)
    centred = hollow - rows[:, None] - rows[None, :] + hollow.sum() / ((count - 1) * (count - 2))
    np.fill_diagonal(centred, 0.0)
    return np.asarray(centred)


def _directions(grams: Grams) -> Grams:
    """Every U-centred matrix as a row of length 1 (layers, n * n); NaN where nothing is left of it."""
    rows = np.stack([u_centred(gram).reshape(-1) for gram in grams])
    length, whole = np.linalg.norm(rows, axis=1, keepdims=True), np.linalg.norm(grams.reshape(len(grams), -1), axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > NOTHING * whole, length, np.nan))
