"""What a network predicts behind chosen tokens: its likeliest next tokens, from an output head that is read in tiles.

The head may be larger than memory. A running maximum and sum give each position's normaliser, and of each tile only what is among the
likeliest so far is kept, so that no (positions, vocabulary) array is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelguard.activations.networks import STORED, Architecture, align
from modelguard.checkpoints.base import Checkpoint
from modelguard.correspondence.tiles import pieces
from modelguard.types.findings import Missing

TOP = 32
DECODERS = frozenset(("gpt2", "gpt_neo", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"))
HEADS = ("lm_head.weight", "embed_out.weight")

Reals = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class NextTokens:
    """The likeliest tokens of each position, the likeliest first: `ids` and their log-probabilities `logs`, both (positions, top)."""

    ids: NDArray[np.int64]
    logs: Reals


def head_of(architecture: Architecture, checkpoint: Checkpoint) -> str | Missing:
    """The name of the matrix (vocabulary, width) that turns hidden states into logits."""
    if architecture.family not in DECODERS:
        return Missing(f"{checkpoint.ref}: {architecture.family} predicts no next token")
    shape = (architecture.vocabulary, architecture.width)
    for name in HEADS:
        info = checkpoint.tensors.get(name)
        if info is not None:
            fits = info.shape == shape and info.dtype in STORED
            return name if fits else Missing(f"{checkpoint.ref}: the output head {name} is {info.dtype} of shape {info.shape}")
    if not architecture.config.tie_word_embeddings:
        return Missing(f"{checkpoint.ref}: has no output head")
    names = align({name: shape for name in architecture.tables if architecture.shapes[name] == shape}, checkpoint)
    if isinstance(names, Missing) or not names:
        return Missing(f"{checkpoint.ref}: has no output head")
    return min(names.values())


def next_tokens(checkpoint: Checkpoint, architecture: Architecture, hidden: Reals) -> NextTokens | Missing:
    """What follows the positions whose final hidden states, behind the last norm, are `hidden` (positions, width)."""
    name = head_of(architecture, checkpoint)
    if isinstance(name, Missing):
        return name
    cap = getattr(architecture.config, "final_logit_softcapping", None)
    ids = np.zeros((len(hidden), 0), dtype=np.int64)
    best = np.zeros((len(hidden), 0), dtype=np.float32)
    top, total = np.full(len(hidden), -np.inf), np.zeros(len(hidden))
    with np.errstate(over="ignore", invalid="ignore"):
        for stretch, matrix in pieces(checkpoint, name, architecture.vocabulary):
            logits = _capped(hidden @ matrix.T, cap)  # (positions, rows)
            if not np.isfinite(logits).all():
                return Missing(f"{checkpoint.ref}: predictions are not finite numbers")
            highest = np.maximum(top, logits.max(axis=1))
            total = total * np.exp(top - highest) + np.exp(logits - highest[:, None], dtype=np.float64).sum(axis=1)
            top = highest
            ids, best = _likeliest(ids, best, stretch.start, logits)
    return NextTokens(ids=ids, logs=(best - (top + np.log(total))[:, None]).astype(np.float32))


def agreement(left: NextTokens, right: NextTokens) -> tuple[float, float]:
    """(share of positions with the same likeliest token, share of the listed probability that both put on the same tokens).

    The second is 1 for equal lists, and 0 for lists that have no token in common; what neither lists is left out.
    """
    same = left.ids[:, :, None] == right.ids[:, None, :]  # (positions, top, top)
    ours, theirs = np.exp(left.logs.astype(np.float64)), np.exp(right.logs.astype(np.float64))
    shared = np.where(same, np.minimum(ours[:, :, None], theirs[:, None, :]), 0).sum(axis=(1, 2))
    listed = (ours.sum(axis=1) + theirs.sum(axis=1)) / 2
    return float(np.mean(left.ids[:, 0] == right.ids[:, 0])), float((shared / np.maximum(listed, 1e-300)).clip(0, 1).mean())


def _capped(logits: Reals, cap: float | None) -> Reals:
    return np.asarray(np.tanh(logits / np.float32(cap)) * np.float32(cap)) if cap else logits


def _likeliest(ids: NDArray[np.int64], best: Reals, start: int, logits: Reals) -> tuple[NDArray[np.int64], Reals]:
    """The TOP likeliest of those so far and a tile's, by falling logit; of equal ones the lower id comes first."""
    fresh = np.broadcast_to(np.arange(start, start + logits.shape[1]), logits.shape)
    every, values = np.concatenate([ids, fresh], axis=1), np.concatenate([best, logits], axis=1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :TOP]
    return np.take_along_axis(every, order, axis=1), np.take_along_axis(values, order, axis=1)
