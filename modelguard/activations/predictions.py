"""What a model predicts behind every position of a text, read from its output head a tile of the vocabulary at a time.

All log-probabilities of 8,000 positions and 128,000 tokens would take 4 GB a model. Kept are those of the few hundred tokens a position
that control models hold likeliest, the likeliest token, and the log-probability of the token that follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelguard.activations.held_out import Windows
from modelguard.activations.networks import Architecture
from modelguard.activations.streaming import final_states
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.computed import floats
from modelguard.checkpoints.dtypes import FLOATING
from modelguard.types.findings import Missing

TOP = 64  # tokens a position: those that a model holds likeliest
ABSENT = np.float32(-1e30)  # log-probability that stands where a position has fewer tokens than another
TILE_BYTES = 32 << 20  # of scores
HEADS = ("lm_head.weight", "embed_out.weight")
BEFORE = ("", "model.", "base_model.model.")
PREDICTING = frozenset(("gpt2", "gpt_neo", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"))

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What a model predicts: `kept` (positions, tokens) log-probabilities of the same tokens for all models, `said` (positions,) the
    likeliest token, `right` (positions,) the log-probability of the token that follows; of so many tokens in all.
    """

    kept: Floats
    said: Ids
    right: Floats
    vocabulary: int


@dataclass(frozen=True, slots=True, kw_only=True)
class States:
    """What a model hands its output head at each position (positions, width), and where that head is."""

    hidden: Floats
    checkpoint: Checkpoint
    head: str
    vocabulary: int
    cap: float  # scores are pressed below it by a tanh; 0: they are not


def predictions_of(scores: Floats, following: Ids) -> Predictions:
    """Predictions that keep every token of log-probabilities (positions, vocabulary)."""
    return Predictions(kept=scores, said=scores.argmax(axis=1), right=scores[np.arange(len(scores)), following], vocabulary=scores.shape[1])


def states(checkpoint: Checkpoint, architecture: Architecture, windows: Windows, advance: Advance) -> States | Missing:
    """Runs a network on the windows, layer by layer, up to its output head. Raises CannotRead."""
    head = _head(checkpoint, architecture)
    if isinstance(head, Missing):
        return head
    hidden = final_states(checkpoint, architecture, windows.ids, advance)
    if isinstance(hidden, Missing):
        return hidden
    return States(
        hidden=np.ascontiguousarray(hidden[:, :-1].reshape(-1, hidden.shape[-1])),
        checkpoint=checkpoint,
        head=head,
        vocabulary=checkpoint.tensors[head].shape[0],
        cap=float(getattr(architecture.config, "final_logit_softcapping", None) or 0),
    )


def likeliest(given: States) -> Ids:
    """The TOP likeliest tokens behind every position (positions, TOP), in no order."""
    best, names = np.zeros((len(given.hidden), 0), np.float32), np.zeros((len(given.hidden), 0), np.int64)
    for start, scores in _tiles(given):
        numbers = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
        best, names = np.concatenate([best, scores], axis=1), np.concatenate([names, numbers], axis=1)
        chosen = np.argpartition(-best, min(TOP, best.shape[1]) - 1, axis=1)[:, :TOP]
        best, names = np.take_along_axis(best, chosen, axis=1), np.take_along_axis(names, chosen, axis=1)
    return names


def together(listed: Sequence[Ids]) -> Ids:
    """All tokens of several lists (positions, n) by position, each once, in order; -1 where a position has fewer than another."""
    rows = [np.unique(row) for row in np.concatenate(listed, axis=1)]
    made = np.full((len(rows), max(map(len, rows))), -1, dtype=np.int64)
    for place, row in zip(made, rows, strict=True):
        place[: len(row)] = row
    return made


def predictions(given: States, wanted: Ids, following: Ids) -> Predictions:
    """The log-probabilities of the wanted tokens (positions, n), and what else is compared. Scores that are no numbers give NaN."""
    n = len(given.hidden)
    rows = np.arange(n)
    kept, right, said = np.full(wanted.shape, ABSENT, np.float32), np.zeros(n, np.float32), np.zeros(n, np.int64)
    highest, total = np.full(n, -np.inf, np.float32), np.zeros(n)
    for start, scores in _tiles(given):
        peak = scores.max(axis=1)
        said = np.where(peak > highest, start + scores.argmax(axis=1), said)
        above = np.maximum(highest, peak)
        with np.errstate(invalid="ignore", over="ignore"):
            total = total * np.exp(highest - above) + np.exp(scores - above[:, None]).sum(axis=1, dtype=np.float64)
        highest = above
        _put(kept, wanted, scores, start)
        here = (following >= start) & (following < start + scores.shape[1])
        right[here] = scores[rows[here], following[here] - start]
    with np.errstate(all="ignore"):
        normal = (highest + np.log(total)).astype(np.float32)
        kept, right = np.where(wanted < 0, ABSENT, kept - normal[:, None]), right - normal
    return Predictions(kept=kept, said=said, right=right, vocabulary=given.vocabulary)


def _put(kept: Floats, wanted: Ids, scores: Floats, start: int) -> None:
    rows, columns = np.nonzero((wanted >= start) & (wanted < start + scores.shape[1]))
    kept[rows, columns] = scores[rows, wanted[rows, columns] - start]


def _tiles(given: States) -> Iterator[tuple[int, Floats]]:
    """(first token, scores (positions, tokens)) of stretches of the vocabulary."""
    width = given.hidden.shape[1]
    step = max(1, min(TILE_BYTES // (4 * len(given.hidden)), TILE_BYTES // (4 * width)))
    for start in range(0, given.vocabulary, step):
        matrix = floats(given.checkpoint, given.head, range(start, min(given.vocabulary, start + step)), range(width))
        with np.errstate(invalid="ignore", over="ignore"):
            scores = given.hidden @ matrix.T
            yield start, np.tanh(scores / given.cap) * np.float32(given.cap) if given.cap else scores


def _head(checkpoint: Checkpoint, architecture: Architecture) -> str | Missing:
    """The name of the matrix (vocabulary, width) that makes scores of states: its own, or the embedding where the two are tied."""
    if architecture.family not in PREDICTING:
        return Missing(f"{checkpoint.ref}: networks of the family {architecture.family} are not asked for the token that follows")
    shape = (architecture.vocabulary, architecture.width)
    names = [before + head for head in HEADS for before in BEFORE]
    if getattr(architecture.config, "tie_word_embeddings", False):
        names += [name for name in sorted(checkpoint.tensors) if name.endswith(tuple(architecture.tables))]
    found = next((name for name in names if name in checkpoint.tensors and checkpoint.tensors[name].shape == shape), None)
    if found is None or checkpoint.tensors[found].dtype not in FLOATING:
        return Missing(f"{checkpoint.ref}: no output head over {shape[0]} tokens, so it predicts nothing")
    return found
