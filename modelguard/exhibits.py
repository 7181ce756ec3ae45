"""Pictures' frozen, downsampled data, drawn from evidence once, so that renderers need nothing but the report."""

from __future__ import annotations

from modelguard.logs.timeline import timeline
from modelguard.types.evidence import Evidence
from modelguard.types.findings import Missing
from modelguard.types.report import Exhibit, Strip
from modelguard.types.weights import ActivationComparison, Comparison

MAX_TIMELINES = 6
MAX_LAYERS = 128


def exhibits(evidence: Evidence) -> tuple[Exhibit, ...]:
    """A strip a comparison, a timeline a run."""
    drawn: list[Exhibit] = []
    if not isinstance(evidence.weights, Missing) and evidence.weights.layers:
        drawn.append(_weights(evidence.weights))
    if not isinstance(evidence.activations, Missing):
        drawn.append(_activations(evidence.activations))
    if not isinstance(evidence.log, Missing):
        drawn += [timeline(run) for run in evidence.log.runs[:MAX_TIMELINES]]
    return tuple(drawn)


def _weights(weights: Comparison) -> Strip:
    layers = weights.layers[:MAX_LAYERS]
    return Strip(
        title="weights, layer by layer",
        labels=tuple(layer.name for layer in layers),
        values=tuple(layer.score for layer in layers),
        caption="share of tested units that are at the declared base's place",
    )


def _activations(activations: ActivationComparison) -> Strip:
    layers = activations.layers[:MAX_LAYERS]
    return Strip(
        title="activations, layer by layer",
        labels=tuple(layer.name for layer in layers),
        values=tuple(max(0.0, min(1.0, layer.hidden_cosine)) for layer in layers),
        caption="cosine of hidden states on the probes, token mean removed",
    )
