"""Whose mistakes a model makes: the true teacher stands out against controls of its domain, and nobody else does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelguard.checks.behaviour_undeclared_teacher import check
from modelguard.cli import main
from modelguard.evals.collecting import assemble
from modelguard.evals.likeness import SEED, by_document, capa, capa_terms, correlation, correlation_terms, interval, ratio
from modelguard.evals.teacher import teacher_evidence
from modelguard.types.evals import EvalLogs, TeacherEvidence
from modelguard.types.findings import Claim, Level, Status
from tests.evals.building import Rows, answering, write


def logs(folder: Path, name: str, listed: Rows) -> EvalLogs:
    path = write(folder / name, {"sums": listed}, name)
    found = assemble({str(file): file.read_bytes() for file in sorted(path.iterdir())})
    assert isinstance(found, EvalLogs)
    return found


def judged(evidence: TeacherEvidence) -> dict[str, Claim]:
    return {likeness.candidate: claim for likeness, claim in zip(evidence.likenesses, check(evidence), strict=True)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EvalLogs]:
    """Six candidates and four controls of one domain, and a student of candidate 3."""
    folder = tmp_path_factory.mktemp("evals")
    made = {f"m{seed}": logs(folder, f"m{seed}", answering(seed, domain=99)) for seed in range(10, 20)}
    return made | {"student": logs(folder, "student", answering(50, teacher=13, domain=99))}


CANDIDATES = [f"m{seed}" for seed in range(10, 16)]
CONTROLS = [f"m{seed}" for seed in range(16, 20)]


def evidence(world: dict[str, EvalLogs], suspect: str, candidates: list[str], controls: list[str]) -> TeacherEvidence:
    return teacher_evidence(world[suspect], {name: world[name] for name in candidates}, {name: world[name] for name in controls})


def test_the_student_is_close_to_its_teacher_alone(tmp_path: Path) -> None:
    made = {f"m{seed}": logs(tmp_path, f"m{seed}", answering(seed)) for seed in range(10, 20)}
    made["student"] = logs(tmp_path, "student", answering(50, teacher=13))
    claims = judged(evidence(made, "student", CANDIDATES, CONTROLS))
    assert {name for name, claim in claims.items() if claim.status is Status.FOUND} == {"m13"}
    found = claims["m13"]
    assert (found.severity, found.confidence) == (Level.LOW, Level.LOW)
    assert "not where it comes from" in found.text
    assert claims["m10"].status is Status.OK


def test_no_independent_model_is_accused(world: dict[str, EvalLogs]) -> None:
    for suspect in CANDIDATES:
        others = [name for name in CANDIDATES if name != suspect]
        assert not [claim.text for claim in judged(evidence(world, suspect, others, CONTROLS)).values() if claim.status is Status.FOUND]


@pytest.mark.parametrize("controls", [[], CONTROLS[:1]])
def test_without_controls_it_is_unknown_and_says_why(world: dict[str, EvalLogs], controls: list[str]) -> None:
    (claim,) = judged(evidence(world, "student", ["m13"], controls)).values()
    assert claim.status is Status.UNKNOWN
    assert "learned from the same data" in claim.why


def test_models_are_joined_on_the_question(tmp_path: Path, world: dict[str, EvalLogs]) -> None:
    shuffled = answering(13, domain=99)
    np.random.default_rng(0).shuffle(shuffled)
    again = {**world, "m13": logs(tmp_path, "m13", [{**one, "doc_id": place} for place, one in enumerate(shuffled)])}
    assert evidence(again, "student", ["m13"], CONTROLS) == evidence(world, "student", ["m13"], CONTROLS)
    few = {**world, "m13": logs(tmp_path, "few", answering(13)[:50])}
    (claim,) = judged(evidence(few, "student", ["m13"], CONTROLS)).values()
    assert claim.why == "m13: 50 questions are in all logs, fewer than 100"


def test_a_declared_teacher_is_no_finding(tmp_path: Path) -> None:
    made = {f"m{seed}": logs(tmp_path, f"m{seed}", answering(seed)) for seed in (13, 16, 17, 18)}
    found = teacher_evidence(
        logs(tmp_path, "student", answering(50, teacher=13)), {"m13": made["m13"]}, {name: made[name] for name in ("m16", "m17", "m18")}
    )
    assert [claim.status for claim in check(found)] == [Status.FOUND]
    assert [claim.status for claim in check(replace(found, declared=("organisation/m13",)))] == [Status.OK]
    assert "which no card declares" in next(iter(check(replace(found, declared=())))).text


def test_the_drop_outside_the_domain_is_a_number(tmp_path: Path) -> None:
    path = write(tmp_path, {"sums": answering(3), "law_a": answering(4), "law_b": answering(5)})
    found = assemble({str(file): file.read_bytes() for file in sorted(path.iterdir())})
    assert isinstance(found, EvalLogs)
    accuracy = {one.task: one.accuracy for one in found.answers}
    expected = (accuracy["law_a"] + accuracy["law_b"]) / 2 - accuracy["sums"]
    told = teacher_evidence(found, {"self": found}, {"a": found, "b": found}, ["law"])
    assert (told.drop, told.control_drop) == pytest.approx((expected, expected))
    assert teacher_evidence(found, {}, {}, ["nothing"]).drop is None


def test_a_model_that_answers_everything_alike_is_unknown(world: dict[str, EvalLogs]) -> None:
    same = world["m10"]
    perfect = replace(same, answers=tuple(replace(one, answers=tuple(replace(a, right=True) for a in one.answers)) for one in same.answers))
    claims = judged(teacher_evidence(perfect, {"m13": world["m13"]}, {name: world[name] for name in CONTROLS}))
    assert [claim.status for claim in claims.values()] == [Status.UNKNOWN]


def test_statistics_agree_with_their_definitions() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.dirichlet(np.ones(4), 500), rng.dirichlet(np.ones(4), 500)
    terms = capa_terms((a * b).sum(1), a[:, 0], b[:, 0], np.full(500, 4.0))
    p, q = a[:, 0].mean(), b[:, 0].mean()
    expected = p * q + (1 - p) * (1 - q) / 3
    assert float(capa(terms.sum(0))) == pytest.approx(((a * b).sum(1).mean() - expected) / (1 - expected))
    x = rng.normal(size=(300, 7))
    y = x + rng.normal(size=(300, 7))
    sums = by_document(correlation_terms(x, y), np.repeat(np.arange(30), 10))
    value = interval(sums, correlation)
    assert value is not None
    assert value[0] == pytest.approx(np.corrcoef(x.ravel(), y.ravel())[0, 1])
    assert value[1] < value[0] < value[2]
    assert interval(sums, correlation) == value  # the seed is a constant
    assert interval(np.zeros((10, 2)), ratio) is None
    assert SEED == 20261122


def test_intervals_hold_what_they_promise() -> None:
    """Documents of 20 answers that hang together: 99 % intervals of a rate of 0.3 hold it in 95 of 100 draws at least."""
    rng, held = np.random.default_rng(7), 0
    for _ in range(60):
        rates = rng.beta(3, 7, 80)
        parts = np.stack([rng.binomial(20, rates), np.full(80, 20)], axis=1).astype(float)
        found = interval(parts, ratio)
        assert found is not None
        held += found[1] <= 0.3 <= found[2]
    assert held >= 57


def test_the_command_finds_and_does_not_block(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (13, 16, 17, 18):
        write(tmp_path / f"m{seed}", {"sums": answering(seed)}, f"organisation/m{seed}")
    write(tmp_path / "student", {"sums": answering(50, teacher=13)}, "organisation/student")
    arguments = ["evals", str(tmp_path / "student"), "--reference", str(tmp_path / "m13"), "--control"]
    arguments += [str(tmp_path / f"m{seed}") for seed in (16, 17, 18)]
    assert main([*arguments, "--format", "json"]) == 0
    first = capsys.readouterr().out
    document = json.loads(first)
    (found,) = [one for one in document["findings"] if one["status"] == "found"]
    assert (found["rule"], found["severity"]) == ("behaviour-undeclared-teacher", "low")
    assert document["teacher"]["likenesses"][0]["candidate"].startswith("organisation/m13")
    assert main([*arguments, "--format", "json"]) == 0
    assert capsys.readouterr().out == first
    assert main(arguments) == 0
    assert "●" in capsys.readouterr().out
    assert main(["evals", str(tmp_path / "student"), "--control", str(tmp_path / "m16")]) == 3
    assert main(["evals", str(tmp_path / "student"), "--reference", str(tmp_path / "m13")]) == 2  # asked, and open for want of controls
