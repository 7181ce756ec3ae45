"""Two networks of one architecture, run on the same public texts and held against each other layer by layer.

Under independence the axes of a residual stream, the heads of a layer and the units of an MLP are exchangeable: initialised alike,
trained by updates that do not know their order. So three exact tests (see `matching`) ask whether axis i of one network behaves like
axis i of the other, head h like head h and unit u like unit u. Exactness holds for any texts and any function of the network; only the
power depends on them. A fourth number, the best match of every head with any head of the same layer, survives every rewriting of a
network that leaves its function alone (permuted heads, rotated or rescaled weights): attention patterns do not change. It serves as a
veto only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from modelguard.activations.extent import WHOLE, Extent
from modelguard.activations.network_settings import read_settings
from modelguard.activations.networks import Architecture, design
from modelguard.activations.probes import Probes, drawn, encode, written
from modelguard.activations.streaming import run
from modelguard.activations.support import after, next_agreement, supported
from modelguard.activations.traces import Array, Trace
from modelguard.blobs.base import Folder
from modelguard.checkpoints.base import Checkpoint
from modelguard.fingerprint.matching import TIE, cosines, fixed_points, log10_tail, strict_nearest
from modelguard.types.findings import Missing
from modelguard.types.weights import ActivationComparison, ActivationLayer

CONTROL_BITS = 4
CONTROL_LOG10_P = -9.0
CONTROL = f"the declared base with its weight matrices rounded to {CONTROL_BITS} bits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What holding one trace against another gave."""

    layers: tuple[ActivationLayer, ...]
    log10_p_hidden: float
    log10_p_heads: float
    log10_p_units: float
    best_head_match: float


def compare_activations(
    left: Checkpoint, right: Checkpoint, left_folder: Folder, right_folder: Folder, extent: Extent = WHOLE
) -> ActivationComparison | Missing:
    """Runs `left` (the checkpoint in question) and `right` (its declared base) on the probes. Raises CannotRead for hostile files."""
    if not installed():
        return Missing("activations extra not installed", advice="pip install 'modelguard[activations]'")
    designs = _designs(left_folder, right_folder)
    if isinstance(designs, Missing):
        return designs
    first, second = designs
    probes, depth = _probes(right_folder, first, second), extent.depth(second)
    advance = extent.counting([(second, right), (first, left), (second, right)], depth)
    base = run(right, second, probes, depth=depth, advance=advance, telling=True)
    if isinstance(base, Missing):
        return base
    trace = run(left, first, probes, depth=depth, advance=advance, telling=True)
    if isinstance(trace, Missing):
        return trace
    rounded = run(right, second, probes, depth=depth, bits=CONTROL_BITS, advance=advance)
    control = None if isinstance(rounded, Missing) else hold(rounded, base)
    notes = (*first.notes, *second.notes, *extent.notes(second))
    agreed = hold(trace, base)
    same, overlap = next_agreement(after(left, first, trace), after(right, second, base))
    made = _comparison(replace(agreed, layers=supported(agreed.layers, trace, base)), control, probes, notes)
    return replace(made, next_token_agreement=same, next_token_overlap=overlap)


def hold(left: Trace, right: Trace) -> Agreement:
    """Holds one trace against another. The axes are the same in every layer, so they make one block; heads make blocks by layer."""
    depth, heads = left.patterns.shape[:2]
    inside = _heads_inside_groups(depth, heads, left.groups)
    layers, whole = [], np.zeros((left.states.shape[2],) * 2)
    for index, (ours, theirs) in enumerate(zip(left.states, right.states, strict=True)):
        similarity = cosines(ours.T, theirs.T)  # (axes, axes)
        layers.append(_layer(index, similarity, left, right, inside))
        whole += np.nan_to_num(similarity)
    matches = [layer.best_head_cosine for layer in layers if layer.best_head_cosine is not None]
    return Agreement(
        layers=tuple(layers),
        log10_p_hidden=log10_tail(int(strict_nearest(whole, margin=TIE).sum())),
        log10_p_heads=log10_tail(sum(layer.heads_fixed for layer in layers), depth * (left.groups if inside else 1)),
        log10_p_units=log10_tail(sum(layer.units_fixed for layer in layers), depth),
        best_head_match=float(np.mean(matches or [1.0])),
    )


def _layer(index: int, similarity: NDArray[np.float64], left: Trace, right: Trace, inside: bool) -> ActivationLayer:
    """One layer's numbers; its p-value is the smallest of its three, tripled because there are three."""
    hidden = int(strict_nearest(similarity, margin=TIE).sum())
    blocks = _blocks(left.patterns[index], left.groups, inside), _blocks(right.patterns[index], left.groups, inside)
    heads = sum(fixed_points(a, b) for a, b in zip(*blocks, strict=True))
    units = fixed_points(left.units[index].T, right.units[index].T)
    smallest = min(log10_tail(hidden), log10_tail(heads, len(blocks[0])), log10_tail(units))
    own, best = _head_cosines(left.patterns[index], right.patterns[index])
    return ActivationLayer(
        name=f"layer {index}",
        hidden_cosine=float((left.states[index].astype(np.float32) * right.states[index]).sum(axis=1).mean()),
        attention_cosine=own,
        hidden_fixed=hidden,
        hidden_n=len(similarity),
        heads_fixed=heads,
        heads_n=len(blocks[0]) * blocks[0].shape[1],
        log10_p=min(0.0, smallest + math.log10(3)),
        best_head_cosine=best,
        units_fixed=units,
        units_n=left.units.shape[2],
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


def _comparison(agreement: Agreement, control: Agreement | None, probes: Probes, notes: tuple[str, ...]) -> ActivationComparison:
    tests = (control.log10_p_hidden, control.log10_p_heads, control.log10_p_units) if control is not None else (0.0, 0.0, 0.0)
    return ActivationComparison(
        method=f"activations-2:{probes.method}",
        layers=agreement.layers,
        log10_p_hidden=agreement.log10_p_hidden,
        log10_p_heads=agreement.log10_p_heads,
        log10_p_units=agreement.log10_p_units,
        control=CONTROL,
        control_fires=max(tests[:2]) <= CONTROL_LOG10_P,
        control_log10_p_hidden=tests[0],
        control_log10_p_heads=tests[1],
        control_log10_p_units=tests[2],
        best_head_match=agreement.best_head_match,
        tokens=probes.count,
        notes=notes,
    )


def _designs(left: Folder, right: Folder) -> tuple[Architecture, Architecture] | Missing:
    """Both networks without weights, where they are of one architecture. Of two halves only the encoder where one side is no more."""
    ours, theirs = read_settings(left), read_settings(right)
    if isinstance(ours, Missing):
        return ours
    if isinstance(theirs, Missing):
        return theirs
    if ours.halves != theirs.halves:
        ours, theirs = ours.encoder, theirs.encoder
    first, second = design(ours, left.ref), design(theirs, right.ref)
    if isinstance(first, Missing):
        return first
    if isinstance(second, Missing):
        return second
    if (first.text, bool(first.vocabulary)) != (second.text, bool(second.vocabulary)):
        return Missing(f"different architecture: {first.text}, and {second.text} for the declared base")
    return first, second


def _probes(folder: Folder, first: Architecture, second: Architecture) -> Probes:
    if not first.vocabulary:
        return drawn(int(second.config.num_channels), int(second.config.image_size))
    return written(encode(folder, min(first.vocabulary, second.vocabulary), min(first.positions, second.positions)))


def installed() -> bool:
    try:
        import tokenizers  # noqa: F401
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError:
        return False
    return True
