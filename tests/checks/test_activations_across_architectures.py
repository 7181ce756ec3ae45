"""The rule supports and never accuses: a first rank among enough controls is ok, everything else stays open and decides nothing."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelguard.checks.activations_across_architectures import check
from modelguard.checks.base import all_checks, run
from modelguard.policy import default, parse
from modelguard.types.across import ENOUGH, LIMITS, AcrossComparison, Standing
from modelguard.types.evidence import Evidence
from modelguard.types.findings import Absence, Finding, Missing, Status, Verdict, ok
from modelguard.verdict import blocks, decide, undecided

RULE = next(rule for rule in all_checks() if rule.rule == "activations-across-architectures")
FIRST = AcrossComparison(
    method="across-1",
    left="m",
    right="base",
    controls=tuple(f"c{number}" for number in range(ENOUGH)),
    left_out=(),
    standings=(
        Standing(measure="debiased CKA", value=0.3, controls=(0.1, 0.12, 0.09, 0.2, 0.1)),
        Standing(measure="mutual nearest neighbours", value=0.2, controls=(0.1, 0.12, 0.09, 0.1, 0.1)),
    ),
    map=((0.3, None), (0.1, 0.2)),
    strings=1007,
    contrasts=384,
)
FINE = Finding(rule="log-gap", subject="m", claim=ok("fine"))
value = st.floats(-1, 1)


def findings(across: AcrossComparison | Missing) -> tuple[Finding, ...]:
    nothing = Evidence(**{field.name: Missing(f"no {field.name}") for field in fields(Evidence)})
    return run((RULE,), replace(nothing, across=across), "m", default())


def within(across: AcrossComparison) -> AcrossComparison:
    """The same where one measure has a control that is closer."""
    return replace(across, standings=(across.standings[0], replace(across.standings[1], value=0.11)))


def test_a_first_rank_by_every_measure_supports_and_says_its_limits() -> None:
    (claim,) = check(FIRST)
    assert claim.status is Status.OK
    assert "ranks 1 of 6" in claim.text
    assert LIMITS in claim.text
    assert claim.numbers["debiased_cka_p"] == round(1 / 6, 4)
    assert claim.numbers["mutual_nearest_neighbours_highest_control"] == 0.12


@pytest.mark.parametrize(("across", "why"), [(within(FIRST), "not by every measure"), (replace(FIRST, controls=("a", "b")), "too few")])
def test_what_is_not_first_or_has_few_controls_stays_open(across: AcrossComparison, why: str) -> None:
    (claim,) = check(across)
    assert claim.status is Status.UNKNOWN
    assert why in claim.why
    assert claim.settle


def test_what_limits_the_ranks_is_said() -> None:
    (claim,) = check(replace(FIRST, notes=("no control has the architecture",), left_out=("c9: no tokenizer",)))
    assert "no control has the architecture" in claim.text
    assert "left out: c9: no tokenizer" in claim.text


def test_no_verdict_follows_and_none_is_held_up() -> None:
    for across in (FIRST, within(FIRST), Missing("no controls", kind=Absence.ABSENT)):
        assert decide((FINE, *findings(across)), default()) is Verdict.CONSISTENT
        assert decide(findings(across), default()) is Verdict.CANNOT_DETERMINE
    required = parse(b"version: 1\nrequire: [across]\n", "policy")
    assert decide((FINE, *findings(Missing("no controls"))), required) is Verdict.CANNOT_DETERMINE
    assert decide((FINE, *findings(within(FIRST))), required) is Verdict.CONSISTENT


@given(st.lists(st.tuples(value, st.lists(value, min_size=2, max_size=8)), max_size=2))
def test_no_numbers_accuse(measured: list[tuple[float, list[float]]]) -> None:
    standings = tuple(Standing(measure=f"m{place}", value=own, controls=tuple(others)) for place, (own, others) in enumerate(measured))
    (finding,) = findings(replace(FIRST, standings=standings))
    assert finding.status in (Status.OK, Status.UNKNOWN)
    assert not blocks(finding, default())
    assert not undecided(finding, default())
    assert (finding.status is Status.OK) is (bool(standings) and all(one.value > max(one.controls) for one in standings))
