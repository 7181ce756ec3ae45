"""What the tests and the exact difference come to in the terms of the `compare` contract: kinds, layers, power, shares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log10

from modelguard.checkpoints.base import Checkpoint, parameters
from modelguard.checkpoints.dtypes import PRECISION
from modelguard.fingerprint import weight_tests as tests
from modelguard.fingerprint.alignment import Alignment
from modelguard.fingerprint.blocks import layer_of
from modelguard.fingerprint.relation import BlockTests, control_threshold
from modelguard.types.weights import DifferenceSummary, LayerResult, NullTest, Power, Relation, TensorDifference

MOST_CHANGED = 12
NAMED = 20
BLIND = (
    Power(transformation="a share below 20 % of this base in a merge", detectable=False, how="below the weakest positive control"),
    Power(transformation="distillation", detectable=False, how="leaves no trace in weights; behaviour can hint at it"),
    Power(
        transformation="training from the same initialisation",
        detectable=False,
        how="keeps units in their order as derivation does: these tests do not tell the two apart",
    ),
)


def kinds_of(
    left: Checkpoint,
    right: Checkpoint,
    alignment: Alignment,
    differences: Sequence[TensorDifference],
    examined: Sequence[BlockTests],
    relation: Relation,
    alpha: float,
) -> tuple[str, ...]:
    """The transformations that show, in a fixed order."""
    explained = {item.explanation for item in differences}
    methods = {method for item in examined if item.fired(alpha) for method in fired_methods(item, alpha)}
    related = relation in (Relation.IDENTICAL, Relation.SAME_WEIGHTS, Relation.DERIVED)
    signs = {
        "cast": related and (("cast" in explained and relation is Relation.SAME_WEIGHTS) or _narrowed(left, right, alignment)),
        "renamed": related and alignment.renamed,
        "permuted": related and ("permuted" in explained or methods == {tests.T2}),
        "rotated": methods == {tests.T3},
        "finetune": relation is Relation.DERIVED and tests.T1 in methods,
        "layers-removed": related and bool(_layers(alignment.only_right) - _layers(left.tensors)),
        "layers-added": related and bool(_layers(alignment.only_left) - _layers(right.tensors)),
        "partial": relation is Relation.DERIVED and not all(item.fired(alpha) for item in examined),
    }
    return tuple(kind for kind, shown in signs.items() if shown)


def fired_methods(item: BlockTests, alpha: float) -> tuple[str, ...]:
    """The tests that refute independence on a block after correction."""
    return tuple(result.method for result in item.results if result.log10_p_adjusted <= log10(alpha))


def layer_results(examined: Sequence[BlockTests], differences: Sequence[TensorDifference], alpha: float) -> tuple[LayerResult, ...]:
    """One result a layer: from the tests where they ran, from the exact difference where every tensor is explained by it."""
    if not examined:
        return _explained_layers(differences)
    threshold = control_threshold(examined, alpha)
    return tuple(
        LayerResult(
            name=item.block.layer,
            matched=item.block.matched,
            relation=_layer_relation(item, alpha, threshold).value,
            score=item.score,
            log10_p=item.best.log10_p_adjusted,
        )
        for item in examined
    )


def _layer_relation(item: BlockTests, alpha: float, threshold: float) -> Relation:
    if item.fired(alpha):
        return Relation.DERIVED
    return Relation.UNRELATED if item.could_speak(threshold) else Relation.INCONCLUSIVE


def _explained_layers(differences: Sequence[TensorDifference]) -> tuple[LayerResult, ...]:
    layers: dict[str, list[TensorDifference]] = {}
    for item in differences:
        if layer_of(item.name) != item.name:
            layers.setdefault(layer_of(item.name), []).append(item)
    results = []
    for layer, items in layers.items():
        same = all(item.explanation == "identical" for item in items)
        relation = Relation.IDENTICAL if same else Relation.SAME_WEIGHTS
        results.append(LayerResult(name=layer, matched=layer_of(items[0].matched), relation=relation.value, score=1.0, log10_p=0.0))
    return tuple(results)


def explained_share(
    left: Checkpoint,
    differences: Sequence[TensorDifference],
    examined: Sequence[BlockTests],
    relation: Relation,
    embeddings: NullTest | None,
    alpha: float,
) -> float:
    """Share of the left checkpoint's parameters that equal or re-encoded tensors, or layers with a proven relation, account for."""
    if relation in (Relation.IDENTICAL, Relation.SAME_WEIGHTS):
        return 1.0
    lossless = {item.name for item in differences if item.explanation != "changed"}
    layers = {item.block.layer for item in examined if item.fired(alpha)}
    table = embeddings.block if embeddings and embeddings.log10_p <= log10(alpha) else None
    counted = (info.entries for name, info in left.tensors.items() if name in lossless or layer_of(name) in layers or name == table)
    return sum(counted) / max(1, parameters(left))


def power_of(examined: Sequence[BlockTests], alpha: float, veto: float | None) -> tuple[Power, ...]:
    """What the tests could have seen: the positive controls that were made, then what they are known to be blind to."""
    controlled = [item for item in examined if item.controls]
    threshold = control_threshold(examined, alpha)
    names = controlled[0].controls if controlled else ()
    seen = []
    for name in names:
        weakest = {method: max(item.controls[name][method] for item in controlled) for method in (tests.T1, tests.T3)}
        values = f"p at most 10^{weakest[tests.T1]:.0f} (T1) and 10^{weakest[tests.T3]:.0f} (T3)"
        how = f"on {len(controlled)} blocks of the base itself: {values}"
        seen.append(Power(transformation=f"{name} copy of the base", detectable=max(weakest.values()) <= threshold, how=how))
    how = "not looked for" if veto is None else f"T4: {veto:.1%} of units agree; descriptive, has no exact null"
    full = Power(transformation="units permuted and residual stream rotated at once", detectable=False, how=how)
    return (*seen, full, *BLIND)


def summarise(left: Checkpoint, alignment: Alignment, differences: Sequence[TensorDifference]) -> DifferenceSummary:
    """The exact difference in counts, with the tensors that changed most (relative L2)."""
    changed = [item for item in differences if item.explanation == "changed"]
    return DifferenceSummary(
        tensors=len(left.tensors),
        identical=sum(item.explanation == "identical" for item in differences),
        explained=sum(item.explanation in ("cast", "permuted") for item in differences),
        changed=len(changed),
        only_left=alignment.only_left[:NAMED],
        only_right=alignment.only_right[:NAMED],
        largest=tuple(sorted(changed, key=lambda item: (-item.relative, item.name))[:MOST_CHANGED]),
        parameters=parameters(left),
        parameters_equal=sum(item.equal for item in differences),
    )


def _narrowed(left: Checkpoint, right: Checkpoint, alignment: Alignment) -> bool:
    """Whether some tensor is stored with less precision than its partner."""
    kinds = ((left.tensors[ours].dtype, right.tensors[theirs].dtype) for ours, theirs in alignment.pairs)
    return any(PRECISION.get(ours, 0) < PRECISION.get(theirs, 0) for ours, theirs in kinds)


def _layers(names: Iterable[str]) -> set[str]:
    return {layer_of(name) for name in names if layer_of(name) != name}
