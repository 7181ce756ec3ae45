"""The rule on undeclared bases: what it calls a parent, and what it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelguard.checks.weights_undeclared_base import check
from modelguard.types.changes import BaseReference, Declaration
from modelguard.types.findings import Claim, Level, Missing, Status
from modelguard.types.registry import Candidate, Hit, Kinship, Search
from modelguard.types.weights import Basis, Comparison, Cost, Relation, Side

HIT = Hit(name="lab/x", log10_p=-80.0, fired=6, blocks=6, fixed=380, rows=384, log10_p_gains=0.0, distance=0.2, gram=0.95)
COST = Cost(bytes_read=0, bytes_total=0, seconds=0.0)
DECLARED = Declaration(bases=(BaseReference(name="lab/base", revision=None, source="README.md"),), relation="finetune", source="README.md")
NONE_DECLARED = Declaration(bases=(), relation=None, source="README.md")
ABSENT = Missing("no base model is declared")


def compared(relation: Relation) -> Comparison:
    side = Side(ref="x", digest=None, parameters=1)
    shown = {"log10_p": 0.0, "score": 0.0, "share_explained": 0.0, "direction": "unknown", "basis": Basis.NONE}
    nothing: dict[str, tuple[()]] = dict.fromkeys(("kinds", "power", "layers", "evidence", "unknown"), ())
    return Comparison(left=side, right=side, relation=relation, difference=None, cost=COST, **shown, **nothing)  # type: ignore[arg-type]


def known(*hits: Hit, candidates: tuple[Candidate, ...] = (), searched: int = 9, skipped: int = 0, carried: int = 0) -> Kinship:
    found = Search(method="m", registry="r", searched=searched, skipped=skipped, hits=hits, candidates=candidates, cost=COST)
    return Kinship(search=found, declared=1, carried=carried, bases=("lab/base",))


def claim(kinship: Kinship, weights: Comparison | Missing = ABSENT, declaration: Declaration = NONE_DECLARED) -> Claim:
    claims = list(check(kinship, weights, declaration))
    assert len(claims) == 1
    return claims[0]


UNDECLARED = replace(HIT, standing="undeclared")


@pytest.mark.parametrize(
    ("weights", "declaration", "status"),
    [
        (ABSENT, NONE_DECLARED, Status.FOUND),
        (compared(Relation.UNRELATED), DECLARED, Status.FOUND),
        (compared(Relation.INCONCLUSIVE), DECLARED, Status.UNKNOWN),
        (Missing("the hub is not reached"), DECLARED, Status.UNKNOWN),
        (compared(Relation.DERIVED), DECLARED, Status.OK),
    ],
)
def test_high_only_where_the_declared_base_is_refuted_or_absent(
    weights: Comparison | Missing, declaration: Declaration, status: Status
) -> None:
    made = claim(known(UNDECLARED), weights, declaration)
    assert made.status is status
    assert made.severity is (Level.HIGH if status is Status.FOUND else Level.INFO)


def test_confidence_comes_from_reading_the_weights() -> None:
    assert claim(known(UNDECLARED)).confidence is Level.MEDIUM
    assert claim(known(replace(UNDECLARED, confirmed="derived"))).confidence is Level.HIGH
    assert claim(known(replace(UNDECLARED, confirmed="unrelated"))).status is Status.OK
    assert claim(known(replace(UNDECLARED, confirmed="shared-initialisation"))).status is Status.OK


def test_a_common_initialisation_is_not_told_from_a_parent() -> None:
    assert claim(known(replace(UNDECLARED, gram=0.17))).status is Status.UNKNOWN
    assert claim(known(replace(UNDECLARED, gram=None))).status is Status.FOUND
    assert claim(known(replace(UNDECLARED, gram=0.17, confirmed="derived"))).status is Status.FOUND


def test_a_second_parent_and_one_in_between_do_not_block_by_default() -> None:
    second = claim(known(replace(HIT, standing="second", share=0.2), carried=1), compared(Relation.DERIVED), DECLARED)
    assert (second.status, second.severity, "about 20%" in second.text) == (Status.FOUND, Level.MEDIUM, True)
    between = replace(HIT, standing="between", carried=0.97, explained=0.4, band=0.1, controls=4)
    made = claim(known(between, carried=1), compared(Relation.DERIVED), DECLARED)
    assert (made.status, made.severity, "97%" in made.text) == (Status.FOUND, Level.MEDIUM, True)
    few = claim(known(replace(between, controls=2), carried=1), compared(Relation.DERIVED), DECLARED)
    assert few.severity is Level.LOW


@pytest.mark.parametrize("standing", ["sibling", "declared", "relative"])
def test_siblings_and_the_base_itself_are_no_parents(standing: str) -> None:
    made = claim(known(replace(HIT, standing=standing), carried=1), compared(Relation.DERIVED), DECLARED)
    assert made.status is Status.OK
    assert ("closest relative" in made.text) == (standing == "sibling")


def test_a_candidate_is_open_until_its_weights_are_read() -> None:
    candidate = Candidate(name="lab/y", gram=0.9, log10_p_gains=0.0)
    assert claim(known(candidates=(candidate,))).status is Status.UNKNOWN
    assert claim(known(candidates=(replace(candidate, confirmed="inconclusive"),))).status is Status.UNKNOWN
    assert claim(known(candidates=(replace(candidate, confirmed="derived"),))).status is Status.FOUND
    assert claim(known(candidates=(candidate,), carried=1)).status is Status.OK


def test_nothing_to_search_is_not_applicable_and_nothing_found_is_said() -> None:
    assert claim(known(searched=0, skipped=7)).status is Status.NOT_APPLICABLE
    assert claim(known(searched=0)).status is Status.NOT_APPLICABLE
    assert claim(known()).text.startswith("no other known model")
