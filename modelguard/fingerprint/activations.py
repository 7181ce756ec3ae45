"""Two networks of one architecture, run on the same public texts and held against each other layer by layer.

Under independence the axes of a residual stream and the heads of a layer are exchangeable: initialised alike, trained by updates
that do not know their order. So two exact tests (see `matching`) ask whether axis i of one network behaves like axis i of the other,
and head h like head h. Exactness holds for any texts and any function of the network; only the power depends on them.
A third number, the best match of every head with any head of the same layer, survives every rewriting of a network that leaves its
function alone (permuted heads, rotated or rescaled weights): attention patterns do not change. It serves as a veto only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelguard.blobs.base import Folder
from modelguard.checkpoints.base import Checkpoint
from modelguard.fingerprint.matching import TIE, cosines, fixed_points, log10_tail, strict_nearest
from modelguard.fingerprint.networks import REFUSALS, Architecture, design, load, read_settings
from modelguard.fingerprint.probes import Tokens, encode
from modelguard.types.findings import Missing
from modelguard.types.weights import ActivationComparison, ActivationLayer

MOST_AXES = 1024  # evenly spaced axes of a wider residual stream: 1/1024! is small enough
CONTROL_BITS = 4
CONTROL_LOG10_P = -9.0
CONTROL = f"the declared base with its weight matrices rounded to {CONTROL_BITS} bits"

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a network did on the probes.

    `states` (layers, tokens, axes): hidden states behind each layer, without their mean over tokens, each token scaled to length 1
    so that the few tokens with huge states do not speak for all. `patterns` (layers, heads, entries): attention of each head in
    every text, without the head's mean over texts, which is what it does by position alone. `groups`: how many groups of heads
    share keys and values (as many as heads where none do).
    """

    states: Array
    patterns: Array
    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What holding one trace against another gave."""

    layers: tuple[ActivationLayer, ...]
    log10_p_hidden: float
    log10_p_heads: float
    best_head_match: float


def compare_activations(left: Checkpoint, right: Checkpoint, left_folder: Folder, right_folder: Folder) -> ActivationComparison | Missing:
    """Runs `left` (the checkpoint in question) and `right` (its declared base) on the probes. Raises CannotRead for hostile files."""
    if not _installed():
        return Missing("activations extra not installed", advice="pip install 'modelguard[activations]'")
    first = _design(left_folder)
    if isinstance(first, Missing):
        return first
    second = _design(right_folder)
    if isinstance(second, Missing):
        return second
    if first.text != second.text:
        return Missing(f"different architecture: {first.text}, and {second.text} for the declared base")
    tokens = encode(right_folder, min(first.vocabulary, second.vocabulary), min(first.positions, second.positions))
    trace = _trace(left, first, tokens)
    if isinstance(trace, Missing):
        return trace
    base = _trace(right, second, tokens)
    if isinstance(base, Missing):
        return base
    rounded = _trace(right, second, tokens, bits=CONTROL_BITS)
    control = None if isinstance(rounded, Missing) else hold(rounded, base)
    return _comparison(hold(trace, base), control, tokens, first.notes + second.notes)


def hold(left: Trace, right: Trace) -> Agreement:
    """Holds one trace against another. The axes are the same in every layer, so they make one block; heads make blocks by layer."""
    depth, heads = left.patterns.shape[:2]
    inside = _heads_inside_groups(depth, heads, left.groups)
    similarities = tuple(cosines(a.T, b.T) for a, b in zip(left.states, right.states, strict=True))  # of (axes, axes) each
    layers = tuple(_layer(index, similarity, left, right, inside) for index, similarity in enumerate(similarities))
    whole = sum((np.nan_to_num(similarity) for similarity in similarities), np.zeros_like(similarities[0]))
    matches = [layer.best_head_cosine for layer in layers if layer.best_head_cosine is not None]
    return Agreement(
        layers=layers,
        log10_p_hidden=log10_tail(int(strict_nearest(whole, margin=TIE).sum())),
        log10_p_heads=log10_tail(sum(layer.heads_fixed for layer in layers), depth * (left.groups if inside else 1)),
        best_head_match=float(np.mean(matches or [1.0])),
    )


def _layer(index: int, similarity: NDArray[np.float64], left: Trace, right: Trace, inside: bool) -> ActivationLayer:
    """One layer's numbers; its p-value is the smaller of its two, doubled because there are two."""
    hidden = int(strict_nearest(similarity, margin=TIE).sum())
    blocks = _blocks(left.patterns[index], left.groups, inside), _blocks(right.patterns[index], left.groups, inside)
    heads = sum(fixed_points(a, b) for a, b in zip(*blocks, strict=True))
    smaller = min(log10_tail(hidden), log10_tail(heads, len(blocks[0])))
    own, best = _head_cosines(left.patterns[index], right.patterns[index])
    return ActivationLayer(
        name=f"layer {index}",
        hidden_cosine=float((left.states[index] * right.states[index]).sum(axis=1).mean()),
        attention_cosine=own,
        hidden_fixed=hidden,
        hidden_n=len(similarity),
        heads_fixed=heads,
        heads_n=len(blocks[0]) * blocks[0].shape[1],
        log10_p=min(0.0, smaller + math.log10(2)),
        best_head_cosine=best,
    )


