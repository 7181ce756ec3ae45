"""What the tests and the exact difference come to in the terms of the `compare` contract: kinds, layers, power, shares."""

from __future__ import annotations

from collections.abc import Sequence

from modelguard.checkpoints.base import Checkpoint, parameters
from modelguard.correspondence.alignment import Alignment
from modelguard.fingerprint import weight_tests as tests
from modelguard.fingerprint.blocks import layer_of
from modelguard.fingerprint.buffers import is_buffer, says_nothing
from modelguard.fingerprint.disguise import Agreement
from modelguard.fingerprint.examination import LEAST_CONTROLS, Examination
from modelguard.fingerprint.relation import MIN_DERIVED, BlockTests, control_threshold
from modelguard.types.weights import DifferenceSummary, LayerResult, Power, Relation, TensorDifference

MOST_CHANGED = 12
NAMED = 20
BLIND = (
    Power(transformation="a share below 20 % of this base in a merge", detectable=False, how="below the weakest positive control"),
    Power(transformation="distillation", detectable=False, how="leaves no trace in weights; behaviour can hint at it"),
)


def layer_results(found: Examination, differences: Sequence[TensorDifference], alpha: float) -> tuple[LayerResult, ...]:
    """One result a layer: from the tests where they ran, from the exact difference where every tensor is explained by it."""
    if not found.examined:
        return _explained_layers(differences)
    threshold = control_threshold(found.examined, alpha)
    return tuple(
        LayerResult(
            name=item.block.layer,
            matched=item.block.matched,
            relation=_layer_relation(item, found, alpha, threshold).value,
            score=item.score,
            log10_p=item.best.log10_p_adjusted,
        )
        for item in found.examined
    )


def _layer_relation(item: BlockTests, found: Examination, alpha: float, threshold: float) -> Relation:
    """A layer carries what the whole was found to carry, or nothing; it denies nothing where a full disguise is possible."""
    if item.fired(alpha) or item.block.layer in found.shared:
        alone = sum(other.fired(alpha) for other in found.examined) < MIN_DERIVED  # too few layers for the whole, enough for itself
        return Relation.DERIVED if alone and found.relation is not Relation.SHARED_INITIALISATION else found.relation
    if found.disguise_possible or not item.could_speak(threshold):
        return Relation.INCONCLUSIVE
    return Relation.UNRELATED


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


def explained_share(left: Checkpoint, differences: Sequence[TensorDifference], found: Examination, alpha: float) -> float:
    """Share of the left checkpoint's parameters that equal or re-encoded tensors, or layers with a proven relation, account for."""
    if found.relation in (Relation.IDENTICAL, Relation.SAME_WEIGHTS):
        return 1.0
    lossless = {item.name for item in differences if item.explanation != "changed" and not says_nothing(left, item.name)}
    carried = {item.block.layer for item in found.examined if item.fired(alpha)} | found.shared
    used = {name: info for name, info in left.tensors.items() if not is_buffer(left, name)}
    counted = (info.entries for name, info in used.items() if name in lossless or name in carried or layer_of(name) in carried)
    return sum(counted) / max(1, sum(info.entries for info in used.values()))


def power_of(found: Examination, alpha: float) -> tuple[Power, ...]:
    """What the tests could have seen: the positive controls that were made, then what they are known to be blind to."""
    controlled = [item for item in found.examined if item.controls]
    threshold = control_threshold(found.examined, alpha)
    names = controlled[0].controls if controlled else ()
    seen = []
    for name in names:
        weakest = {method: max(item.controls[name][method] for item in controlled) for method in (tests.T1, tests.T3)}
        values = f"p at most 10^{weakest[tests.T1]:.0f} (T1) and 10^{weakest[tests.T3]:.0f} (T3)"
        how = f"on {len(controlled)} blocks of the base itself: {values}"
        seen.append(Power(transformation=f"{name} copy of the base", detectable=max(weakest.values()) <= threshold, how=how))
    return (*seen, _full_disguise(found.agreement), *BLIND)


def _full_disguise(agreement: Agreement | None) -> Power:
    """T4 sees a full disguise; how small its p can become depends on how many controls there are."""
    what = "units permuted and residual stream rotated at once"
    if agreement is None:
        return Power(transformation=what, detectable=False, how="not looked for")
    count = len(agreement.controls)
    controls = (
        f"{count} controls ({agreement.source}) reach {max(agreement.controls):.1%}" if count else "no controls, so without a p-value"
    )
    how = f"T4: {agreement.share:.1%} of units agree; {controls}"
    return Power(transformation=what, detectable=count >= LEAST_CONTROLS, how=how)


def summarise(left: Checkpoint, alignment: Alignment, differences: Sequence[TensorDifference]) -> DifferenceSummary:
    """The exact difference in counts, with the tensors that changed most (relative L2)."""
    changed = [item for item in differences if item.explanation == "changed"]
    return DifferenceSummary(
        tensors=len(left.tensors),
        identical=sum(item.explanation == "identical" for item in differences),
        explained=sum(item.explanation in ("cast", "permuted", "rescaled") for item in differences),
        changed=len(changed),
        only_left=alignment.only_left[:NAMED],
        only_right=alignment.only_right[:NAMED],
        largest=tuple(sorted(changed, key=lambda item: (-item.relative, item.name))[:MOST_CHANGED]),
        parameters=parameters(left),
        parameters_equal=sum(item.equal for item in differences),
    )
