"""From findings to one of the three answers: the table of cases."""

from __future__ import annotations

import datetime

import pytest

from modelguard.errors import ExitCode
from modelguard.policy import Policy, default, parse
from modelguard.types.findings import Absence, Claim, Finding, Level, Status, Verdict, not_applicable, ok, unknown
from modelguard.types.findings import found as contradicts
from modelguard.types.report import ModelReport
from modelguard.verdict import EXIT_CODES, apply_policy, blocks, decide, headline, undecided, worst

TODAY = datetime.date(2026, 6, 1)
YES, NO, OPEN = Verdict.CONSISTENT, Verdict.INCONSISTENT, Verdict.CANNOT_DETERMINE


def finding(claim: Claim, rule: str = "log-gap", **more: object) -> Finding:
    return Finding(rule=rule, subject="m/model.safetensors", claim=claim, **more)  # type: ignore[arg-type]


def found(severity: Level = Level.HIGH, confidence: Level = Level.HIGH) -> Claim:
    return contradicts("it differs", severity=severity, confidence=confidence, numbers={})


def policy(text: str) -> Policy:
    return parse(f"version: 1\n{text}".encode(), "policy.yml")


FINE = finding(ok("fine"))
READABLE = finding(ok("readable"), rule="checkpoint-readable")
ABSENT = finding(unknown("no log"), absence=Absence.ABSENT, evidence="log")
BROKEN = finding(unknown("the log is damaged"), absence=Absence.BROKEN, evidence="log")
CRASHED = finding(unknown("the rule crashed"), absence=Absence.BROKEN)
UNDECIDED = finding(unknown("looked at, and does not decide"))
INAPPLICABLE = finding(not_applicable("an adapter"), absence=Absence.INAPPLICABLE, evidence="log")
HINT = finding(unknown("a hint that is not to be had", weighs=False), evidence="teacher")
BLOCKING = finding(found())
HINTED = finding(unknown("not by every measure"), rule="activations-across-architectures", hint=True)
FITTING = finding(ok("by every measure"), rule="activations-across-architectures", hint=True)
REQUIRING = policy("require: [log]")
CASES: dict[str, tuple[tuple[Finding, ...], Policy, Verdict]] = {
    "fine": ((FINE,), default(), YES),
    "a-hint-leaves-nothing-open": ((FINE, HINTED), default(), YES),
    "a-hint-closes-nothing": ((FINE, UNDECIDED, FITTING), default(), OPEN),
    "nothing": ((), default(), OPEN),
    "only-readable": ((READABLE,), default(), OPEN),
    "only-absent": ((READABLE, ABSENT), default(), OPEN),
    "only-inapplicable": ((READABLE, INAPPLICABLE), default(), OPEN),
    "absent-beside-fine": ((FINE, ABSENT), default(), YES),
    "open-hint-beside-fine": ((FINE, HINT), default(), YES),
    "open-hint-required": ((FINE, HINT), policy("require: [teacher]"), OPEN),
    "absent-but-required": ((FINE, ABSENT), REQUIRING, OPEN),
    "other-evidence-required": ((FINE, ABSENT), policy("require: [weights]"), YES),
    "inapplicable-though-required": ((FINE, INAPPLICABLE), REQUIRING, YES),
    "broken": ((FINE, BROKEN), default(), OPEN),
    "crashed": ((FINE, CRASHED), default(), OPEN),
    "undecided": ((FINE, UNDECIDED), default(), OPEN),
    "blocking": ((FINE, BLOCKING), default(), NO),
    "blocking-beside-broken": ((BLOCKING, BROKEN, UNDECIDED), default(), NO),
    "below-severity": ((finding(found(Level.MEDIUM)),), default(), YES),
    "below-confidence": ((finding(found(Level.HIGH, Level.LOW)),), default(), YES),
    "at-both-levels": ((finding(found(Level.HIGH, Level.MEDIUM)),), default(), NO),
    "below-beside-broken": ((finding(found(Level.MEDIUM)), BROKEN), default(), OPEN),
    "stricter-block": ((finding(found(Level.LOW, Level.LOW)),), policy("block: {severity: low, confidence: low}"), NO),
    "laxer-block": ((finding(found(Level.HIGH, Level.MEDIUM)),), policy("block: {confidence: high}"), YES),
    "waived": ((finding(found(), waived="outage (infra)"),), default(), YES),
    "waived-beside-blocking": ((finding(found(), waived="outage (infra)"), BLOCKING), default(), NO),
}


@pytest.mark.parametrize("case", CASES)
def test_verdict(case: str) -> None:
    findings, rules, verdict = CASES[case]
    assert decide(findings, rules) is verdict
    assert decide(reversed(findings), rules) is verdict
    assert EXIT_CODES[verdict] == {YES: ExitCode.CONSISTENT, NO: ExitCode.INCONSISTENT, OPEN: ExitCode.CANNOT_DETERMINE}[verdict]


@pytest.mark.parametrize("case", CASES)
def test_a_door_that_looks_at_a_part_need_not_answer_but_hides_nothing(case: str) -> None:
    findings, rules, verdict = CASES[case]
    silent = case in ("nothing", "only-readable", "only-absent", "only-inapplicable")
    assert decide(findings, rules, partial=True) is (YES if silent else verdict)


