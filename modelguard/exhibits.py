"""Pictures' frozen, downsampled data, drawn from evidence once, so that renderers need nothing but the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from modelguard.logs.machine_timeline import machine_timeline
from modelguard.logs.timeline import timeline
from modelguard.types.across import LIMITS, AcrossComparison
from modelguard.types.evals import TeacherEvidence
from modelguard.types.evidence import Evidence
from modelguard.types.findings import Missing
from modelguard.types.report import Band, Edge, Exhibit, Lineage, Matrix, Strip
from modelguard.types.weights import ActivationComparison, Comparison, Relation

MAX_TIMELINES = 6
MAX_LAYERS = 128
MAX_BANDS = 12
TONES = {
    Relation.IDENTICAL: "ok",
    Relation.SAME_WEIGHTS: "ok",
    Relation.DERIVED: "ok",
    Relation.SHARED_INITIALISATION: "found",
    Relation.UNRELATED: "found",
}


def exhibits(evidence: Evidence) -> tuple[Exhibit, ...]:
    """Where the model comes from, a strip a comparison, a timeline a run and a machine."""
    drawn: list[Exhibit] = [*_lineage(evidence)]
    if not isinstance(evidence.weights, Missing) and evidence.weights.layers:
        drawn.append(_weights(evidence.weights))
    if not isinstance(evidence.activations, Missing):
        drawn.append(_activations(evidence.activations))
    if not isinstance(evidence.across, Missing):
        drawn += across(evidence.across)
    if not isinstance(evidence.log, Missing):
        drawn += [timeline(run) for run in evidence.log.runs[:MAX_TIMELINES]]
        machines = (machine_timeline(usage, evidence.log.runs) for usage in evidence.log.usage[:MAX_TIMELINES])
        drawn += [picture for picture in machines if picture is not None]
    if not isinstance(evidence.teacher, Missing):
        drawn += likeness_bands(evidence.teacher)
    return tuple(drawn)


def compared(comparison: Comparison, activations: ActivationComparison | None = None) -> tuple[Exhibit, ...]:
    """The pictures of two checkpoints alone."""
    drawn = (_weights(comparison),) if comparison.layers else ()
    return drawn if activations is None else (*drawn, *ran(activations))


def ran(activations: ActivationComparison) -> tuple[Exhibit, ...]:
    """The pictures of two models on the same probe texts, with the tests' p-values under them."""
    tests = {
        "hidden states": activations.log10_p_hidden,
        "attention heads": activations.log10_p_heads,
        "units of MLPs": activations.log10_p_units,
    }
    told = ", ".join(f"{name} at most 10^{value:.0f}" for name, value in tests.items() if value < 0)
    strip = _activations(activations)
    return (replace(strip, caption=f"{strip.caption}; p under independence: {told or 'no test is significant'}"),)


def across(found: AcrossComparison) -> tuple[Exhibit, ...]:
    """The model among its controls by each measure, and which of its layers are like which of the other's."""
    bands = [
        Band(
            title=f"across architectures, {one.measure}",
            value=one.value,
            low=one.value,
            high=one.value,
            controls=one.controls,
            limit=max(one.controls),
            caption=f"rank {one.rank} of {len(one.controls) + 1}: this model {one.value:.3f}, {len(one.controls)} controls "
            f"{min(one.controls):.3f} to {max(one.controls):.3f}",
        )
        for one in found.standings
    ]
    values = tuple(row[:MAX_LAYERS] for row in found.map[:MAX_LAYERS])
    known = [value for row in values for value in row if value is not None]
    if not known:
        return tuple(bands)
    heat = Matrix(
        title="layers across architectures",
        rows=tuple(f"layer {place}" for place in range(len(values))),
        columns=tuple(f"layer {place}" for place in range(len(values[0]))),
        values=tuple(tuple(None if value is None else max(0.0, min(1.0, value)) for value in row) for row in values),
        caption=f"debiased CKA of this model's layers with those of {found.right}, without what strings and controls explain; "
        f"a pattern says nothing without the rank among controls; {LIMITS}",
        along="layer of the other network",
        top=max(0.01, min(1.0, max(known))),
    )
    return (*bands, heat)


def _lineage(evidence: Evidence) -> Iterator[Lineage]:
    """The declared bases, and what the weights say of the one that they were held against."""
    if isinstance(evidence.declaration, Missing) or not evidence.declaration.bases:
        return
    weights = evidence.weights
    edges = []
    for base in evidence.declaration.bases:
        compared = not isinstance(weights, Missing) and base.name in weights.right.ref
        tone = TONES.get(weights.relation, "unknown") if compared and not isinstance(weights, Missing) else "unknown"
        said = weights.relation.value if compared and not isinstance(weights, Missing) else "declared, not compared"
        edges.append(Edge(child="this checkpoint", parent=base.text, label=said, tone=tone))
    yield Lineage(title="where the model comes from", edges=tuple(edges), caption="as declared, and as the weights show")


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


def likeness_bands(teacher: TeacherEvidence) -> tuple[Band, ...]:
    """A band for every measure of every candidate."""
    bands = [
        Band(
            title=f"{measure.name} with {likeness.candidate}",
            value=measure.value,
            low=measure.low,
            high=measure.high,
            controls=measure.controls,
            limit=measure.limit,
            caption=f"{len(measure.controls)} controls reach {max(measure.controls):.3f}; this model {measure.value:.3f}, n = {measure.n}",
        )
        for likeness in teacher.likenesses
        for measure in likeness.measures
    ]
    return tuple(bands[:MAX_BANDS])
