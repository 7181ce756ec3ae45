"""Compares two checkpoints: exact difference first, lossless explanations next, exact tests of independence last."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import log10

from modelguard.checkpoints.base import Checkpoint, nbytes, parameters
from modelguard.correspondence.alignment import Alignment, align
from modelguard.correspondence.rearrangement import Rearranged, rearranged
from modelguard.fingerprint.buffers import is_buffer, says_nothing
from modelguard.fingerprint.difference import difference
from modelguard.fingerprint.direction import direction_of
from modelguard.fingerprint.examination import Examination, Question, examine
from modelguard.fingerprint.kinds.pair import Pair
from modelguard.fingerprint.kinds.recognition import recognise
from modelguard.fingerprint.matching import log10_tail
from modelguard.fingerprint.meter import Metered
from modelguard.fingerprint.permutation import explain
from modelguard.fingerprint.rescaling import explain_rescaled
from modelguard.fingerprint.weight_tests import T1, T3
from modelguard.fingerprint.wording import explained_share, layer_results, power_of, summarise
from modelguard.types.weights import Basis, Comparison, Cost, KindDetail, Relation, Side, TensorDifference, Undecided

ALPHA = 1e-9
SUMMED = (T1, T3)  # tests whose blocks are independent of one another
NAMING = {"renamed", "upcycled"}  # kinds that say why names differ
LOSSLESS = ("identical", "cast", "permuted", "rescaled")


def compare(
    left: Checkpoint,
    right: Checkpoint,
    *,
    depth: str = "full",
    alpha: float = ALPHA,
    controls: Sequence[Checkpoint] = (),
    candidates: Sequence[Checkpoint] = (),
    advance: Callable[[int], None] | None = None,
) -> Comparison:
    """How `left` (the checkpoint in question) stands to `right` (the alleged parent).

    `depth`: names and shapes (header), the stretches that the exact tests need (sample), or every tensor's exact difference, too (full).
    `controls` are known to be independent of both, for the test that has no exact null; `candidates` are further parents.
    """
    started = time.monotonic()
    metered, theirs = Metered(left, advance), Metered(right, advance)
    question = _question(metered, theirs, depth, alpha, controls)
    ours, alignment = question.left, question.alignment
    differences = _explained(ours, theirs, alignment) if depth == "full" else ()
    found = _settled(question, differences) or examine(question)
    details = _details(question, differences, found, candidates)
    return Comparison(
        left=_side(left),
        right=_side(right),
        relation=found.relation,
        kinds=tuple(dict.fromkeys(detail.kind for detail in details)),
        details=details,
        direction=direction_of(differences, question, found, details, candidates),
        basis=found.basis,
        log10_p=_combined(found),
        score=_score(found),
        share_explained=explained_share(ours, differences, found, alpha),
        power=power_of(found, alpha),
        layers=layer_results(found, differences, alpha),
        evidence=found.evidence,
        unknown=_unknown(alignment, depth, found),
        difference=summarise(ours, alignment, differences) if depth == "full" else None,
        cost=_cost(metered, theirs, started),
    )


def _question(left: Checkpoint, right: Checkpoint, depth: str, alpha: float, controls: Sequence[Checkpoint]) -> Question:
    """The left checkpoint in the right one's layout, and how the two pair up."""
    arranged = rearranged(left, right, thorough=depth == "full") if depth != "header" else Rearranged(view=left)
    alignment = align(arranged.view, right, by_content=depth == "full")
    return Question(
        left=arranged.view, right=right, alignment=alignment, arranged=arranged, depth=depth, alpha=alpha, controls=tuple(controls)
    )


def _cost(left: Metered, right: Metered, started: float) -> Cost:
    read, total = left.bytes_read + right.bytes_read, nbytes(left) + nbytes(right)
    return Cost(bytes_read=read, bytes_total=total, seconds=time.monotonic() - started)


def _explained(left: Checkpoint, right: Checkpoint, alignment: Alignment) -> tuple[TensorDifference, ...]:
    return explain_rescaled(left, right, explain(left, right, difference(left, right, alignment)))


def _settled(question: Question, differences: Sequence[TensorDifference]) -> Examination | None:
    """What the bytes alone settle, or None."""
    relation = _lossless(question.left, question.right, question.alignment, differences)
    if relation is Relation.IDENTICAL and question.arranged.steps:
        relation = Relation.SAME_WEIGHTS
    return None if relation is None else Examination(relation=relation, basis=Basis.BYTES)


def _details(
    question: Question, differences: Sequence[TensorDifference], found: Examination, candidates: Sequence[Checkpoint]
) -> tuple[KindDetail, ...]:
    """The kinds that the weights show, those that the tests themselves gave among them."""
    pair = Pair(
        left=question.left,
        right=question.right,
        alignment=question.alignment,
        differences=tuple(differences),
        relation=found.relation,
        examined=found.examined,
        alpha=question.alpha,
        candidates=tuple(candidates),
    )
    shown = (*recognise(pair), *found.details)
    if (
        question.arranged.steps
        and found.relation in (Relation.SAME_WEIGHTS, Relation.DERIVED)
        and not NAMING & {detail.kind for detail in shown}
    ):
        shown = (*shown, KindDetail(kind="renamed", text=f"in another layout: {', '.join(question.arranged.steps)}"))
    return shown


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


def _side(checkpoint: Checkpoint) -> Side:
    return Side(ref=checkpoint.ref, digest=checkpoint.digest, parameters=parameters(checkpoint))


def _combined(found: Examination) -> float:
    """log10 of the best valid bound: the strongest test after correction, or all blocks of T1 or of T3 together (L^k / k!).

    Only blocks that their number paired are added up, and not T2's: layers share the axes of one residual stream.
    """
    values = [item.best.log10_p_adjusted for item in found.examined] + [test.log10_p_adjusted for test in found.wider]
    for method in SUMMED:
        fixed = [
            result.statistic for item in found.examined if item.block.candidates == 1 for result in item.results if result.method == method
        ]
        values.append(log10_tail(int(sum(fixed)), max(1, len(fixed))) + log10(len(SUMMED) + 1))
    return min(0.0, min(values, default=0.0))


def _score(found: Examination) -> float:
    """Share of tested units or axes at their own place, by the best test of each block, over blocks; of T4 where that decided."""
    if found.relation in (Relation.IDENTICAL, Relation.SAME_WEIGHTS):
        return 1.0
    if found.basis is Basis.CONFORMAL and found.agreement is not None:
        return found.agreement.share
    shares = [item.score for item in found.examined]
    return sum(shares) / len(shares) if shares else 0.0


def _unknown(alignment: Alignment, depth: str, found: Examination) -> tuple[Undecided, ...]:
    items = [Undecided(what="relation", why=found.why)] if found.why else []
    if depth != "full":
        items.append(Undecided(what="exact difference", why=f"depth is {depth}"))
    if alignment.only_left:
        strays = f"{len(alignment.only_left)} tensors of the left checkpoint"
        items.append(Undecided(what=strays, why="nothing of that name and shape on the right"))
    return tuple(items)
