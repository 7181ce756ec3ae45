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


def t0(left: Checkpoint, right: Checkpoint, alignment: Alignment) -> NullTest | None:
    """T0 on all norms of the residual width that the two have in common; None where there are none that differ over axes."""
    profiles = _profiles(left, right, norms(left, right, alignment))
    return None if profiles is None else _result(*profiles)


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


def _result(left: Matrix, right: Matrix) -> NullTest:
    count, q, p = fixed_neighbours(left, right)
    note = f"{count} of {len(left)} axes among the {q} nearest to their own place by {left.shape[1]} norms, {q} expected by chance"
    return NullTest(method=METHOD, block="norms", statistic=float(count), n=len(left), log10_p=p, log10_p_adjusted=p, null=NULL, note=note)


def _profiles(left: Checkpoint, right: Checkpoint, pairs: tuple[tuple[str, str], ...]) -> tuple[Matrix, Matrix] | None:
    """Both sides' axes by their norms, (axes, norms); None where fewer axes or no norms are left to tell them apart."""
    columns = [(_standard(left, ours), _standard(right, theirs)) for ours, theirs in pairs]
    usable = [(ours, theirs) for ours, theirs in columns if ours is not None and theirs is not None]
    if not usable or len(usable[0][0]) < LEAST_AXES:
        return None
    ours, theirs = (np.stack(side, axis=1) for side in zip(*usable, strict=True))
    return ours, theirs


def _standard(checkpoint: Checkpoint, name: str) -> Matrix | None:
    """The first entries of a vector by their ranks, as (axes,) of mean 0 and variance 1: a few outlying gains would drown all the others.

    None where all are equal, or one is not finite.
    """
    values = rows(checkpoint, name, 0, min(checkpoint.tensors[name].shape[0], MOST_AXES)).reshape(-1)
    if not np.isfinite(values).all():
        return None
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Matrix = (np.cumsum(counts) - (counts - 1) / 2)[places] - (len(values) + 1) / 2
    spread = float(np.sqrt(np.mean(ranks**2)))
    return ranks / spread if spread > 0 else None


def _is_vector(checkpoint: Checkpoint, name: str) -> bool:
    info = checkpoint.tensors[name]
    return len(info.shape) == 1 and info.dtype in FLOATING and info.shape[0] >= LEAST_AXES
