"""What the tests make of two checkpoints that are not equal: which are run, in which order, and which relation they add up to.

Exact tests first, layer by layer. Where they refute independence, it is asked whether what training made is shared, or only the random
start. Where they are silent, nothing is denied before a full disguise, other widths, experts, gains and token tables were looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log10

from modelguard.checkpoints.base import Checkpoint
from modelguard.correspondence.alignment import Alignment
from modelguard.correspondence.rearrangement import Rearranged
from modelguard.fingerprint import chains, disguise, initialisation
from modelguard.fingerprint.adapters import relation_of_adapters
from modelguard.fingerprint.blocks import Block, find_blocks
from modelguard.fingerprint.disguise import Agreement
from modelguard.fingerprint.embeddings import examine_embeddings
from modelguard.fingerprint.gains import t0
from modelguard.fingerprint.initialisation import Origin
from modelguard.fingerprint.layers import find_added, find_moved
from modelguard.fingerprint.relation import MIN_DERIVED, BlockTests, examine_blocks, holm, relation_of, spread
from modelguard.fingerprint.upcycling import examine_upcycling
from modelguard.fingerprint.weight_tests import T1, T3
from modelguard.fingerprint.widths import examine_widths, uneven_layers
from modelguard.types.weights import Basis, KindDetail, NullTest, Relation

SAMPLED_BLOCKS = 6
LEAST_CONTROLS = disguise.ENOUGH  # a conformal p can then be as small as one in ten; what carries the answer is the margin
NEAR = 0.1  # relative distance below which a child is told from a sibling without knowing what training made


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Two checkpoints, how their tensors pair up, and what may be read and claimed."""

    left: Checkpoint
    right: Checkpoint
    alignment: Alignment
    arranged: Rearranged
    depth: str
    alpha: float
    controls: Sequence[Checkpoint] = ()

    @property
    def sides(self) -> tuple[Checkpoint, Checkpoint, Alignment]:
        return self.left, self.right, self.alignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """The relation, what it rests on, why it is open where it is, and what the tests gave."""

    relation: Relation
    basis: Basis = Basis.NONE
    why: str = ""
    examined: tuple[BlockTests, ...] = ()
    wider: tuple[NullTest, ...] = ()  # of the whole model, or of pairs of layers that are no blocks
    shared: frozenset[str] = frozenset()  # tensors and layers beyond the blocks that carry the other side
    agreement: Agreement | None = None
    details: tuple[KindDetail, ...] = ()

    @property
    def evidence(self) -> tuple[NullTest, ...]:
        """Every result, block by block and then of the whole."""
        return tuple(result for item in self.examined for result in item.results) + self.wider

    @property
    def disguise_possible(self) -> bool:
        return self.agreement is not None and self.agreement.share >= disguise.VETO


def examine(question: Question) -> Examination:
    """Runs the tests that apply."""
    adapters = relation_of_adapters(question.left, question.right, question.alpha)
    if adapters is not None:
        detail = KindDetail(kind="adapter", text=adapters.why)
        basis = Basis.NONE if adapters.relation is Relation.INCONCLUSIVE else Basis.EXACT
        return Examination(relation=adapters.relation, basis=basis, why=adapters.why, wider=adapters.tests, details=(detail,))
    if question.depth == "header":
        return Examination(relation=Relation.INCONCLUSIVE, why="only names and shapes were looked at")
    examined = _in_place(question)
    relation, why = relation_of(examined, question.alpha, "")
    found = Examination(relation=relation, why=why, examined=examined)
    if relation is Relation.DERIVED:
        return _descent(question, found)
    uneven = _uneven(question, found)
    return uneven if uneven.relation is Relation.DERIVED else _undisguised(question, uneven)


def _in_place(question: Question) -> tuple[BlockTests, ...]:
    """The tests of every block, blocks that belong to another layer paired anew. T2 alone does not hold a layer in its place.

    All layers share the axes of one residual stream, so T2 speaks on a layer that stands beside another one of the same parent.
    """
    left, right, alpha = question.left, question.right, question.alpha
    blocks = _blocks(question)
    examined = examine_blocks(left, right, blocks, alpha)
    loose = [item.block for item in examined if not {T1, T3} & _methods(item, alpha)]
    moved = find_moved(left, right, loose, alpha)
    added = find_added(left, right, blocks, alpha) if question.depth == "full" else {}
    if not moved and not added:
        return examined
    return examine_blocks(left, right, [*(moved.get(block.layer, block) for block in blocks), *added.values()], alpha)


def _blocks(question: Question) -> tuple[Block, ...]:
    found = find_blocks(*question.sides) or chains.find_chains(*question.sides)
    arranged = question.arranged
    blocks = tuple(
        replace(block, named=block.named and not arranged.guessed, candidates=block.candidates * arranged.choices.get(block.left, 1))
        for block in found
    )
    return tuple(blocks[place] for place in spread(range(len(blocks)), SAMPLED_BLOCKS)) if question.depth == "sample" else blocks


def _methods(item: BlockTests, alpha: float) -> set[str]:
    return {result.method for result in item.results if result.log10_p_adjusted <= log10(alpha)}


