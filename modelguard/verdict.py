"""From findings to one of the three answers."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import replace

from modelguard.errors import ExitCode
from modelguard.policy import Policy
from modelguard.types.findings import Absence, Finding, Status, Verdict

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


def undecided(finding: Finding, policy: Policy) -> bool:
    """Whether a finding leaves open what must not stay open.

    Evidence that nobody claimed may be absent unless policy requires it. Evidence that is named or carried and could not be
    read, and evidence that was read and does not decide, leave the answer open.
    """
    if finding.status is not Status.UNKNOWN:
        return False
    return finding.absence is not Absence.ABSENT or finding.evidence in policy.require


def decide(findings: Iterable[Finding], policy: Policy) -> Verdict:
    """The verdict on one model. Nothing looked at is `cannot determine`, never a pass."""
    everything = tuple(findings)
    if any(blocks(finding, policy) for finding in everything):
        return Verdict.INCONSISTENT
    answered = any(finding.status in (Status.OK, Status.FOUND) and finding.rule != "checkpoint-readable" for finding in everything)
    if not answered or any(undecided(finding, policy) for finding in everything):
        return Verdict.CANNOT_DETERMINE
    return Verdict.CONSISTENT


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on several models: one inconsistency outweighs, then one open answer."""
    seen = set(verdicts)
    order = (Verdict.INCONSISTENT, Verdict.CANNOT_DETERMINE)
    return next((verdict for verdict in order if verdict in seen), Verdict.CONSISTENT)


def _apply(finding: Finding, policy: Policy, today: datetime.date) -> Finding:
    if finding.status is not Status.FOUND:
        return finding
    claim = replace(finding.claim, severity=policy.severity(finding.rule, finding.claim.severity))
    waiver = policy.waiver(finding.rule, finding.subject, today)
    return replace(finding, claim=claim, waived=f"{waiver.reason} ({waiver.owner}, until {waiver.expires})" if waiver else "")
