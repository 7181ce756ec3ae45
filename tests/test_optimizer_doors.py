"""The optimizer's state and the commit's date through the audit, on a real repository with files that torch wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fingerprint.zoo import tuned
from tests.test_audit import BASE, CARD, Place, audit
from tests.test_audit import place as place  # the fixture

torch = pytest.importorskip("torch")


def optimizer(path: Path, steps: int) -> Path:
    layer = torch.nn.Linear(2, 2)
    made = torch.optim.AdamW(layer.parameters(), lr=1e-4)
    for _ in range(steps):
        layer(torch.ones(1, 2)).sum().backward()
        made.step()
    torch.save(made.state_dict(), path)
    return path


@pytest.mark.parametrize(("steps", "status"), [(500, "ok"), (700, "found")])
def test_the_optimizers_steps_are_held_against_the_log(place: Place, capsys: pytest.CaptureFixture[str], steps: int, status: str) -> None:
    files = {"m/model.safetensors": place.weights(tuned(BASE)), "m/README.md": CARD, "m/trainer_state.json": place.log(range(10, 501, 10))}
    place.pull_request({**files, "m/optimizer.pt": optimizer(place.folder / "optimizer.pt", steps)})
    code, document = audit(place, capsys)
    told = [finding for finding in document["findings"] if finding["rule"] == "log-optimizer-state"]
    assert {finding["status"] for finding in told} == {"ok", status}
    assert told[0]["numbers"]["optimizer_steps"] == steps
    assert code == (0 if status == "ok" else 1)


def test_a_log_that_is_younger_than_its_commit_is_shown_and_blocks_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    future = 4e9
    rows = [
        json.dumps({"step": step, "loss": 2 / (1 + step / 50), "timestamp": future + step * 1.37 + step % 7}) for step in range(10, 501, 10)
    ]
    files = {"m/model.safetensors": place.weights(tuned(BASE)), "m/README.md": CARD, "m/log.jsonl": "\n".join(rows) + "\n"}
    place.pull_request(files)
    code, document = audit(place, capsys)
    (told,) = [finding for finding in document["findings"] if finding["rule"] == "log-clock"]
    assert (told["status"], told["severity"]) == ("found", "low")
    assert "younger than the commit" in told["text"]
    assert code == 0
