"""A pair of checkpoints in memory, with what the comparison knows of it before kinds are looked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10

import numpy as np
from numpy.typing import NDArray

from modelguard.correspondence.alignment import align
from modelguard.fingerprint.blocks import find_blocks
from modelguard.fingerprint.difference import difference
from modelguard.fingerprint.kinds.pair import LOSSLESS, Pair
from modelguard.fingerprint.kinds.recognition import recognise
from modelguard.fingerprint.layers import find_moved
from modelguard.fingerprint.permutation import explain
from modelguard.fingerprint.relation import BlockTests, examine_blocks, relation_of
from modelguard.fingerprint.weight_tests import T1, T3
from modelguard.types.weights import KindDetail, Relation
from tests.fingerprint.zoo import Arrays

ALPHA = 1e-9
Weights = Mapping[str, NDArray[np.generic]]


def pair_of(left: Weights, right: Weights, candidates: Sequence[Weights] = (), relation: Relation | None = None) -> Pair:
    """The pair with its exact difference, its tests and the relation that they give; without the tests where a relation is imposed."""
    ours, theirs = Arrays(left, "left"), Arrays(right, "right")
    alignment = align(ours, theirs, by_content=True)
    differences = explain(ours, theirs, difference(ours, theirs, alignment))
    same = not (alignment.only_left or alignment.only_right) and all(item.explanation in LOSSLESS for item in differences)
    examined: tuple[BlockTests, ...] = ()
    if not same and relation is None:
        blocks = find_blocks(ours, theirs, alignment)
        examined = examine_blocks(ours, theirs, blocks, ALPHA)
        moved = find_moved(ours, theirs, [item.block for item in examined if not _in_place(item)], ALPHA)
        examined = examine_blocks(ours, theirs, [moved.get(block.layer, block) for block in blocks], ALPHA) if moved else examined
    found = Relation.SAME_WEIGHTS if same else relation_of(examined, ALPHA, "")[0]
    return Pair(
        left=ours,
        right=theirs,
        alignment=alignment,
        differences=differences,
        relation=relation or found,
        examined=examined,
        alpha=ALPHA,
        candidates=tuple(Arrays(weights, f"candidate {number}") for number, weights in enumerate(candidates)),
    )


def _in_place(item: BlockTests) -> bool:
    """Whether units show the parent: layers of one model share the axes of its stream, so T2 speaks on layers that moved as well."""
    return any(result.method in (T1, T3) and result.log10_p_adjusted <= log10(ALPHA) for result in item.results)


def details(left: Weights, right: Weights, *candidates: Weights, relation: Relation | None = None) -> dict[str, KindDetail]:
    """The kinds that a pair shows, by name."""
    return {detail.kind: detail for detail in recognise(pair_of(left, right, candidates, relation))}