def _descent(question: Question, found: Examination) -> Examination:
    """Two models of one origin: whether the left holds what training made in the right, or only its random start."""
    fired = [item.block for item in found.examined if item.fired(question.alpha)]
    plain = [item.block for item in found.examined if T1 in _methods(item, question.alpha)]
    agreement = None
    if 2 * len(plain) >= len(fired):
        origin = initialisation.origin(*question.sides, plain)
    else:  # units or axes stand in another order: those that T4 matches are compared
        agreement = disguise.examine(*question.sides)
        origin = initialisation.judged(agreement.aligned if agreement else ())
    near = bool(plain) and initialisation.distance(question.left, question.right, plain) <= NEAR
    relation, why = _told(origin, near)
    upcycled = examine_upcycling(question.left, question.right, question.alpha)
    wider = (*_tables(question), *holm(list(upcycled.results)), origin.evidence)
    return replace(
        found,
        relation=relation,
        basis=Basis.NONE if relation is Relation.INCONCLUSIVE else Basis.EXACT,
        why=why,
        wider=wider,
        shared=_shared(wider, question.alpha),
        agreement=agreement,
        details=(upcycled.kind,) if upcycled.kind and relation is Relation.DERIVED else (),
    )


def _told(origin: Origin, near: bool) -> tuple[Relation, str]:
    if origin.relation is Relation.DERIVED or (near and origin.relation is Relation.INCONCLUSIVE):
        return Relation.DERIVED, ""
    if origin.relation is Relation.SHARED_INITIALISATION:
        return origin.relation, f"the random start is shared, what training made of it is not: {origin.note}"
    return Relation.INCONCLUSIVE, f"independence is refuted, but a common origin is not told from a common random start: {origin.note}"


def _tables(question: Question) -> tuple[NullTest, ...]:
    """T0 on gains and T2 on the token table, corrected for their being two."""
    tests = (t0(*question.sides), examine_embeddings(*question.sides, question.alpha))
    return tuple(holm([test for test in tests if test is not None]))


def _shared(tests: Sequence[NullTest], alpha: float) -> frozenset[str]:
    return frozenset(test.block for test in tests if test.block and test.log10_p_adjusted <= log10(alpha))


def _uneven(question: Question, found: Examination) -> Examination:
    """Layers of other widths, and experts that were made of dense layers: what the blocks cannot pair."""
    upcycled = examine_upcycling(question.left, question.right, question.alpha)
    uneven = examine_widths(*question.sides, uneven_layers(question.left, question.right))
    tests = tuple(holm([*upcycled.results, *uneven]))
    layers = _shared(tests, question.alpha)
    if len(layers) < MIN_DERIVED:
        return replace(found, wider=tests, shared=layers)
    details = (upcycled.kind,) if upcycled.kind else (_narrowed(layers, tests, question.alpha),)
    return replace(found, relation=Relation.DERIVED, basis=Basis.EXACT, why="", wider=tests, shared=layers, details=details)


def _narrowed(layers: frozenset[str], tests: Sequence[NullTest], alpha: float) -> KindDetail:
    strongest = min((test for test in tests if test.log10_p_adjusted <= log10(alpha)), key=lambda test: test.log10_p_adjusted)
    text = f"{len(layers)} layers hold the other side's units in another number; {strongest.note}"
    return KindDetail(kind="pruned", text=text, numbers={"layers": len(layers), "log10_p": round(strongest.log10_p_adjusted, 1)})


def _undisguised(question: Question, found: Examination) -> Examination:
    """Looks for a full disguise before anything is denied, and for gains and token tables that are shared."""
    wider = (*found.wider, *_tables(question))
    agreement = disguise.examine(*question.sides, question.controls)
    found = replace(found, wider=wider, shared=_shared(wider, question.alpha), agreement=agreement)
    if agreement is not None:
        found = replace(found, wider=(*wider, agreement.evidence))
    if agreement is not None and agreement.agrees and len(agreement.controls) >= LEAST_CONTROLS:
        return _conformal(found, agreement)
    return _withheld(question, found) if found.relation is Relation.UNRELATED else found


def _conformal(found: Examination, agreement: Agreement) -> Examination:
    origin = initialisation.judged(agreement.aligned)
    relation, why = _told(origin, near=False)
    basis = Basis.NONE if relation is Relation.INCONCLUSIVE else Basis.CONFORMAL
    carried = frozenset(item.layer for item in agreement.layers if item.share >= disguise.MARGIN)
    wider = (*found.wider, origin.evidence)
    return replace(found, relation=relation, basis=basis, why=why, wider=wider, shared=found.shared | carried)


def _withheld(question: Question, found: Examination) -> Examination:
    """The denial, or why nothing is denied although every exact test on blocks is silent."""
    why = _doubt(question, found)
    return replace(found, relation=Relation.INCONCLUSIVE, why=why) if why else replace(found, basis=Basis.EXACT)


def _doubt(question: Question, found: Examination) -> str:
    if found.shared:
        return f"{', '.join(sorted(found.shared)[:3])}: shared, and no other layer shows anything"
    if found.agreement is not None and found.disguise_possible:
        share = found.agreement.share
        return f"{disguise.METHOD}: {share:.0%} of units find one partner by input and output, so a full disguise is possible"
    if found.agreement is None and (steps := chains.walk(question.left, question.right, chains.chain(question.left, question.alignment))):
        lowest = min(step.share for step in steps)
        if lowest >= disguise.VETO:
            return f"at least {lowest:.0%} of the channels of every convolution find one partner, so a full disguise is possible"
    return ""
