"""Runs of the real HF Trainer, resumed twice and rolled back once, raise no alarm; nor do they as older versions log them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from modelguard.logs.base import assemble
from modelguard.types.findings import Level, Status
from modelguard.types.logs import TrainingLog
from tests.logs.forgery_table import claims

pytestmark = pytest.mark.slow
STEPS, EVERY, SAVED = 62, 2, 10
BASE, WARM = 1e-3, 6


def train(folder: Path, schedule: str, stop: int, resume: str | None) -> None:
    """One process of training: from a checkpoint or from nothing, up to `stop` of `STEPS` steps."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Stop(TrainerCallback):  # type: ignore[misc]
        """Ends the process as a scheduler would, but after the step is logged."""

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            control.should_training_stop = control.should_training_stop or state.global_step >= stop

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            out = self.layer(x)
            return {"loss": (out[:, 0] - labels).square().mean(), "logits": out}

    torch.manual_seed(1)
    data = [{"x": x, "labels": x.sum() + 0.1 * torch.randn(())} for x in torch.randn(256, 8)]
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        logging_steps=EVERY,
        save_steps=SAVED,
        per_device_train_batch_size=8,
        learning_rate=BASE,
        lr_scheduler_type=schedule,
        warmup_steps=WARM,
        report_to=["tensorboard"],
        use_cpu=True,
        disable_tqdm=True,
        logging_nan_inf_filter=False,
    )
    trainer = Trainer(model=Tiny(), args=arguments, train_dataset=data, callbacks=[Stop()])
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_state()


@pytest.fixture(scope="module", params=["linear", "cosine"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four processes: to step 24, from 20 to 46, back from 30 to 48, and from 40 to the end."""
    pytest.importorskip("transformers")
    place = tmp_path_factory.mktemp(request.param)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for stop, start in ((24, None), (46, 20), (48, 30), (STEPS, 40)):
            train(place, request.param, stop, str(place / f"checkpoint-{start}") if start else None)
    return place


def files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.name == "trainer_state.json" or ".tfevents." in path.name]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def alarms(contents: dict[str, bytes]) -> list[tuple[str, str]]:
    log = assemble(contents)
    assert isinstance(log, TrainingLog), log
    told = list(claims(log))
    assert any(claim.status is Status.OK for claim in told)
    return [(claim.where, claim.text) for claim in told if claim.status is Status.FOUND and claim.severity >= Level.MEDIUM]


def test_a_run_of_four_processes_raises_no_alarm(folder: Path) -> None:
    contents = files(folder)
    assert "trainer_state.json" in contents
    assert alarms(contents) == []
    for name, data in contents.items():
        assert alarms({name: data}) == [] or "tfevents" in name  # one process's own file begins where it resumed


def test_the_rows_of_the_last_process_make_its_mean(folder: Path) -> None:
    log = assemble({"trainer_state.json": (folder / "trainer_state.json").read_bytes()})
    assert isinstance(log, TrainingLog)
    (identity,) = [identity for _, identity in log.identities("log-totals") if identity.name == "train-loss"]
    assert identity.numbers["resumed_at"] == 40


def test_an_edit_of_the_last_process_is_found(folder: Path) -> None:
    state = json.loads((folder / "trainer_state.json").read_bytes())
    for row in state["log_history"]:
        if "loss" in row and row["step"] > 50:
            row["loss"] *= 0.9
    found = alarms({"trainer_state.json": json.dumps(state, indent=2, sort_keys=True).encode()})
    assert any("train_loss says" in text for _, text in found)


def test_the_same_run_as_older_versions_log_it_raises_no_alarm(folder: Path) -> None:
    """4.x rounds losses, logs the rate after the scheduler's step, divides the last process's sum by all steps, and states planned ones."""
    state = json.loads((folder / "trainer_state.json").read_bytes())
    rates = {row["step"]: row["learning_rate"] for row in state["log_history"] if "loss" in row}
    for row in state["log_history"]:
        if "loss" in row:
            after = rates.get(row["step"] + EVERY, 0.0)
            row.update(
                loss=round(row["loss"], 4),
                epoch=round(row["epoch"], 2),
                learning_rate=after if folder.name.startswith("cosine") else linear(row["step"]),
            )
        elif "train_loss" in row:
            row.update(train_loss=row["train_loss"] * (STEPS - 40) / STEPS, train_steps_per_second=round(STEPS / row["train_runtime"], 3))
    assert alarms({"trainer_state.json": json.dumps(state, indent=2, sort_keys=True).encode()}) == []


def linear(step: int) -> float:
    return BASE * (step / WARM if step < WARM else max(0.0, (STEPS - step) / (STEPS - WARM)))
