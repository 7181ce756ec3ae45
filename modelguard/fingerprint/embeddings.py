"""The token embeddings on their own: copied or frozen embeddings say nothing about the layers, and the other way round."""

from __future__ import annotations

from collections.abc import Iterable
from math import log10

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import FLOATING
from modelguard.correspondence.alignment import Alignment
from modelguard.correspondence.tiles import pieces
from modelguard.fingerprint.blocks import layer_of
from modelguard.fingerprint.matching import fixed_points, log10_tail
from modelguard.types.weights import NullTest

METHOD = "t2-embedding-axis-fixed-points-v1-m128-t4096"
TOKENS = 4096
AXES = 128
MIN_TALLNESS = 2  # a token table has more rows than this times its width


def embedding_pair(left: Checkpoint, right: Checkpoint, alignment: Alignment) -> tuple[str, str] | None:
    """The tensors that hold one row a token: the tallest aligned matrix outside the layers, if it is tall enough to be one.

    Where none is aligned, the tallest of either side: tokens were added or removed, and the first ones still pair up.
    """
    aligned = dict(alignment.pairs)
    ours = _tallest(left, aligned)
    if ours:
        return ours, aligned[ours]
    ours, theirs = _tallest(left, alignment.only_left), _tallest(right, alignment.only_right)
    return (ours, theirs) if ours and theirs and left.tensors[ours].shape[1] == right.tensors[theirs].shape[1] else None


def _tallest(checkpoint: Checkpoint, names: Iterable[str]) -> str:
    """The tallest of these tensors that can be a token table; "" when none can."""
    outside = (checkpoint.tensors[name] for name in names if layer_of(name) == name)
    tables = (info for info in outside if len(info.shape) == 2 and info.dtype in FLOATING and info.shape[0] > MIN_TALLNESS * info.shape[1])
    return max(((info.shape[0], info.name) for info in tables), default=(0, ""))[1]


def shared_rows(left: Checkpoint, right: Checkpoint, names: tuple[str, str], most: int = TOKENS) -> int:
    """How many of the first tokens are looked at."""
    return min(most, left.tensors[names[0]].shape[0], right.tensors[names[1]].shape[0])


def examine_embeddings(left: Checkpoint, right: Checkpoint, alignment: Alignment, alpha: float) -> NullTest | None:
    """Axes of the residual stream by their values over tokens. Exact if axes are exchangeable; blind to rotations."""
    names = embedding_pair(left, right, alignment)
    if names is None:
        return None
    count, tested = shared_rows(left, right, names), min(AXES, left.tensors[names[0]].shape[1])
    ours, theirs = (_axes(side, name, count, tested) for side, name in zip((left, right), names, strict=True))
    fixed = fixed_points(ours, theirs)
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


def _axes(checkpoint: Checkpoint, name: str, count: int, tested: int) -> NDArray[np.float32]:
    """The first axes' values over the first tokens, (tested, count)."""
    axes = np.empty((tested, count), dtype=np.float32)
    for tokens, piece in pieces(checkpoint, name, count):
        axes[:, tokens] = piece[:, :tested].T
    return axes
