"""The report as it is posted where everybody reads it, without the names of models that nobody declared."""

from __future__ import annotations

from dataclasses import replace

from modelguard.types.findings import Claim, Finding
from modelguard.types.report import Band, ModelReport, Report


def public(report: Report) -> Report:
    """The report in whose words no undeclared parent is named; verdict, numbers and everything else stay. The full one keeps the name."""
    return replace(report, models=tuple(_model(model) for model in report.models))


def _model(model: ModelReport) -> ModelReport:
    """Bands are drawn for candidate teachers, each under its name."""
    pictures = tuple(picture for picture in model.exhibits if not isinstance(picture, Band))
    return replace(model, findings=tuple(map(_finding, model.findings)), exhibits=pictures)


def _finding(finding: Finding) -> Finding:
    return replace(finding, claim=_claim(finding.claim)) if finding.claim.discreet else finding


def _claim(claim: Claim) -> Claim:
    return replace(claim, text=claim.discreet, why=claim.discreet if claim.why else "", discreet="")
