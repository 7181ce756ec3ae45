"""Claimed scores: rounding and percentages are honest, another number is not, and what cannot be told stays open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelguard.checks.evals_claims import check
from modelguard.cli import main
from modelguard.eval_files import with_claims
from modelguard.evals.collecting import assemble
from modelguard.types.evals import EvalLogs
from modelguard.types.findings import Status

REAL = Path(__file__).parent / "harness_0.4.13"
LOGGED = 19 / 60  # acc of `sums`


def logs() -> EvalLogs:
    found = assemble({str(path): path.read_bytes() for path in sorted(REAL.iterdir())})
    assert isinstance(found, EvalLogs)
    return found


def index(name: str, value: str, metric: str = "acc") -> bytes:
    return f"""---
model-index:
- name: m
  results:
  - task: {{type: text-generation}}
    dataset: {{name: {name}, type: x}}
    metrics:
    - {{type: {metric}, value: {value}}}
---
# m
""".encode()


@pytest.mark.parametrize("value", ["0.31666666666666665", "0.3167", "0.317", "0.32", "31.67", "31.7", "32", '"31.67%"', "0.3"])
def test_what_rounds_to_the_claim_agrees(value: str) -> None:
    (claim,) = check(with_claims(logs(), index("sums", value), "README.md"))
    assert claim.status is Status.OK, claim.text


@pytest.mark.parametrize("value", ["0.3267", "0.33", "33", "0.316", "31.66", "0.9", "100"])
def test_another_number_is_found_with_both(value: str) -> None:
    (claim,) = check(with_claims(logs(), index("Sums", value), "README.md"))
    assert claim.status is Status.FOUND
    assert claim.numbers["claimed"] == float(value)
    assert claim.numbers["logged"] in (round(LOGGED, 6), round(LOGGED * 100, 6))


@pytest.mark.parametrize(("name", "metric"), [("MMLU", "acc"), ("sums", "rouge")])
def test_a_claim_without_its_log_stays_open(name: str, metric: str) -> None:
    (claim,) = check(with_claims(logs(), index(name, "0.5", metric), "README.md"))
    assert claim.status is Status.NOT_APPLICABLE


@pytest.mark.parametrize("value", ["null", "[1]", "abc", ".nan", "true", "-3", "{a: 1}"])
def test_a_claim_that_is_no_number_is_passed_over(value: str) -> None:
    (claim,) = check(with_claims(logs(), index("sums", value), "README.md"))
    assert claim.text == "no card claims a score"


HARNESS = """
|Tasks|Version|Filter|n-shot|Metric| |Value| |Stderr|
|-----|------:|------|-----:|------|---|----:|---|-----:|
|sums |      1|none  |     0|acc   |↑  |0.3167|±|0.0606|
|     |       |none  |     0|acc_norm|↑ |{norm}|±|0.0418|
"""


def test_the_tables_of_the_text_are_read() -> None:
    good = list(check(with_claims(logs(), HARNESS.format(norm="0.1167").encode(), "README.md")))
    assert [claim.status for claim in good] == [Status.OK, Status.OK]
    bad = list(check(with_claims(logs(), HARNESS.format(norm="0.2167").encode(), "README.md")))
    assert [claim.status for claim in bad] == [Status.OK, Status.FOUND]
    two = b"| Benchmark | Score |\n|---|---|\n| **Sums** | 31.7 % |\n| Other | 99 |\n"
    assert [claim.status for claim in check(with_claims(logs(), two, "README.md"))] == [Status.OK]


def test_a_table_of_several_models_is_not_judged() -> None:
    table = b"| Benchmark | ours | theirs |\n|---|---|---|\n| sums | 99 | 98 |\n"
    (claim,) = check(with_claims(logs(), table, "README.md"))
    assert claim.status is Status.NOT_APPLICABLE


def test_the_command_says_so_with_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_bytes(index("sums", "0.9"))
    assert main(["evals", str(REAL), "--card", str(tmp_path / "README.md"), "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["verdict"]) == ("modelguard.evals/1", "inconsistent")
    assert {finding["rule"] for finding in document["findings"] if finding["status"] == "found"} == {"evals-claims"}
    assert document["samples"][0]["questions"] == 20
    assert main(["evals", str(REAL), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "consistent"
    assert main(["evals", str(tmp_path / "nothing")]) == 3
    (tmp_path / "README.md").write_bytes(b"---\na: [\n---\n")
    assert main(["evals", str(REAL), "--card", str(tmp_path / "README.md")]) == 2
    assert main(["evals", str(tmp_path / "README.md")]) == 2
