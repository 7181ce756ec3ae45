"""What was found as SARIF 2.1.0 (OASIS, 2020), for code scanning and other collectors.

Only findings become results: code scanning has no place for "cannot determine", so the run's properties carry the verdict, and an
open question is a result of kind `open` and level `none`. Every result names a file of the repository, without which it would be
dropped, and a fingerprint that outlives other changes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote

from modelguard.checks.base import Check
from modelguard.render.text import terminal as plain
from modelguard.types.findings import Finding, Level, Status
from modelguard.types.report import ModelReport, Report

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {Level.INFO: "note", Level.LOW: "note", Level.MEDIUM: "warning", Level.HIGH: "error"}
SECURITY_SEVERITY = {Level.INFO: "0.0", Level.LOW: "3.0", Level.MEDIUM: "5.5", Level.HIGH: "8.0"}
MAX_RESULTS = 5000  # as many as GitHub keeps
MAX_TEXT = 2000


def sarif(report: Report, checks: Sequence[Check]) -> str:
    """The report as one run of one tool."""
    results = [
        (model, finding) for model in report.models for finding in model.findings if finding.status in (Status.FOUND, Status.UNKNOWN)
    ]
    results.sort(key=lambda item: (item[1].status is not Status.FOUND, -item[1].claim.severity))
    listed = {check.rule: place for place, check in enumerate(checks)}
    run = {
        "tool": {"driver": {"name": "modelguard", "version": report.version, "rules": [_rule(check) for check in checks]}},
        "automationDetails": {"id": "modelguard/"},
        "columnKind": "unicodeCodePoints",
        "results": [_result(model, finding, listed) for model, finding in results[:MAX_RESULTS]],
        "properties": {"verdict": report.verdict.value, "policyDigest": report.policy_digest, "resultsLeftOut": len(results[MAX_RESULTS:])},
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def _rule(check: Check) -> dict[str, object]:
    return {
        "id": check.rule,
        "name": "".join(part.capitalize() for part in check.rule.split("-")),
        "shortDescription": {"text": check.title},
        "fullDescription": {"text": check.doc.strip()},
        "help": {"text": f"{check.doc.strip()}\n\nRun `modelguard explain {check.rule}`."},
        "defaultConfiguration": {"level": "warning"},
    }


def _result(model: ModelReport, finding: Finding, listed: dict[str, int]) -> dict[str, object]:
    claim, found = finding.claim, finding.status is Status.FOUND
    settle = f" To settle it: {plain(claim.settle)}." if claim.settle else ""
    result: dict[str, object] = {
        "ruleId": finding.rule,
        "kind": "fail" if found else "open",
        "level": LEVELS[claim.severity] if found else "none",
        "message": {"text": f"{plain(claim.text)}.{settle}"[:MAX_TEXT]},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": quote(_file(model, finding))}, "region": {"startLine": 1}}}],
        "partialFingerprints": {"modelguard/v1": finding.fingerprint},
        "properties": {"subject": plain(finding.subject), "confidence": claim.confidence.word},
    }
    if found:
        result["properties"] = {**result["properties"], "security-severity": SECURITY_SEVERITY[claim.severity]}  # type: ignore[dict-item]
    if finding.waived:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": plain(finding.waived)}]
    return {**result, "ruleIndex": listed[finding.rule]} if finding.rule in listed else result


def _file(model: ModelReport, finding: Finding) -> str:
    """The file of the repository that a finding is about: the one that it names, where that is one, else the model's first."""
    named = next((file for file in model.files if finding.claim.where and finding.claim.where.endswith(file)), "")
    return named or (model.files[0] if model.files else finding.subject) or "."
