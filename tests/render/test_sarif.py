"""SARIF, held against models that were generated from the standard's own schema."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as Standard

from modelguard.checks.base import all_checks
from modelguard.render.sarif import sarif
from modelguard.types.findings import Finding, Level, Status
from tests.render.reports import finding, model, report


def written(*findings: Finding) -> dict[str, object]:
    text = sarif(report(model("models/chat/model.safetensors", findings)), all_checks())
    Standard.model_validate_json(text)
    return json.loads(text)["runs"][0]  # type: ignore[no-any-return]


@given(st.text(max_size=80), st.sampled_from(list(Level)))
def test_whatever_is_found_the_standard_is_kept(text: str, severity: Level) -> None:
    run = written(finding(Status.FOUND, text, severity=severity, subject=text), finding(Status.UNKNOWN, text))
    assert len(run["results"]) == 2  # type: ignore[arg-type]


def test_a_schema_that_is_broken_would_be_noticed() -> None:
    text = sarif(report(model("m", (finding(Status.FOUND, "x"),))), all_checks()).replace('"results"', '"outcomes"')
    try:
        Standard.model_validate_json(text)
    except ValueError:
        return
    raise AssertionError("the standard's models take anything")


def test_findings_come_first_and_passes_are_left_out() -> None:
    run = written(finding(Status.OK, "fine"), finding(Status.UNKNOWN, "open"), finding(Status.FOUND, "steps are missing"))
    results = run["results"]
    assert [(item["kind"], item["level"]) for item in results] == [("fail", "error"), ("open", "none")]  # type: ignore[index, attr-defined]


def test_a_result_names_its_rule_a_file_and_a_fingerprint() -> None:
    claim = finding(Status.FOUND, "steps are missing", where="git:abc:models/chat/model.safetensors")
    run = written(claim)
    result = run["results"][0]  # type: ignore[index]
    rules = run["tool"]["driver"]["rules"]  # type: ignore[index]
    assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == "log-gap"
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "models/chat/model.safetensors"
    assert result["partialFingerprints"] == {"modelguard/v1": claim.fingerprint}


def test_a_file_name_becomes_a_valid_uri() -> None:
    text = sarif(report(model("a b/ü%.safetensors", (finding(Status.FOUND, "x"),))), all_checks())
    assert "a%20b/%C3%BC%25.safetensors" in text
