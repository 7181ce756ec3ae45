"""Two fingerprints held against each other: what `compare` says where the weights of one side are not at hand.

Only a relation can be shown. Sketches hold no rows to make positive controls from, so a silent test denies nothing.
"""

from __future__ import annotations

import time
from math import log10

from modelguard.fingerprint.weight_tests import ASSUMPTION, T1
from modelguard.sketches.kinship import SAME
from modelguard.sketches.search import Scores, adjusted, comparable, correlation, distance, hit, score
from modelguard.types.registry import Entry, Fingerprint
from modelguard.types.weights import Basis, Comparison, Cost, LayerResult, NullTest, Power, Relation, Side, Undecided

T0 = "t0-gain-fixed-points-v1"
SILENT = "the sketches show no relation, and sketches alone deny none"
AXES_EXCHANGEABLE = "independent initialisation; axes of the residual stream exchangeable under training"


def compare_sketches(left: Fingerprint, right: Fingerprint, names: tuple[str, str], *, alpha: float, bytes_read: int = 0) -> Comparison:
    """How the left fingerprint's model stands to the right one's, by T1 and T0 on sketches. `names` is what the two are called."""
    started = time.monotonic()
    items = list(score(left, [Entry(name=names[1], fingerprint=right)]))
    related = bool(items) and hit(left, items[0], adjusted(items)[0], alpha) is not None
    same = left.digest is not None and left.digest == right.digest
    relation = Relation.IDENTICAL if same else Relation.DERIVED if related else Relation.INCONCLUSIVE
    evidence = _evidence(left, right, items[0]) if items else ()
    return Comparison(
        left=Side(ref=names[0], digest=left.digest, parameters=left.parameters),
        right=Side(ref=names[1], digest=right.digest, parameters=right.parameters),
        relation=relation,
        kinds=(),
        direction="unknown",
        basis=Basis.BYTES if same else Basis.EXACT if related else Basis.NONE,
        log10_p=min((test.log10_p_adjusted for test in evidence), default=0.0),
        score=sum(items[0].fixed) / max(1, sum(block.rows for block in left.blocks)) if items else 0.0,
        share_explained=1.0 if same else 0.0,
        power=_power(left, right, items),
        layers=_layers(left, items[0], evidence, alpha) if items else (),
        evidence=evidence,
        unknown=_unknown(left, right, relation),
        difference=None,
        cost=Cost(bytes_read=bytes_read, bytes_total=bytes_read, seconds=time.monotonic() - started),
    )


def _evidence(left: Fingerprint, right: Fingerprint, item: Scores) -> tuple[NullTest, ...]:
    p = adjusted([item])[0]
    by_layer = [
        NullTest(
            method=f"{T1} on sketches",
            block=block.layer,
            statistic=float(item.fixed[place]),
            n=block.rows,
            log10_p=float(item.log10_p[place]),
            log10_p_adjusted=float(p[place]),
            null=ASSUMPTION[T1],
            note=f"{item.fixed[place]} of {block.rows} at their own place, 1 expected by chance; the best of {item.choices} layers",
        )
        for place, block in enumerate(left.blocks)
    ]
    if left.norms and (left.axes, left.norms) == (right.axes, right.norms):
        raw, corrected = float(item.log10_p[-1]), float(p[-1])
        gains = NullTest(method=T0, block="", statistic=0.0, n=left.axes, log10_p=raw, log10_p_adjusted=corrected, null=AXES_EXCHANGEABLE)
        return (*by_layer, gains)
    return tuple(by_layer)


def _layers(left: Fingerprint, item: Scores, evidence: tuple[NullTest, ...], alpha: float) -> tuple[LayerResult, ...]:
    partners = [item.entry.fingerprint.blocks[place] for place in item.partner]
    return tuple(
        LayerResult(
            name=block.layer,
            matched=partner.layer,
            relation=(Relation.DERIVED if test.log10_p_adjusted <= log10(alpha) else Relation.INCONCLUSIVE).value,
            score=test.statistic / test.n,
            log10_p=test.log10_p_adjusted,
        )
        for block, partner, test in zip(left.blocks, partners, evidence, strict=False)
    )


def _power(left: Fingerprint, right: Fingerprint, items: list[Scores]) -> tuple[Power, ...]:
    gram = correlation(left, right)
    how = "no token embeddings to go by" if gram is None else f"cosines between token embeddings correlate by {gram:.2f}; no exact null"
    apart = distance(left, items[0]) if items else None
    same = ": the same weights or nearly" if apart is not None and apart < SAME else ""
    near = "" if apart is None else f"relative distance of the sketches {apart:.3g}" + same
    return (
        Power(transformation="units permuted or residual stream rotated", detectable=False, how=how),
        Power(transformation="training from the same initialisation", detectable=False, how=near or "not told from derivation by a sketch"),
    )


def _unknown(left: Fingerprint, right: Fingerprint, relation: Relation) -> tuple[Undecided, ...]:
    items = [Undecided(what="exact difference", why="one side is a fingerprint without weights")]
    if relation is not Relation.INCONCLUSIVE:
        return tuple(items)
    why = SILENT
    if left.method != right.method:
        why = "the fingerprints were made by different methods or under different secrets, and do not compare"
    elif not comparable(left, right):
        why = "no layer has a matrix of hidden units of the same shape on both sides"
    return (Undecided(what="relation", why=why), *items)