def test_only_what_was_found_blocks_and_only_what_is_unknown_leaves_open() -> None:
    loud = Claim(status=Status.OK, text="fine", severity=Level.HIGH)
    assert not blocks(finding(loud), default())
    assert blocks(BLOCKING, default())
    assert not undecided(BLOCKING, REQUIRING)
    assert not undecided(FINE, REQUIRING)


def test_the_worst_verdict_counts() -> None:
    assert worst(()) is YES
    assert worst([YES, YES]) is YES
    assert worst(iter([YES, OPEN])) is OPEN
    assert worst([OPEN, NO, YES]) is NO


def waiving(expires: str, subject: str = "m/model.safetensors") -> Policy:
    return policy(f"waivers: [{{rule: log-gap, subject: {subject}, reason: outage, owner: infra, expires: {expires}}}]")


def test_policy_is_applied_to_what_was_found_alone() -> None:
    rules = policy("rules: {log-gap: {severity: medium}}")
    applied = apply_policy((BLOCKING, FINE, BROKEN), rules, TODAY)
    assert [one.claim.severity for one in applied] == [Level.MEDIUM, Level.INFO, Level.INFO]
    assert applied[1:] == (FINE, BROKEN)
    assert decide(applied[:2], rules) is YES


def test_raising_a_rule_does_not_make_its_hints_block() -> None:
    rules = policy("rules: {log-gap: {severity: high, max-missing: 1%}}")
    hint, medium = finding(found(Level.LOW)), finding(found(Level.MEDIUM))
    assert decide(apply_policy((hint,), rules, TODAY), rules) is YES
    assert decide(apply_policy((medium,), rules, TODAY), rules) is NO


@pytest.mark.parametrize("subject", ["m/model.safetensors", "m"])
def test_a_waiver_holds_until_its_day_ends(subject: str) -> None:
    (waived,) = apply_policy((BLOCKING,), waiving("2026-06-01", subject), TODAY)
    assert waived.waived == "outage (infra, until 2026-06-01)"
    assert decide((waived,), default()) is YES
    (expired,) = apply_policy((BLOCKING,), waiving("2026-05-31", subject), TODAY)
    assert expired.waived == ""
    assert decide((expired,), default()) is NO


def test_a_waiver_does_not_close_what_is_open() -> None:
    assert decide(apply_policy((FINE, BROKEN), waiving("2030-01-01"), TODAY), default()) is OPEN


def report(*findings: Finding) -> ModelReport:
    return ModelReport(
        subject="m",
        kind="single",
        files=(),
        declared=(),
        resolved_base="",
        findings=findings,
        exhibits=(),
        weights=None,
        previous=None,
        activations=None,
    )


def test_headline() -> None:
    assert headline(YES, ()) == "no model files changed"
    assert headline(YES, (report(FINE),)) == "the model is consistent with what is declared"
    low = finding(found(Level.LOW), rule="log-tail")
    assert headline(YES, (report(FINE), report(low))) == "2 models are consistent with what is declared, with 1 warning"
    assert headline(YES, (report(low, low),)).endswith("with 2 warnings")
    waived = finding(found(), rule="log-head", waived="outage (infra)")
    named = headline(NO, (report(low, BLOCKING, BLOCKING, waived),))
    assert "contradicts what is declared" in named
    assert "log-gap, log-tail" in named
    assert "log-head" not in named
    absent = finding(unknown("no log"), rule="log-tail", absence=Absence.ABSENT, evidence="log")
    assert "(log-gap)" in headline(OPEN, (report(absent, BROKEN),))
    assert "(log-tail)" in headline(OPEN, (report(absent),))
    assert "nothing could be checked" in headline(OPEN, (report(READABLE),))


def test_a_waiver_with_a_fingerprint_covers_that_finding_only() -> None:
    def waived(fingerprint: str) -> str:
        waiver = f"{{rule: log-gap, subject: m, reason: r, owner: o, expires: 2999-01-01, fingerprint: {fingerprint}}}"
        rules = parse(f"version: 1\nwaivers: [{waiver}]\n".encode(), "p")
        (finding,) = apply_policy([told], rules, datetime.date(2026, 1, 1))
        return finding.waived

    claim = contradicts("steps 1 to 9", severity=Level.HIGH, confidence=Level.HIGH, numbers={})
    told = Finding(rule="log-gap", subject="m", claim=claim)
    assert waived(told.fingerprint)
    assert not waived("f-" + "0" * 16)


def test_a_hint_is_no_answer() -> None:
    assert decide((READABLE, FITTING), default()) is OPEN
    assert decide((READABLE, FINE, FITTING), default()) is YES
    assert "(log-gap)" in headline(OPEN, (report(HINTED, UNDECIDED),))


def test_an_open_hint_that_was_asked_for_leaves_the_answer_open() -> None:
    assert decide((FINE, HINT), default()) is YES
    assert decide((FINE, HINT), default(), asked=("teacher",)) is OPEN
