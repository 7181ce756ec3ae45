"""The log against the weights through the command line and the audit: verdicts, exit codes, and what is asked of whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from demo.hub_server import HubServer
from demo.repository import Repository
from modelguard.cli import main
from tests.fingerprint.zoo import Array, Tensors, model, permuted

RULE = "log-cannot-explain-weights"
HYPERPARAMETERS = "\n- learning_rate: 0.0001\n- optimizer: Use adamw_torch with betas=(0.9,0.95) and epsilon=1e-08\n"
CARD = f"---\nbase_model: lab/base\nbase_model_relation: finetune\n---\n{HYPERPARAMETERS}"
BARE = "---\nbase_model: lab/base\nbase_model_relation: finetune\n---\n"


def trained(tensors: Tensors, size: float) -> Tensors:
    """Every entry moved by at most `size`, and all of them along one strong direction, which tells training from noise."""
    rng = np.random.default_rng(1)

    def moved(value: Array) -> Array:
        sides = (np.sign(rng.standard_normal(side)) for side in value.shape)
        direction = np.multiply.outer(*sides) if value.ndim == 2 else next(sides)
        return np.asarray(value + direction * rng.uniform(-size / 2, size, value.shape), dtype=np.float32)

    return {name: moved(value) for name, value in tensors.items()}


NEAR, FAR = 0.02, 0.08  # 400 steps of 1e-4 with betas .9 and .95 allow 0.047


def state(final: int = 400) -> str:
    rows = [{"step": step, "epoch": step / 100, "loss": 2.0 / (1 + step / 50), "learning_rate": 1e-4} for step in range(10, final + 1, 10)]
    return json.dumps({"global_step": final, "max_steps": final, "logging_steps": 10, "log_history": rows}, indent=2, sort_keys=True)


def folder(place: Path, tensors: Tensors, card: str = "") -> Path:
    place.mkdir(parents=True)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, place / "model.safetensors")
    if card:
        (place / "README.md").write_text(card)
    return place


def asked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Path, base: Path | None = None
) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """(exit code, document, our rule's first finding) of `modelguard log --checkpoint`."""
    parent = base or folder(tmp_path / "parent", model(0))
    (tmp_path / "trainer_state.json").write_text(state())
    paths = ["--checkpoint", str(checkpoint), "--base-checkpoint", str(parent)]
    code = main(["log", str(tmp_path / "trainer_state.json"), *paths, "--quiet", "--format", "json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, document, next(finding for finding in document["findings"] if finding["rule"] == RULE)


@pytest.mark.parametrize(
    ("size", "card", "code", "status"),
    [(NEAR, CARD, 0, "ok"), (FAR, CARD, 1, "found"), (NEAR, BARE, 2, "unknown"), (1.0, BARE, 2, "unknown")],
    ids=["within", "beyond", "undeclared", "undeclared-beyond"],
)
def test_the_log_command(capsys: pytest.CaptureFixture[str], tmp_path: Path, size: float, card: str, code: int, status: str) -> None:
    got, document, finding = asked(capsys, tmp_path, folder(tmp_path / "child", trained(model(0), size), card))
    assert (got, finding["status"]) == (code, status), finding["text"]
    assert document["schema"] == "modelguard.log/1"


def test_weights_of_another_initialisation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, finding = asked(capsys, tmp_path, folder(tmp_path / "child", model(7), CARD))
    assert (code, finding["status"], finding["severity"]) == (1, "found", "high")


def test_permuted_weights_are_not_moved_by_training(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, finding = asked(capsys, tmp_path, folder(tmp_path / "child", permuted(model(0)), CARD))
    assert (code, finding["status"]) == (2, "unknown")
    assert "permuted" in finding["text"]


def test_a_checkpoint_folder_ahead_of_the_log(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ahead = folder(tmp_path / "checkpoint-900", trained(model(0), NEAR), CARD)
    code, document, _ = asked(capsys, tmp_path, ahead)
    texts = [finding["text"] for finding in document["findings"] if finding["rule"] == RULE and finding["status"] == "found"]
    assert code == 1
    assert "900" in texts[0]
    (tmp_path / "again").mkdir()
    at_end = folder(tmp_path / "again" / "checkpoint-400", trained(model(0), NEAR), CARD)
    (at_end / "trainer_state.json").write_text(state())
    assert asked(capsys, tmp_path, at_end, tmp_path / "parent")[0] == 0


def test_the_two_checkpoints_belong_together(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_text(state())
    assert main(["log", str(tmp_path / "trainer_state.json"), "--checkpoint", str(tmp_path)]) == 3
    assert "--base-checkpoint" in capsys.readouterr().err


def test_a_configuration_beside_the_weights_that_cannot_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    child = folder(tmp_path / "child", trained(model(0), FAR))
    (child / "training_config.yaml").write_text("optim: !!python/object:os.system x\n")
    code, _, finding = asked(capsys, tmp_path, child)
    assert (code, finding["status"]) == (2, "unknown")


@pytest.mark.parametrize(
    ("size", "card", "code", "status"),
    [(NEAR, CARD, 0, "ok"), (FAR, CARD, 1, "found"), (NEAR, BARE, 0, "unknown")],
    ids=["within", "beyond", "undeclared"],
)
def test_the_audit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: float, card: str, code: int, status: str
) -> None:
    parent = folder(tmp_path / "base", model(0))
    child = folder(tmp_path / "child", trained(model(0), size))
    repository = Repository(tmp_path / "repository")
    with HubServer({"lab/base": parent}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        repository.branch(
            "pr", {"m/model.safetensors": child / "model.safetensors", "m/README.md": card, "m/trainer_state.json": state()}, "Add"
        )
        options = ["--base", "main", "--head", "pr", "--activations", "off", "--quiet", "--format", "json"]
        got = main(["audit", "--repo", str(repository.path), *options])
    document = json.loads(capsys.readouterr().out)
    finding = next(finding for finding in document["findings"] if finding["rule"] == RULE)
    assert (got, finding["status"]) == (code, status), document["findings"]
