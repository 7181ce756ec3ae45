"""T0: axes of the residual stream by the norms along them. A few kB a model, and exact.

Gains of norms start at 1 in every model and stay near it, so that their raw cosine is close to 1 for any two models. What says
something is how an axis differs from the other axes, by all norms at once: T0 describes each axis by its gains (and biases of norms),
centred and scaled in each norm over axes, and asks which axis of the other model is nearest. Under the null the axes are
exchangeable, all norms jointly. It is blind to a rotated stream (gains are folded then) and to models whose norms were not trained.

A description of few numbers has close neighbours, so an axis counts as found when its own partner is among the q nearest. For k given
axes and one of their neighbours each, a random pairing hits all with chance (n - k)! / n! at most, and there are at most
q^k n! / (n - k)! such choices, so P(K >= k) <= q^k / k!: the bound of matching.py, with q in the place of the number of blocks.
Several q are tried and paid for (Bonferroni).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import log10

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import FLOATING
from modelguard.correspondence.alignment import Alignment
from modelguard.correspondence.tiles import rows
from modelguard.fingerprint.matching import TIE, log10_tail
from modelguard.types.weights import NullTest

Matrix = NDArray[np.float64]

METHOD = "t0-gain-neighbours-v1-m1024-q1,2,4,8,16,32"
NULL = "independent initialisation; axes of the residual stream exchangeable under training"
NORM = re.compile(r"(^|[._])(layer_?norm\w*|\w*norm\d*|ln_?\w*)\.(weight|bias|gamma|beta)$", re.IGNORECASE)
OF_HEADS = re.compile(r"(q|k|query|key|head)_?(layer)?_?norm|(attn|attention)\.\w*norm", re.IGNORECASE)
NEIGHBOURS = (1, 2, 4, 8, 16, 32)
MOST_AXES = 1024
MOST_NORMS = 512
LEAST_AXES = 16
SHRINK = 0.7  # the correlation of related gains that the distance assumes; any value is exact


@dataclass(frozen=True, slots=True)
class Profiles:
    """Axes by their norms: `ranks` (axes, norms), of mean 0 and variance 1 in each norm that tells axes apart, which are `telling`."""

    ranks: Matrix
    telling: NDArray[np.bool_]


def t0(left: Checkpoint, right: Checkpoint, alignment: Alignment) -> NullTest | None:
    """T0 on all norms of the residual width that the two have in common; None where there are none that differ over axes."""
    pairs = norms(left, right, alignment)
    if not pairs:
        return None
    ours, theirs = (profiles(_gains(side, names)) for side, names in zip((left, right), zip(*pairs, strict=True), strict=True))
    found = fixed_axes(ours, theirs)
    return None if found is None else _result(*found, len(ours.ranks), int((ours.telling & theirs.telling).sum()))


def fixed_axes(left: Profiles, right: Profiles) -> tuple[int, int, float] | None:
    """How many axes find their own partner among the q nearest: (count, q, log10 p); None where nothing tells them apart."""
    telling = left.telling & right.telling
    if not telling.any() or len(left.ranks) < LEAST_AXES:
        return None
    return fixed_neighbours(left.ranks[:, telling], right.ranks[:, telling])


def norms(left: Checkpoint, right: Checkpoint, alignment: Alignment) -> tuple[tuple[str, str], ...]:
    """The aligned vectors along the residual stream that norms hold: of the commonest length among all norms."""
    named = [pair for pair in alignment.pairs if NORM.search(pair[0]) and not OF_HEADS.search(pair[0])]
    kept = [pair for pair in named if _is_vector(left, pair[0]) and _is_vector(right, pair[1])]
    lengths = [left.tensors[ours].shape[0] for ours, _ in kept]
    width = max(lengths, key=lambda length: (lengths.count(length), length), default=0)
    return tuple(pair for pair, length in zip(kept, lengths, strict=True) if length == width)[:MOST_NORMS]


def fixed_neighbours(left: Matrix, right: Matrix) -> tuple[int, int, float]:
    """How many rows (n, K) find their own partner among the q nearest: (count, q, log10 p), at the q that gives the smallest p."""
    similarity = left @ right.T - SHRINK / 2 * np.einsum("ij,ij->i", right, right)
    own = np.diagonal(similarity)[:, None]
    closer = (similarity >= own - TIE * np.maximum(1, np.abs(own))).sum(axis=1) - 1  # a tie counts against
    results = []
    for q in NEIGHBOURS:
        count = int((closer < q).sum())
        results.append((min(0.0, log10_tail(count, q) + log10(len(NEIGHBOURS))), q, count))
    p, q, count = min(results)
    return count, q, p


def profiles(gains: NDArray[np.floating]) -> Profiles:
    """Gains (axes, norms) by their ranks over the axes, equal ones sharing theirs: a few outlying gains would drown all the others.

    A norm tells nothing where all its gains are equal, or one is not finite.
    """
    count = len(gains)
    if not gains.size:
        return Profiles(np.zeros(gains.shape), np.zeros(gains.shape[1], dtype=bool))
    order = np.argsort(gains, axis=0, kind="stable")
    ordered = np.take_along_axis(gains, order, axis=0)
    new = np.ones(gains.shape, dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    places = np.arange(count)[:, None]
    first = np.maximum.accumulate(np.where(new, places, 0), axis=0)
    last = np.minimum.accumulate(np.where(np.roll(new, -1, axis=0), places, count - 1)[::-1], axis=0)[::-1]
    ranks = np.empty(gains.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 - (count - 1) / 2, axis=0)
    spread = np.sqrt(np.mean(ranks**2, axis=0))
    telling = np.isfinite(gains).all(axis=0) & (spread > 0)
    return Profiles(np.divide(ranks, spread, out=np.zeros_like(ranks), where=telling), telling)


def _result(count: int, q: int, p: float, axes: int, told_by: int) -> NullTest:
    note = f"{count} of {axes} axes among the {q} nearest to their own place by {told_by} norms, {q} expected by chance"
    return NullTest(method=METHOD, block="norms", statistic=float(count), n=axes, log10_p=p, log10_p_adjusted=p, null=NULL, note=note)


def _gains(checkpoint: Checkpoint, names: tuple[str, ...]) -> Matrix:
    """The first entries of vectors of one length, (axes, norms)."""
    stop = min(checkpoint.tensors[names[0]].shape[0], MOST_AXES)
    return np.stack([rows(checkpoint, name, 0, stop).reshape(-1) for name in names], axis=1).astype(np.float64)


def _is_vector(checkpoint: Checkpoint, name: str) -> bool:
    info = checkpoint.tensors[name]
    return len(info.shape) == 1 and info.dtype in FLOATING and info.shape[0] >= LEAST_AXES
