"""What supports a comparison and decides nothing: Gram matrices of hidden states, statistics of heads, next tokens.

None of these has an exact null: independent networks that read the same tokens grow alike (docs/activations.md has the bands).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from modelguard.activations.networks import Architecture
from modelguard.activations.next_tokens import NextTokens, agreement, next_tokens
from modelguard.activations.traces import Trace
from modelguard.checkpoints.base import Checkpoint
from modelguard.types.findings import Missing
from modelguard.types.weights import ActivationLayer

ANCHORS = 96  # tokens whose hidden states are held against each other, and behind which the next one is predicted

Floats = NDArray[np.floating]


def anchors(count: int) -> NDArray[np.int64]:
    """Which of `count` tokens are looked at: at most ANCHORS, evenly spread."""
    return np.linspace(0, count - 1, min(count, ANCHORS)).astype(np.int64)


def supported(layers: tuple[ActivationLayer, ...], left: Trace, right: Trace) -> tuple[ActivationLayer, ...]:
    """Layers with the numbers that have no null."""
    return tuple(
        replace(
            layer,
            gram_cosine=gram_cosine(gram(left.states[place]), gram(right.states[place])),
            statistics_cosine=statistics_cosine(left.statistics[place], right.statistics[place]),
        )
        if left.statistics is not None and right.statistics is not None
        else layer
        for place, layer in enumerate(layers)
    )


def after(checkpoint: Checkpoint, network: Architecture, trace: Trace) -> NextTokens | None:
    """What follows the anchors, where the network was run to its end and predicts anything."""
    if trace.last is None:
        return None
    found = next_tokens(checkpoint, network, trace.last[anchors(len(trace.last))])
    return None if isinstance(found, Missing) else found


def next_agreement(left: NextTokens | None, right: NextTokens | None) -> tuple[float | None, float | None]:
    """How two networks agree on next tokens; nothing where one of them predicts none."""
    return (None, None) if left is None or right is None else agreement(left, right)


def gram(states: Floats) -> NDArray[np.float32]:
    """Cosines between the anchors' states (tokens, axes), which have length 1, as (anchors, anchors) with zeros on the diagonal."""
    chosen = states[anchors(len(states))].astype(np.float32)
    made = np.asarray(np.clip(chosen @ chosen.T, -1, 1), dtype=np.float32)
    np.fill_diagonal(made, 0)
    return made


def gram_cosine(left: Floats, right: Floats) -> float | None:
    """Cosine of two Gram matrices (n, n) without their diagonals, U-centred (debiased CKA; Székely and Rizzo 2014); None of nothing."""
    return _cosine(_centred(left), _centred(right))


def statistics_cosine(left: Floats, right: Floats) -> float | None:
    """Cosine of the statistics of a layer's heads (heads, measures), without the mean over the heads of the layer."""
    ours, theirs = (side.astype(np.float64) - side.astype(np.float64).mean(axis=0) for side in (left, right))
    return _cosine(ours, theirs)


def _centred(matrix: Floats) -> NDArray[np.float64]:
    """U-centred: rows and columns off the diagonal sum to zero."""
    n = len(matrix)
    if n < 4:
        return np.zeros((n, n))
    sums = matrix.sum(axis=0, dtype=np.float64) / (n - 2)  # (n,)
    centred = matrix - sums[:, None] - sums[None, :] + sums.sum() / (n - 1)
    np.fill_diagonal(centred, 0.0)
    return np.asarray(centred)


def _cosine(left: Floats, right: Floats) -> float | None:
    lengths = float(np.linalg.norm(left)) * float(np.linalg.norm(right))
    return float((left * right).sum()) / lengths if lengths > 1e-12 else None
