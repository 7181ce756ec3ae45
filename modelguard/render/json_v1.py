"""The JSON documents (`modelguard.<command>/1`): built field by field, so that a change of our types cannot change the contract."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from math import isfinite
from typing import Any

from modelguard.types.evals import EvalLogs, TeacherEvidence
from modelguard.types.findings import Finding, Status, Verdict
from modelguard.types.logs import Run, TrainingLog
from modelguard.types.report import ModelReport, Report
from modelguard.types.weights import Comparison, DifferenceSummary

Document = dict[str, object]


def dumps(document: Document) -> str:
    """A document as text: sorted nowhere, so that the verdict stands first; numbers that JSON lacks become null."""
    return json.dumps(_finite(document), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def audit_document(report: Report) -> Document:
    """`modelguard.audit/1`. Everything but `run` is the same from run to run."""
    return {
        "schema": "modelguard.audit/1",
        "verdict": report.verdict.value,
        "headline": report.headline,
        "base": report.base,
        "head": report.head,
        "models": [_model(model) for model in report.models],
        "findings": findings(report.findings),
        "notes": list(report.notes),
        "policy": {"digest": report.policy_digest, "settings": [asdict(setting) for setting in report.settings]},
        "version": report.version,
        "reproduce": report.reproduce,
        "run": {"seconds": round(report.seconds, 3), "bytes_read": sum(_bytes_read(model) for model in report.models)} | _walls(report),
    }


def _walls(report: Report) -> Document:
    """What held the processes without secrets, in which the files were opened; nothing where there were none."""
    held = [set(model.walls) for model in report.models if model.walls]
    return {"confined": sorted(set.intersection(*held))} if held else {}


def compare_document(comparison: Comparison) -> Document:
    """`modelguard.compare/1`, as the contract spells it; `difference` extends it."""
    return {
        "schema": "modelguard.compare/1",
        "left": asdict(comparison.left),
        "right": asdict(comparison.right),
        "relation": comparison.relation.value,
        "kinds": list(comparison.kinds),
        "details": [asdict(detail) for detail in comparison.details],
        "direction": comparison.direction,
        "basis": comparison.basis.value,
        "log10_p": round(comparison.log10_p, 4),
        "score": round(comparison.score, 6),
        "share_explained": round(comparison.share_explained, 6),
        "power": [asdict(power) for power in comparison.power],
        "layers": [asdict(layer) for layer in comparison.layers],
        "evidence": [_test(asdict(test)) for test in comparison.evidence],
        "unknown": [asdict(item) for item in comparison.unknown],
        "difference": _difference(comparison.difference),
        "run": {**asdict(comparison.cost), "seconds": round(comparison.cost.seconds, 3)},
    }


def log_document(log: TrainingLog | None, outcome: Iterable[Finding], verdict: Verdict) -> Document:
    """`modelguard.log/1`."""
    listed = tuple(outcome)
    runs = log.runs if log is not None else ()
    return {
        "schema": "modelguard.log/1",
        "verdict": verdict.value,
        "runs": [_run(run, [finding for finding in listed if finding.claim.where == run.source]) for run in runs],
        "unread": list(log.unread) if log is not None else [],
        "findings": findings(listed),
    }


def evals_document(logs: EvalLogs | None, teacher: TeacherEvidence | None, outcome: Iterable[Finding], verdict: Verdict) -> Document:
    """`modelguard.evals/1`: the answers themselves are not repeated, only how many there are."""
    answers = logs.answers if logs is not None else ()
    return {
        "schema": "modelguard.evals/1",
        "verdict": verdict.value,
        "model": logs.model or None if logs is not None else None,
        "scores": [asdict(score) for score in logs.scores] if logs is not None else [],
        "samples": [
            {"task": one.task, "filter": one.filter, "questions": len(one.answers), "accuracy": one.accuracy, "source": one.source}
            for one in answers
        ],
        "teacher": asdict(teacher) if teacher is not None else None,
        "unread": list(logs.unread) if logs is not None else [],
        "findings": findings(outcome),
    }


def findings(listed: Iterable[Finding]) -> list[Document]:
    """Findings as the contract spells them."""
    return [_finding(finding) for finding in listed]


def _finding(finding: Finding) -> Document:
    claim = finding.claim
    found = finding.status is Status.FOUND
    return {
        "rule": finding.rule,
        "subject": finding.subject,
        "status": finding.status.value,
        "severity": claim.severity.word if found else None,
        "confidence": claim.confidence.word if found else None,
        "text": claim.text,
        "numbers": dict(claim.numbers),
        "where": claim.where,
        "why": claim.why,
        "settle": claim.settle,
        "waived": finding.waived or None,
        "fingerprint": finding.fingerprint if found else None,
    }


def _model(model: ModelReport) -> Document:
    return {
        "subject": model.subject,
        "kind": model.kind,
        "files": list(model.files),
        "declared": list(model.declared),
        "base": model.resolved_base or None,
        "findings": findings(model.findings),
        "weights": _without_run(compare_document(model.weights)) if model.weights else None,
        "previous": _without_run(compare_document(model.previous)) if model.previous else None,
        "activations": asdict(model.activations) if model.activations else None,
        "exhibits": [{"kind": type(exhibit).__name__.lower(), **asdict(exhibit)} for exhibit in model.exhibits],
    }


def _without_run(document: Document) -> Document:
    return {key: value for key, value in document.items() if key != "run"}


def _test(test: Document) -> Document:
    return {key: round(value, 4) if key.startswith("log10") and isinstance(value, float) else value for key, value in test.items()}


def _difference(difference: DifferenceSummary | None) -> Document | None:
    if difference is None:
        return None
    return {**asdict(difference), "largest": [asdict(item) for item in difference.largest]}


def _run(run: Run, listed: list[Finding]) -> Document:
    training = run.training
    steps = {
        "first": training[0].step if training else None,
        "last": training[-1].step if training else None,
        "count": len(training),
        "cadence": run.cadence or None,
    }
    return {
        "source": run.source,
        "format": run.format,
        "steps": steps,
        "segments": [asdict(segment) for segment in run.segments],
        "discontinuities": [asdict(jump) for jump in run.discontinuities],
        "notes": list(run.notes),
        "findings": findings(listed),
    }


def _bytes_read(model: ModelReport) -> int:
    return sum(comparison.cost.bytes_read for comparison in (model.weights, model.previous) if comparison)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list | tuple) else value
