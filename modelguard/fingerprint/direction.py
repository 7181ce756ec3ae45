"""Who came first, as far as weights tell: seldom. A symmetric test shows a relation and not its direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from modelguard.checkpoints.base import Checkpoint, nbytes
from modelguard.fingerprint.blocks import Block
from modelguard.fingerprint.examination import Examination, Question
from modelguard.fingerprint.initialisation import distance
from modelguard.types.weights import KindDetail, Relation, TensorDifference

APART = 0.95  # of the distance between two children: their ancestor is nearer to each, by about 1 / sqrt 2 where they moved alike
ONE_WAY = ("quantized", "pruned", "cast")  # what is lost is lost on the side of the child


def direction_of(
    differences: Sequence[TensorDifference],
    question: Question,
    found: Examination,
    details: Sequence[KindDetail],
    candidates: Sequence[Checkpoint],
) -> str:
    """A rounding or a pruning shows which side lost something, a third model that both come from it; nothing else tells who came first."""
    if found.relation is Relation.SHARED_INITIALISATION:
        return "common-ancestor"
    if found.relation is Relation.DERIVED:
        lost = any(detail.kind in ONE_WAY for detail in details)
        blocks = [item.block for item in found.examined if item.fired(question.alpha)]
        return "left-from-right" if lost else _by_ancestor(question, blocks, candidates)
    if found.relation is not Relation.SAME_WEIGHTS or not any(item.explanation == "cast" for item in differences):
        return "unknown"
    narrower = nbytes(question.left) < nbytes(question.right)
    return "left-from-right" if narrower else "right-from-left"


def _by_ancestor(question: Question, blocks: Sequence[Block], candidates: Sequence[Checkpoint]) -> str:
    """Whether some candidate is an ancestor of both: both lie nearer to it than to one another, in directions of their own."""
    between = distance(question.left, question.right, blocks)
    for candidate in candidates:
        if all(
            block.right in candidate.tensors and candidate.tensors[block.right].shape == question.right.tensors[block.right].shape
            for block in blocks
        ):
            to_right = distance(candidate, question.right, [replace(block, left=block.right) for block in blocks])
            to_left = distance(question.left, candidate, blocks)
            if 0 < max(to_left, to_right) < APART * between:
                return "common-ancestor"
    return "unknown"
