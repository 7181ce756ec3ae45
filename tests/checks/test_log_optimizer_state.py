"""The optimizer's own files against the log: states that torch wrote, beside logs that agree with them and logs that do not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.optimizer_state import completed_by, optimizer_state_of
from modelguard.checks.log_optimizer_state import check
from modelguard.errors import Malformed
from modelguard.types.displacement import OptimizerSettings
from modelguard.types.findings import Claim, Level, Missing, Status
from modelguard.types.optimizer_state import OptimizerState
from tests.logs.building import lines, log_of, state

torch = pytest.importorskip("torch")
FOLDER = "model/checkpoint-40"


def trained(path: Path, steps: int, kind: str = "AdamW", **settings: Any) -> OptimizerState:
    """The state after some steps, read from the files that torch wrote."""
    model = torch.nn.Linear(3, 2)
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=1e-5, **settings)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    for _ in range(steps):
        model(torch.ones(4, 3)).sum().backward()
        optimizer.step()
        scheduler.step()
    torch.save(optimizer.state_dict(), path / "optimizer.pt")
    torch.save(scheduler.state_dict(), path / "scheduler.pt")
    found = optimizer_state_of(LocalFolder(path, "x"), FOLDER)
    assert isinstance(found, OptimizerState)
    return found


def said(steps: int, found: OptimizerState, name: str = f"{FOLDER}/trainer_state.json") -> list[Claim]:
    data = state(range(10, steps + 1, 10)) if name.endswith(".json") else lines(range(10, steps + 1, 10))
    return list(check(log_of({name: data}), found))


def test_a_state_is_read_as_torch_wrote_it(tmp_path: Path) -> None:
    found = trained(tmp_path, 40, betas=(0.9, 0.95), weight_decay=0.1)
    assert (found.steps, found.last_epoch, found.kind) == ((40, 40), 40, "adamw")
    assert (found.betas, found.weight_decays, found.rates, found.peaks) == (((0.9, 0.95),), (0.1,), (1e-5,), (1e-5,))
    assert found.last_rates == (1e-5,)
    momentum = trained(tmp_path, 3, "SGD", momentum=0.9)
    assert (momentum.kind, momentum.momentum, momentum.steps, momentum.last_epoch) == ("sgd", 0.9, None, 3)


def test_a_state_that_agrees_with_the_log_beside_it(tmp_path: Path) -> None:
    claims = said(40, trained(tmp_path, 40))
    assert [claim.status for claim in claims] == [Status.OK] * 3
    assert claims[0].numbers == {"logged_steps": 40, "optimizer_steps": 40}


def test_honest_differences(tmp_path: Path) -> None:
    found = trained(tmp_path, 40)
    skipped = replace(found, steps=(30, 38), last_epoch=38)
    processes, by_epoch = replace(found, last_epoch=320), replace(found, last_epoch=1)
    for honest in (skipped, processes, by_epoch):
        assert {claim.status for claim in said(40, honest)} == {Status.OK}
    assert [claim.status for claim in said(400, found, "train.jsonl")] == [Status.OK]  # a checkpoint in the middle of a longer log


def test_more_steps_than_the_log_accounts_for(tmp_path: Path) -> None:
    found = trained(tmp_path, 90)
    broken = [claim for claim in said(40, found) if claim.status is Status.FOUND]
    assert [claim.severity for claim in broken] == [Level.HIGH, Level.MEDIUM]
    assert "took 90 steps" in broken[0].text
    (elsewhere,) = said(40, found, "logs/train.jsonl")
    assert (elsewhere.status, elsewhere.severity) == (Status.FOUND, Level.MEDIUM)
    fewer = [claim for claim in said(400, found) if claim.status is Status.FOUND]
    assert [claim.severity for claim in fewer] == [Level.MEDIUM, Level.MEDIUM]


def test_another_rate_than_the_last_logged_one(tmp_path: Path) -> None:
    found = replace(trained(tmp_path, 40), rates=(3e-5, 2e-5))
    broken = [claim for claim in said(40, found) if claim.status is Status.FOUND]
    assert [claim.numbers["optimizer_rate"] for claim in broken] == [3e-5]


def test_settings_are_completed_and_contradictions_named(tmp_path: Path) -> None:
    found = trained(tmp_path, 2, betas=(0.9, 0.95), weight_decay=0.1)
    alone = completed_by(OptimizerSettings(), found)
    assert (alone.name, alone.betas, alone.weight_decay, alone.learning_rate) == ("adamw", (0.9, 0.95), 0.1, 1e-5)
    assert (alone.source, alone.obstacles) == ("optimizer.pt", ())
    papers = completed_by(OptimizerSettings(name="adamw", betas=(0.9, 0.999), source="README.md"), found)
    assert (papers.betas, papers.source) == ((0.9, 0.999), "README.md")
    assert papers.obstacles == ("it states betas (0.9, 0.999), optimizer.pt has (0.9, 0.95)",)
    several = completed_by(OptimizerSettings(), replace(found, peaks=(1e-5, 2e-5)))
    assert several.obstacles == ("optimizer.pt has groups of different betas or rates",)


@pytest.mark.parametrize("value", [7, {"state": []}, {"param_groups": [], "state": 3}, [1], {"param_groups": [1], "state": {}}])
def test_files_that_are_no_state_are_refused(value: object, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "optimizer.pt")
    with pytest.raises(Malformed, match="no state of an optimizer"):
        optimizer_state_of(LocalFolder(tmp_path, "x"), "")


def test_wild_values_say_nothing(tmp_path: Path) -> None:
    group = {"lr": math.nan, "betas": (2.0, "x"), "weight_decay": torch.tensor(math.inf), "initial_lr": True}
    entries = {0: {"step": torch.tensor(1.5)}, 1: {"step": -3}, 2: 5, 3: {"step": torch.ones(2)}, 4: {"step": None}}
    torch.save({"state": entries, "param_groups": [group]}, tmp_path / "optimizer.pt")
    torch.save({"last_epoch": math.nan, "_last_lr": [None, "x"]}, tmp_path / "scheduler.pt")
    found = optimizer_state_of(LocalFolder(tmp_path, "x"), "")
    assert found == OptimizerState(sources=("optimizer.pt", "scheduler.pt"), folder="")
    (empty := tmp_path / "empty").mkdir()
    assert isinstance(optimizer_state_of(LocalFolder(empty, "x"), ""), Missing)
    (claim,) = check(log_of({"a.jsonl": lines(range(9))}), found)
    assert claim.status is Status.NOT_APPLICABLE
