"""The optimizer's state through `modelguard log --checkpoint`: files that torch wrote, read as the audit reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelguard.cli import main
from tests.fingerprint.zoo import model
from tests.test_adapted_references import OF_ADAPTER, OF_BASE
from tests.test_displacement_doors import CARD, FAR, NEAR, folder, state, trained
from tests.test_optimizer_doors import optimizer
from tests.weights import write

pytest.importorskip("torch")
USUAL = CARD.replace("0.95", "0.999")  # the betas of torch's own AdamW, which wrote the states here
STATE, MOVED = "log-optimizer-state", "log-cannot-explain-weights"


def asked(capsys: pytest.CaptureFixture[str], log: Path, checkpoint: object, base: object, *more: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the findings of `modelguard log`."""
    paths = ["--checkpoint", str(checkpoint), "--base-checkpoint", str(base)]
    code = main(["log", str(log), *paths, *more, "--quiet", "--format", "json"])
    return code, json.loads(capsys.readouterr().out)["findings"]


def of(findings: list[dict[str, Any]], rule: str) -> list[dict[str, Any]]:
    return [finding for finding in findings if finding["rule"] == rule]


@pytest.fixture
def child(tmp_path: Path) -> Path:
    """A checkpoint as a trainer leaves it, and its base beside it."""
    folder(tmp_path / "parent", model(0))
    made = folder(tmp_path / "run" / "checkpoint-400", trained(model(0), NEAR), USUAL)
    (made / "trainer_state.json").write_text(state())
    return made


@pytest.mark.parametrize(("steps", "status", "code"), [(400, "ok", 0), (600, "found", 1)])
def test_its_steps_are_held_against_the_log(child: Path, capsys: pytest.CaptureFixture[str], steps: int, status: str, code: int) -> None:
    optimizer(child / "optimizer.pt", steps)
    got, findings = asked(capsys, child / "trainer_state.json", child, child.parents[1] / "parent")
    told = of(findings, STATE)
    assert {finding["status"] for finding in told} == {"ok", status}
    assert told[0]["numbers"] == {"logged_steps": 400, "optimizer_steps": steps}
    assert [finding["status"] for finding in of(findings, MOVED)] == ["ok"]
    assert got == code


def test_paths_may_be_written_in_other_ways(child: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer(child / "optimizer.pt", 600)
    monkeypatch.chdir(child.parent)
    for log, checkpoint in (
        (child, "./checkpoint-400/model.safetensors"),
        (Path("checkpoint-400"), child),
        (Path("../run/checkpoint-400"), "checkpoint-400/"),
    ):
        code, findings = asked(capsys, log, checkpoint, "../parent")
        assert (code, of(findings, STATE)[0]["numbers"]) == (1, {"logged_steps": 400, "optimizer_steps": 600}), (log, checkpoint)


def test_a_log_elsewhere_must_be_long_enough(child: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the trainer's own state beside the optimizer's, the longest log counts."""
    optimizer(child / "optimizer.pt", 300)
    (tmp_path / "trainer_state.json").write_text(state())
    code, findings = asked(capsys, tmp_path / "trainer_state.json", child, tmp_path / "parent")
    assert (code, of(findings, STATE)[0]["status"]) == (0, "ok")
    optimizer(child / "optimizer.pt", 500)
    code, findings = asked(capsys, tmp_path / "trainer_state.json", child, tmp_path / "parent")
    assert (of(findings, STATE)[0]["status"], of(findings, STATE)[0]["numbers"]["optimizer_steps"]) == ("found", 500)
    assert (code, of(findings, STATE)[0]["severity"]) == (0, "medium")


@pytest.mark.parametrize(("size", "status"), [(NEAR, "ok"), (4 * FAR, "found")])
def test_it_names_the_optimizer_that_no_paper_names(tmp_path: Path, capsys: pytest.CaptureFixture[str], size: float, status: str) -> None:
    """Without the state the betas are taken and nothing is judged; it holds them."""
    folder(tmp_path / "parent", model(0))
    made = folder(tmp_path / "child", trained(model(0), size))
    (tmp_path / "trainer_state.json").write_text(state())
    _, before = asked(capsys, tmp_path / "trainer_state.json", made, tmp_path / "parent")
    assert [finding["status"] for finding in of(before, MOVED)] == ["unknown"]
    optimizer(made / "optimizer.pt", 400)
    _, after = asked(capsys, tmp_path / "trainer_state.json", made, tmp_path / "parent")
    assert [finding["status"] for finding in of(after, MOVED)] == [status]


def test_none_is_not_applicable_and_a_broken_one_says_so(child: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, findings = asked(capsys, child / "trainer_state.json", child, child.parents[1] / "parent")
    assert (code, [finding["status"] for finding in of(findings, STATE)]) == (0, ["not-applicable"])
    (child / "optimizer.pt").write_bytes(b"not a state of anything, but long enough")
    code, findings = asked(capsys, child / "trainer_state.json", child, child.parents[1] / "parent")
    assert (code, [finding["status"] for finding in of(findings, STATE)]) == (0, ["unknown"])
    assert "optimizer.pt" in of(findings, STATE)[0]["text"] + of(findings, STATE)[0]["why"]


def test_a_state_of_other_betas_than_the_papers_name_leaves_it_open(child: Path, capsys: pytest.CaptureFixture[str]) -> None:
    optimizer(child / "optimizer.pt", 400)
    (child / "README.md").write_text(CARD)
    code, findings = asked(capsys, child / "trainer_state.json", child, child.parents[1] / "parent")
    assert (code, [finding["status"] for finding in of(findings, MOVED)]) == (2, ["unknown"])


def test_it_is_not_asked_for_without_a_checkpoint(child: Path, capsys: pytest.CaptureFixture[str]) -> None:
    optimizer(child / "optimizer.pt", 600)
    assert main(["log", str(child / "trainer_state.json"), "--format", "json"]) == 0
    assert not of(json.loads(capsys.readouterr().out)["findings"], STATE)


def test_an_adapter_on_its_base_has_steps_but_no_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "base", OF_BASE)
    made = write(tmp_path / "adapter", OF_ADAPTER)
    (made / "trainer_state.json").write_text(state())
    optimizer(made / "optimizer.pt", 600)
    code, findings = asked(capsys, made, f"{tmp_path}/base+{made}", tmp_path / "base")
    assert of(findings, STATE)[0]["numbers"] == {"logged_steps": 400, "optimizer_steps": 600}
    assert "factors" in of(findings, MOVED)[0]["text"] + of(findings, MOVED)[0]["why"]
    assert code == 1
