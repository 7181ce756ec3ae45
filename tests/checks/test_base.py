"""The runner of rules: absence is handled once, and what crashes cannot pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import pytest

from modelguard.checks.base import Check, Rule, all_checks, needs, run, select
from modelguard.errors import BadRequest, CannotRead
from modelguard.policy import Policy, default, parse
from modelguard.types.changes import Declaration
from modelguard.types.evidence import EVIDENCE_NAMES, Evidence
from modelguard.types.findings import Absence, Claim, Finding, Level, Missing, Status, found, ok

NOTHING = Evidence(**{field.name: Missing(f"no {field.name}", advice="write one") for field in fields(Evidence)})
DECLARED = Declaration(bases=(), relation="merge", source="README.md")
SOME = replace(NOTHING, declaration=DECLARED)
CLAIM = found("it differs", severity=Level.HIGH, confidence=Level.HIGH, numbers={})


def says(declaration: Declaration) -> Iterator[Claim]:
    yield ok(f"the relation is {declaration.relation}")
    yield CLAIM


def silent(declaration: Declaration) -> Iterator[Claim]:
    yield from ()


def crashes(declaration: Declaration) -> Iterator[Claim]:
    yield ok("so far")
    raise ZeroDivisionError("secret details")


def refuses(declaration: Declaration) -> Iterator[Claim]:
    yield CLAIM
    raise CannotRead("the card is damaged", advice="mend it")


def judges_absence(declaration: Declaration, log: object) -> Iterator[Claim]:
    assert isinstance(log, Missing)
    yield ok(f"looked at {declaration.relation}: {log.why}")


def reads_policy(policy: Policy) -> Iterator[Claim]:
    yield ok(f"alpha is {policy.alpha}")


def check(function: Rule, wants: tuple[str, ...] = ("declaration",), tolerates: tuple[str, ...] = ()) -> Check:
    return Check("a-rule", "What it holds.\n\nMore.", function, wants, frozenset(tolerates))


def outcome(one: Check, evidence: Evidence = SOME) -> tuple[Finding, ...]:
    findings = run((one,), evidence, "m/model.safetensors", default())
    assert all((finding.rule, finding.subject) == ("a-rule", "m/model.safetensors") for finding in findings)
    return findings


def test_claims_are_stamped() -> None:
    first, second = outcome(check(says))
    assert (first.status, first.claim.text, first.absence, first.evidence) == (Status.OK, "the relation is merge", None, "")
    assert second.claim == CLAIM


def test_a_rule_that_says_nothing_found_nothing() -> None:
    (finding,) = outcome(check(silent))
    assert (finding.status, finding.claim.text) == (Status.OK, "What it holds")


def test_a_crash_is_unknown_and_takes_the_rules_other_claims_along() -> None:
    (finding,) = outcome(check(crashes))
    assert (finding.status, finding.absence, finding.evidence) == (Status.UNKNOWN, Absence.BROKEN, "")
    assert finding.claim.why == "the rule a-rule crashed (ZeroDivisionError)"
    assert "MODELGUARD_DEBUG" in finding.claim.settle


def test_a_refusal_keeps_its_words() -> None:
    (finding,) = outcome(check(refuses))
    assert (finding.status, finding.claim.why, finding.claim.settle) == (Status.UNKNOWN, "the card is damaged", "mend it")


@pytest.mark.parametrize("kind", Absence)
def test_missing_evidence_is_the_reason(kind: Absence) -> None:
    evidence = replace(SOME, declaration=Missing("no card", advice="write one", kind=kind))
    (finding,) = outcome(check(crashes), evidence)
    expected = Status.NOT_APPLICABLE if kind is Absence.INAPPLICABLE else Status.UNKNOWN
    assert (finding.status, finding.absence, finding.evidence, finding.claim.why) == (expected, kind, "declaration", "no card")
    assert finding.claim.settle == ("" if kind is Absence.INAPPLICABLE else "write one")


def test_only_a_rule_that_tolerates_absence_sees_it() -> None:
    tolerant = check(judges_absence, ("declaration", "log"), ("log",))
    assert [finding.claim.text for finding in outcome(tolerant)] == ["looked at merge: no log"]
    (strict,) = outcome(check(judges_absence, ("declaration", "log")))
    assert (strict.status, strict.evidence) == (Status.UNKNOWN, "log")
    (other,) = outcome(tolerant, NOTHING)
    assert (other.status, other.evidence) == (Status.UNKNOWN, "declaration")


def test_policy_is_passed_to_who_asks() -> None:
    assert outcome(check(reads_policy, ()))[0].claim.text == "alpha is 1e-09"


def test_one_rule_does_not_stop_another() -> None:
    findings = run((check(crashes), check(says)), SOME, "m", default())
    assert [finding.status for finding in findings] == [Status.UNKNOWN, Status.OK, Status.FOUND]


def test_needs() -> None:
    assert needs(()) == frozenset()
    assert needs((check(says), check(judges_absence, ("log", "weights")))) == {"declaration", "log", "weights"}


def test_selection() -> None:
    rules = [one.rule for one in all_checks()]
    assert rules == sorted(set(rules))
    assert select(default()) == all_checks()
    without = parse(b"version: 1\nrules: {log-gap: {enabled: false}}", "policy.yml")
    assert [one.rule for one in select(without)] == [rule for rule in rules if rule != "log-gap"]
    assert [one.rule for one in select(default(), ["log-gap", "nowhere"])] == ["log-gap"]


def test_no_rule_at_all_is_a_bad_request_and_never_a_pass() -> None:
    off = ", ".join(f"{one.rule}: {{enabled: false}}" for one in all_checks())
    for policy, names in ((parse(f"version: 1\nrules: {{{off}}}".encode(), "p"), None), (default(), ()), (default(), ("nowhere",))):
        with pytest.raises(BadRequest, match="no rule is enabled") as caught:
            select(policy, names)
        assert caught.value.advice


@pytest.mark.parametrize("one", all_checks(), ids=lambda one: one.rule)
def test_every_shipped_rule_names_its_evidence_and_survives_its_absence(one: Check) -> None:
    assert one.title
    assert set(one.wants) <= set(EVIDENCE_NAMES)
    assert one.tolerates <= set(one.wants)
    findings = run((one,), NOTHING, "m", default())
    assert findings
    assert all(finding.status in (Status.UNKNOWN, Status.NOT_APPLICABLE) for finding in findings)
    assert all("crashed" not in finding.claim.why for finding in findings)