def _heads_inside_groups(depth: int, heads: int, groups: int) -> bool:
    """Whether heads are told apart inside their group, or groups inside their layer: what sees more. Both are exact."""
    return log10_tail(depth * heads, depth * groups) < log10_tail(depth * groups, depth)


def _blocks(patterns: Array, groups: int, inside: bool) -> Array:
    """A layer's patterns (heads, entries) as blocks of exchangeable rows (blocks, rows, entries)."""
    grouped = patterns.reshape(groups, len(patterns) // groups, -1)
    return grouped if inside else grouped.mean(axis=1)[None]


def _head_cosines(left: Array, right: Array) -> tuple[float | None, float | None]:
    """Mean cosine of a layer's heads with their partners, and with the best head of the other side; None where no pattern has content."""
    similarity = cosines(left, right)  # (heads, heads)
    own = np.diagonal(similarity)
    own = own[np.isfinite(own)]
    best = np.where(np.isnan(similarity), -np.inf, similarity).max(axis=1)
    best = best[np.isfinite(best)]
    return (float(own.mean()) if own.size else None), (float(best.mean()) if best.size else None)


def _comparison(agreement: Agreement, control: Agreement | None, tokens: Tokens, notes: tuple[str, ...]) -> ActivationComparison:
    controls = (control.log10_p_hidden, control.log10_p_heads) if control is not None else (0.0, 0.0)
    return ActivationComparison(
        method=f"activations-1:{tokens.method}",
        layers=agreement.layers,
        log10_p_hidden=agreement.log10_p_hidden,
        log10_p_heads=agreement.log10_p_heads,
        control=CONTROL,
        control_fires=max(controls) <= CONTROL_LOG10_P,
        control_log10_p_hidden=controls[0],
        control_log10_p_heads=controls[1],
        best_head_match=agreement.best_head_match,
        tokens=tokens.ids.size,
        notes=notes,
    )


def _installed() -> bool:
    try:
        import tokenizers  # noqa: F401
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError:
        return False
    return True


def _design(folder: Folder) -> Architecture | Missing:
    settings = read_settings(folder)
    return settings if isinstance(settings, Missing) else design(settings, folder.ref)


def _trace(checkpoint: Checkpoint, architecture: Architecture, tokens: Tokens, bits: int = 0) -> Trace | Missing:
    """Loads a checkpoint, rounds its matrices to `bits` if any, runs it and lets go of it."""
    import torch

    network = load(checkpoint, architecture)
    if isinstance(network, Missing):
        return network
    ids = torch.from_numpy(tokens.ids)
    try:
        with torch.inference_mode():
            _round(network, bits)
            out = network(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True, output_attentions=True)
    except REFUSALS as error:
        return Missing(f"{checkpoint.ref}: the network could not be run ({type(error).__name__})")
    states = np.stack([_states(state.float().numpy()) for state in out.hidden_states[1:]])
    patterns = np.stack([_content(pattern.float().numpy()) for pattern in out.attentions])
    if not (np.isfinite(states).all() and np.isfinite(patterns).all()):
        return Missing(f"{checkpoint.ref}: hidden states on the probes are not finite numbers")
    return Trace(states=states, patterns=patterns, groups=architecture.groups)


def _round(network: Any, bits: int) -> None:
    """Rounds every weight matrix to the levels of `bits` bits, symmetric, with one scale a row."""
    top = 2.0 ** (bits - 1) - 1
    for weight in network.parameters() if bits else ():
        if weight.ndim >= 2:
            scale = weight.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / top
            weight.copy_((weight / scale).round() * scale)


def _states(hidden: Array) -> Array:
    """Hidden states (texts, tokens, width) as (texts * tokens, axes), centred over tokens, each token of length 1."""
    every = hidden.reshape(-1, hidden.shape[-1])
    axes = np.linspace(0, every.shape[1] - 1, min(every.shape[1], MOST_AXES)).astype(int)
    centred = every[:, axes] - every[:, axes].mean(axis=0)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.where(length > 0, length, 1), dtype=np.float32)


def _content(attention: Array) -> Array:
    """Attention (texts, heads, from, to) as (heads, texts * from * to), without each head's mean over texts."""
    centred = attention - attention.mean(axis=0)
    return np.ascontiguousarray(centred.swapaxes(0, 1)).reshape(attention.shape[1], -1)
