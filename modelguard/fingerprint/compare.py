"""Compares two checkpoints: exact difference first, lossless explanations next, exact tests of independence last."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log10

from modelguard.checkpoints.base import Checkpoint, nbytes, parameters
from modelguard.fingerprint import disguise
from modelguard.fingerprint.alignment import Alignment, align
from modelguard.fingerprint.blocks import Block, find_blocks
from modelguard.fingerprint.buffers import is_buffer, says_nothing
from modelguard.fingerprint.chains import find_chains
from modelguard.fingerprint.difference import difference
from modelguard.fingerprint.embeddings import examine_embeddings
from modelguard.fingerprint.layers import find_added, find_moved
from modelguard.fingerprint.matching import log10_tail
from modelguard.fingerprint.meter import Metered
from modelguard.fingerprint.permutation import explain
from modelguard.fingerprint.rearrangement import Rearranged, rearranged
from modelguard.fingerprint.relation import BlockTests, examine_blocks, relation_of, spread
from modelguard.fingerprint.rescaling import explain_rescaled
from modelguard.fingerprint.weight_tests import T1, T3
from modelguard.fingerprint.wording import explained_share, kinds_of, layer_results, power_of, summarise
from modelguard.types.weights import Basis, Comparison, Cost, NullTest, Relation, Side, TensorDifference, Undecided

DEPTHS = ("header", "sample", "full")
SAMPLED_BLOCKS = 6
ALPHA = 1e-9
SUMMED = (T1, T3)  # tests whose blocks are independent of one another
LOSSLESS = ("identical", "cast", "permuted", "rescaled")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tested:
    """The relation, why it is open where it is, and what the tests gave."""

    relation: Relation
    why: str = ""
    examined: tuple[BlockTests, ...] = ()
    embeddings: NullTest | None = None
    veto: float | None = None  # the share of T4, where a full disguise was looked for


def compare(
    left: Checkpoint, right: Checkpoint, *, depth: str = "full", alpha: float = ALPHA, advance: Callable[[int], None] | None = None
) -> Comparison:
    """How `left` (the checkpoint in question) stands to `right` (the alleged parent).

    `header` looks at names and shapes only; `sample` reads the stretches that the exact tests need, of a few layers; `full` adds the
    exact difference of every tensor. `advance` is told of bytes as they are read.
    """
    started = time.monotonic()
    metered, theirs = Metered(left, advance), Metered(right, advance)
    arranged = rearranged(metered, theirs, thorough=depth == "full") if depth != "header" else Rearranged(view=metered)
    ours = arranged.view
    alignment = align(ours, theirs, by_content=depth == "full")
    differences = _explained(ours, theirs, alignment) if depth == "full" else ()
    tested = _settled(ours, theirs, alignment, differences, arranged) or _test(ours, theirs, alignment, arranged, depth, alpha)
    examined, embeddings, relation = tested.examined, tested.embeddings, tested.relation
    read, total = metered.bytes_read + theirs.bytes_read, nbytes(left) + nbytes(right)
    return Comparison(
        left=_side(left),
        right=_side(right),
        relation=relation,
        kinds=kinds_of(ours, theirs, alignment, differences, examined, relation, alpha),
        direction=_direction(differences, left, right, relation),
        basis=_basis(relation),
        log10_p=_combined(examined),
        score=_score(examined, relation),
        share_explained=explained_share(ours, differences, examined, relation, embeddings, alpha),
        power=power_of(examined, alpha, tested.veto),
        layers=layer_results(examined, differences, alpha),
        evidence=tuple(result for item in examined for result in item.results) + ((embeddings,) if embeddings else ()),
        unknown=_unknown(alignment, depth, relation, tested.why),
        difference=summarise(ours, alignment, differences) if depth == "full" else None,
        cost=Cost(bytes_read=read, bytes_total=total, seconds=time.monotonic() - started),
    )


def _explained(left: Checkpoint, right: Checkpoint, alignment: Alignment) -> tuple[TensorDifference, ...]:
    return explain_rescaled(left, right, explain(left, right, difference(left, right, alignment)))


def _settled(
    left: Checkpoint, right: Checkpoint, alignment: Alignment, differences: Sequence[TensorDifference], arranged: Rearranged
) -> _Tested | None:
    """What the bytes alone settle, or None."""
    relation = _lossless(left, right, alignment, differences)
    if relation is Relation.IDENTICAL and arranged.steps:
        relation = Relation.SAME_WEIGHTS
    return None if relation is None else _Tested(relation=relation)


def _test(left: Checkpoint, right: Checkpoint, alignment: Alignment, arranged: Rearranged, depth: str, alpha: float) -> _Tested:
    if depth == "header":
        return _Tested(relation=Relation.INCONCLUSIVE, why="only names and shapes were looked at")
    blocks = _blocks(left, right, alignment, arranged, depth)
    examined = examine_blocks(left, right, blocks, alpha)
    moved = find_moved(left, right, [item.block for item in examined if not item.fired(alpha)], alpha)
    added = find_added(left, right, blocks, alpha) if depth == "full" else {}
    if moved or added:
        examined = examine_blocks(left, right, [*(moved.get(block.layer, block) for block in blocks), *added.values()], alpha)
    relation, why, veto = _judge(left, right, alignment, examined, alpha)
    embeddings = examine_embeddings(left, right, alignment, alpha)
    if relation is Relation.UNRELATED and embeddings is not None and embeddings.log10_p <= log10(alpha):
        relation, why = Relation.INCONCLUSIVE, "the token embeddings are shared, and no layer shows anything"
    return _Tested(relation=relation, why=why, examined=examined, embeddings=embeddings, veto=veto)


def _blocks(left: Checkpoint, right: Checkpoint, alignment: Alignment, arranged: Rearranged, depth: str) -> tuple[Block, ...]:
    found = find_blocks(left, right, alignment) or find_chains(left, right, alignment)
    blocks = tuple(
        replace(block, named=block.named and not arranged.guessed, candidates=block.candidates * arranged.choices.get(block.left, 1))
        for block in found
    )
    return tuple(blocks[place] for place in spread(range(len(blocks)), SAMPLED_BLOCKS)) if depth == "sample" else blocks


def _lossless(left: Checkpoint, right: Checkpoint, alignment: Alignment, differences: Sequence[TensorDifference]) -> Relation | None:
    """The relation that equal or provably re-encoded tensors give, or None. Buffers that every model of a kind shares prove nothing."""
    sides = ((left, alignment.only_left), (right, alignment.only_right))
    strays = [name for side, names in sides for name in names if not says_nothing(side, name)]
    weights = [item for item in differences if item.entries and not _proves_nothing(left, item)]
    if strays or not weights or any(item.explanation not in LOSSLESS for item in weights):
        return None
    plain = all(item.explanation == "identical" for item in differences) and not alignment.renamed
    return Relation.IDENTICAL if plain and not (alignment.only_left or alignment.only_right) else Relation.SAME_WEIGHTS


def _proves_nothing(left: Checkpoint, item: TensorDifference) -> bool:
    return is_buffer(left, item.name) or (item.explanation in LOSSLESS and says_nothing(left, item.name))


def _judge(
    left: Checkpoint, right: Checkpoint, alignment: Alignment, examined: Sequence[BlockTests], alpha: float
) -> tuple[Relation, str, float | None]:
    """The relation that the tests give; before one is denied, a full disguise is looked for. (relation, why not decided, T4 share)"""
    relation, why = relation_of(examined, alpha, "")
    if relation is not Relation.UNRELATED:
        return relation, why, None
    share = disguise.look(left, right, alignment, [item.block for item in examined if item.controls])
    if share is not None and share >= disguise.VETO:
        hint = f"{disguise.METHOD}: {share:.0%} of units find one partner by input and output, so a full disguise is possible"
        return *relation_of(examined, alpha, hint), share
    return relation, why, share


def _side(checkpoint: Checkpoint) -> Side:
    return Side(ref=checkpoint.ref, digest=checkpoint.digest, parameters=parameters(checkpoint))


def _basis(relation: Relation) -> Basis:
    if relation in (Relation.IDENTICAL, Relation.SAME_WEIGHTS):
        return Basis.BYTES
    return Basis.NONE if relation is Relation.INCONCLUSIVE else Basis.EXACT


def _combined(examined: Sequence[BlockTests]) -> float:
    """log10 of the best valid bound: the strongest block after correction, or all blocks of T1 or of T3 together (L^k / k!).

    Only blocks that their number paired are added up, and not T2's: layers share the axes of one residual stream.
    """
    values = [item.best.log10_p_adjusted for item in examined]
    for method in SUMMED:
        fixed = [result.statistic for item in examined if item.block.candidates == 1 for result in item.results if result.method == method]
        values.append(log10_tail(int(sum(fixed)), max(1, len(fixed))) + log10(len(SUMMED) + 1))
    return min(0.0, min(values, default=0.0))


def _score(examined: Sequence[BlockTests], relation: Relation) -> float:
    """Share of tested units or axes at their own place, by the best test of each block, over blocks."""
    if relation in (Relation.IDENTICAL, Relation.SAME_WEIGHTS):
        return 1.0
    shares = [item.score for item in examined]
    return sum(shares) / len(shares) if shares else 0.0


def _direction(differences: Sequence[TensorDifference], left: Checkpoint, right: Checkpoint, relation: Relation) -> str:
    """A rounding shows which side is the rounded one; nothing else here tells parent from child."""
    if relation is not Relation.SAME_WEIGHTS or not any(item.explanation == "cast" for item in differences):
        return "unknown"
    narrower = nbytes(left) < nbytes(right)
    return "left-from-right" if narrower else "right-from-left"


def _unknown(alignment: Alignment, depth: str, relation: Relation, why: str) -> tuple[Undecided, ...]:
    items = [Undecided(what="relation", why=why)] if relation is Relation.INCONCLUSIVE else []
    if depth != "full":
        items.append(Undecided(what="exact difference", why=f"depth is {depth}"))
    if alignment.only_left:
        strays = f"{len(alignment.only_left)} tensors of the left checkpoint"
        items.append(Undecided(what=strays, why="nothing of that name and shape on the right"))
    return tuple(items)
