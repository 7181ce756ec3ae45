"""The token embeddings on their own: copied or frozen embeddings say nothing about the layers, and the other way round."""

from __future__ import annotations

from math import log10

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import FLOATING
from modelguard.fingerprint.alignment import Alignment
from modelguard.fingerprint.blocks import layer_of
from modelguard.fingerprint.matching import fixed_points, log10_tail
from modelguard.fingerprint.tiles import rows
from modelguard.types.weights import NullTest

METHOD = "t2-embedding-axis-fixed-points-v1-m128-t4096"
TOKENS = 4096
AXES = 128
MIN_TALLNESS = 2  # a token table has more rows than this times its width


def embedding_pair(left: Checkpoint, alignment: Alignment) -> tuple[str, str] | None:
    """The aligned tensors that hold one row a token: the tallest matrix outside the layers, if it is tall enough to be one."""
    outside = ((ours, theirs) for ours, theirs in alignment.pairs if layer_of(ours) == ours)
    matrices = [(left.tensors[ours], theirs) for ours, theirs in outside if len(left.tensors[ours].shape) == 2]
    floating = [(info.shape[0], info.name, theirs) for info, theirs in matrices if info.dtype in FLOATING]
    tallest, ours, theirs = max(floating, default=(0, "", ""))
    return (ours, theirs) if tallest and tallest > MIN_TALLNESS * left.tensors[ours].shape[1] else None


def shared_rows(left: Checkpoint, right: Checkpoint, names: tuple[str, str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The first tokens' rows on both sides, (t, width) each."""
    count = min(TOKENS, left.tensors[names[0]].shape[0])
    return rows(left, names[0], 0, count), rows(right, names[1], 0, count)


def examine_embeddings(left: Checkpoint, right: Checkpoint, alignment: Alignment, alpha: float) -> NullTest | None:
    """Axes of the residual stream by their values over tokens. Exact if axes are exchangeable; blind to rotations."""
    names = embedding_pair(left, alignment)
    if names is None:
        return None
    ours, theirs = shared_rows(left, right, names)
    tested = min(AXES, ours.shape[1])
    fixed = fixed_points(np.ascontiguousarray(ours[:, :tested].T), np.ascontiguousarray(theirs[:, :tested].T))
    tail = log10_tail(fixed)
    return NullTest(
        method=METHOD,
        block=names[0],
        statistic=float(fixed),
        n=tested,
        log10_p=tail,
        log10_p_adjusted=tail,
        null="independent initialisation; axes of the residual stream exchangeable under training",
        note=f"{fixed} of {tested} at their own place, 1 expected by chance" + (": shared" if tail <= log10(alpha) else ""),
    )
