"""From findings to one of the three answers."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import replace

from modelguard.errors import ExitCode
from modelguard.policy import Policy
from modelguard.types.findings import Absence, Finding, Status, Verdict
from modelguard.types.report import ModelReport

EXIT_CODES = {
    Verdict.CONSISTENT: ExitCode.CONSISTENT,
    Verdict.INCONSISTENT: ExitCode.INCONSISTENT,
    Verdict.CANNOT_DETERMINE: ExitCode.CANNOT_DETERMINE,
}


def apply_policy(findings: Iterable[Finding], policy: Policy, today: datetime.date) -> tuple[Finding, ...]:
    """The findings with policy's severities and waivers on them."""
    return tuple(_apply(finding, policy, today) for finding in findings)


def blocks(finding: Finding, policy: Policy) -> bool:
    """Whether a finding is one that policy stops."""
    claim = finding.claim
    severe = claim.severity >= policy.block_severity and claim.confidence >= policy.block_confidence
    return finding.status is Status.FOUND and severe and not finding.waived


def undecided(finding: Finding, policy: Policy, asked: Sequence[str] = ()) -> bool:
    """Whether a finding leaves open what must not stay open.

    Evidence that nobody claimed may be absent unless policy requires it. Evidence that is named or carried and could not be
    read, and evidence that was read and does not decide, leave the answer open; a hint that decides nothing does so only where policy
    requires it, or where it is `asked` for by name.
    """
    if finding.status is not Status.UNKNOWN or finding.hint:
        return False
    hint = finding.absence is Absence.ABSENT or not finding.claim.weighs
    return not hint or finding.evidence in (*policy.require, *asked)


def decide(findings: Iterable[Finding], policy: Policy, *, partial: bool = False, asked: Sequence[str] = ()) -> Verdict:
    """The verdict on one model. Nothing looked at is `cannot determine`, never a pass.

    `partial` is for a door that by design looks at a part only (the hook): it need not have answered anything. `asked` names evidence
    that somebody asked for on the command line: what it leaves open is said by the verdict, as if policy required it.
    """
    everything = tuple(findings)
    if any(blocks(finding, policy) for finding in everything):
        return Verdict.INCONSISTENT
    telling = [finding for finding in everything if finding.rule != "checkpoint-readable" and not finding.hint]
    answered = any(finding.status in (Status.OK, Status.FOUND) for finding in telling)
    if not (answered or partial) or any(undecided(finding, policy, asked) for finding in everything):
        return Verdict.CANNOT_DETERMINE
    return Verdict.CONSISTENT


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on several models: one inconsistency outweighs, then one open answer."""
    seen = set(verdicts)
    order = (Verdict.INCONSISTENT, Verdict.CANNOT_DETERMINE)
    return next((verdict for verdict in order if verdict in seen), Verdict.CONSISTENT)


def headline(verdict: Verdict, models: Sequence[ModelReport]) -> str:
    """The verdict in one sentence."""
    if not models:
        return "no model files changed"
    count = "the model is" if len(models) == 1 else f"{len(models)} models are"
    if verdict is Verdict.CONSISTENT:
        warnings = sum(finding.status is Status.FOUND for model in models for finding in model.findings)
        return f"{count} consistent with what is declared" + (f", with {warnings} warning{'s' if warnings > 1 else ''}" if warnings else "")
    rules = _rules(models, Status.FOUND if verdict is Verdict.INCONSISTENT else Status.UNKNOWN)
    if verdict is Verdict.INCONSISTENT:
        return f"the evidence contradicts what is declared ({', '.join(rules)})"
    return f"what is declared could not be decided ({', '.join(rules) or 'nothing could be checked'})"


def _rules(models: Sequence[ModelReport], status: Status) -> list[str]:
    """The rules with findings of a status, the most severe ones first; what is waived or merely absent is not named."""
    findings = [finding for model in models for finding in model.findings if finding.status is status and not finding.waived]
    telling = [
        finding for finding in findings if finding.absence is not Absence.ABSENT and not finding.hint and finding.claim.weighs
    ] or findings
    return list(dict.fromkeys(finding.rule for finding in sorted(telling, key=lambda finding: -finding.claim.severity)))


def _apply(finding: Finding, policy: Policy, today: datetime.date) -> Finding:
    if finding.status is not Status.FOUND:
        return finding
    claim = replace(finding.claim, severity=policy.severity(finding.rule, finding.claim.severity))
    waiver = policy.waiver(finding.rule, finding.subject, today, finding.fingerprint)
    return replace(finding, claim=claim, waived=f"{waiver.reason} ({waiver.owner}, until {waiver.expires})" if waiver else "")
