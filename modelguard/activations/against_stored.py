"""A network held against a stored activation fingerprint: the base's weights are not needed, only what it did on the probes."""

from __future__ import annotations

from dataclasses import replace

from modelguard.activations.comparison import CONTROL_LOG10_P, hold, installed
from modelguard.activations.extent import WHOLE, Extent
from modelguard.activations.network_settings import read_settings
from modelguard.activations.stored import (
    NOT_INSTALLED,
    described,
    designed,
    gram_of,
    kept_layers,
    kept_tokens,
    next_of,
    stored_probes,
    told,
    trace_of,
)
from modelguard.activations.streaming import run
from modelguard.activations.support import gram_cosine, next_agreement, statistics_cosine
from modelguard.blobs.base import Folder
from modelguard.checkpoints.base import Checkpoint
from modelguard.types.activations import ActivationFingerprint
from modelguard.types.findings import Missing
from modelguard.types.weights import ActivationComparison, ActivationLayer

STORED = "held against a stored activation fingerprint: the base's own weights were not read"
BLIND = (
    "blind to permuted units, which are stored by their place, and to a rotated residual stream: such a copy is paired by its other parts, "
    "or by nothing; its attention patterns and Gram matrices stay alike"
)
CONTROL = "the stored network with its weight matrices rounded to 4 bits, as measured when the fingerprint was made"


def compare_with_stored(
    checkpoint: Checkpoint, folder: Folder, stored: ActivationFingerprint, extent: Extent = WHOLE
) -> ActivationComparison | Missing:
    """Runs a checkpoint on the probes of a fingerprint and holds it against that. Raises CannotRead for hostile files."""
    made = on_probes_of(stored, checkpoint, folder, extent)
    result = made if isinstance(made, Missing) else held(made, stored)
    settings = read_settings(folder)
    if isinstance(result, Missing) or isinstance(settings, Missing):
        return result
    return replace(result, notes=(*settings.notes, *result.notes))


def on_probes_of(
    stored: ActivationFingerprint, checkpoint: Checkpoint, folder: Folder, extent: Extent = WHOLE
) -> ActivationFingerprint | Missing:
    """What a checkpoint does on the probes of a fingerprint, in the layers that it holds, as far as `extent` lets it run."""
    if not installed():
        return NOT_INSTALLED
    network = designed(folder)
    if isinstance(network, Missing):
        return network
    if described(network) != stored.architecture or not 1 <= stored.depth <= network.layers:
        return Missing(f"different architecture: {described(network)}, and {stored.architecture[:200]} for the stored base")
    probes = stored_probes(stored, network)
    if isinstance(probes, Missing):
        return probes
    depth = min(extent.depth(network), stored.depth)
    advance = extent.counting([(network, checkpoint)], depth)
    trace = run(checkpoint, network, probes, depth=depth, advance=advance, telling=True)
    if isinstance(trace, Missing):
        return trace
    layers = kept_layers(stored.depth)
    return told(checkpoint, network, probes, trace, layers[layers < depth], tokens=kept_tokens(stored.depth))


def held(left: ActivationFingerprint, right: ActivationFingerprint) -> ActivationComparison | Missing:
    """Holds one fingerprint against another, of which the right one is the base's, in the layers that both have.

    The base's control counts only where all of its layers are compared: fewer of them see less.
    """
    layers = [layer for layer in right.which if layer in left.which]
    if _form(left) != _form(right) or not layers:
        return Missing("the activation fingerprints differ in method, architecture or probes, and do not compare")
    agreed = hold(trace_of(left, layers), trace_of(right, layers))
    control = right.control if len(layers) == right.kept else (0.0, 0.0, 0.0)
    same, overlap = next_agreement(next_of(left), next_of(right))
    return ActivationComparison(
        method=right.method,
        layers=tuple(_supported(shown, left, right, layer) for shown, layer in zip(agreed.layers, layers, strict=True)),
        log10_p_hidden=agreed.log10_p_hidden,
        log10_p_heads=agreed.log10_p_heads,
        log10_p_units=agreed.log10_p_units,
        control=CONTROL,
        control_fires=max(control[:2]) <= CONTROL_LOG10_P,
        control_log10_p_hidden=control[0],
        control_log10_p_heads=control[1],
        control_log10_p_units=control[2],
        best_head_match=agreed.best_head_match,
        tokens=right.tokens,
        next_token_agreement=same,
        next_token_overlap=overlap,
        notes=_notes(left, right, layers),
    )


def _supported(shown: ActivationLayer, left: ActivationFingerprint, right: ActivationFingerprint, layer: int) -> ActivationLayer:
    """A layer's numbers under its own name, with those that have no null and support only."""
    sides = [trace_of(side, [layer]).statistics for side in (left, right)]
    ours, theirs = (side[0] for side in sides if side is not None)
    return replace(
        shown,
        name=f"layer {layer}",
        gram_cosine=gram_cosine(gram_of(left, layer), gram_of(right, layer)),
        statistics_cosine=statistics_cosine(ours, theirs),
    )


def _form(made: ActivationFingerprint) -> tuple[object, ...]:
    """What must be equal on both sides: what was asked, of what network, and what of the answer was kept."""
    numbers = (
        made.texts,
        made.length,
        made.tokens,
        made.anchors,
        made.axes,
        made.units,
        made.heads,
        made.groups,
        made.columns,
        made.measures,
    )
    return (made.method, made.architecture, made.ids, made.layers, *numbers)


def _notes(left: ActivationFingerprint, right: ActivationFingerprint, layers: list[int]) -> tuple[str, ...]:
    notes = [STORED, BLIND]
    depth = min(left.depth, right.depth)
    notes += [f"the first {depth} of {right.layers} layers were run"] if depth < right.layers else []
    notes += [f"{len(layers)} of {depth} layers that were run are held in the fingerprint"] if len(layers) < depth else []
    return tuple(notes)
