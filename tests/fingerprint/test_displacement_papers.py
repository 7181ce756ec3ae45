"""What bears on a log beside the bounds: norms of weights, frozen parts, adapters' ranks, checkpoints of one run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from modelguard.checks.log_cannot_explain_weights import check
from modelguard.cli import main
from modelguard.displacement.against_log import displacement, held_against
from modelguard.displacement.bounds import NoBound
from modelguard.displacement.schedule import Window, schedule
from modelguard.displacement.settings import from_config
from modelguard.types.displacement import OptimizerSettings
from modelguard.types.findings import Claim, Level, Missing, Status
from modelguard.types.logs import LogRecord, Run, TrainingLog
from tests.fingerprint.zoo import Arrays

ADAM = OptimizerSettings(name="adamw", betas=(0.9, 0.95), weight_decay=0.0, source="README.md")
Array = NDArray[np.float64]
Tensors = dict[str, Array]
SHAPES = {"layers.0.attn.weight": (48, 40), "layers.1.attn.weight": (48, 40), "layers.1.mlp.weight": (48, 40), "norm.weight": (40,)}


def model(seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape) * 0.1 for name, shape in SHAPES.items()}


def moved(tensors: Tensors, size: float, seed: int = 1, only: str = "") -> Tensors:
    rng = np.random.default_rng(seed)
    return {name: value + (only in name) * size * rng.uniform(-1, 1, value.shape) for name, value in tensors.items()}


def arrays(tensors: Tensors, ref: str = "child", kind: object = np.float32) -> Arrays:
    return Arrays({name: value.astype(kind) for name, value in tensors.items()}, ref)  # type: ignore[call-overload]


def norm(tensors: Tensors) -> float:
    return float(np.sqrt(sum((value**2).sum() for value in tensors.values())))


def told(steps: int, norms: dict[int, float] | None = None, rate: float = 1e-3, name: str = "params_norm", digits: int = 9) -> TrainingLog:
    """A log of a row a step, with the weights' norms where named."""
    values = [{"loss": 2.0, "learning_rate": rate} for _ in range(steps)]
    for step, value in (norms or {}).items():
        values[step - 1][name] = round(value, digits)
    records = tuple(LogRecord(step=step, kind="train", values=row) for step, row in enumerate(values, start=1))
    return TrainingLog(runs=(Run(source="trainer_state.json", format="hf-trainer", records=records, claimed={"global_step": steps}),))


def between(first: Tensors, last: Tensors, steps: int = 100) -> dict[int, float]:
    """The norms of a straight way from one to the other."""
    return dict(enumerate(np.linspace(norm(first), norm(last), steps + 1)[1:].tolist(), start=1))


def claims(child: Arrays, parent: Arrays, log_: TrainingLog, stated: OptimizerSettings = ADAM, reached: int = 0) -> list[Claim]:
    return list(check(displacement(child, parent, log_, stated, reached=reached)))


def of_norms(found: list[Claim]) -> list[Claim]:
    return [claim for claim in found if "logged_norm" in claim.numbers]


@pytest.mark.parametrize("name", ["params_norm", "params norm", "train/param_norm", "weight_norm", "l2_norm/param/all"])
@pytest.mark.parametrize("digits", [9, 3])
def test_a_logged_norm_of_the_weights_fits_the_checkpoint_or_not(name: str, digits: int) -> None:
    base = model()
    after = {key: value * 1.05 for key, value in base.items()}
    further = {key: value * 1.07 for key, value in base.items()}
    log_ = told(100, between(base, after), name=name, digits=digits)
    (fits,) = of_norms(claims(arrays(after), arrays(base, "parent"), log_))
    (fails,) = of_norms(claims(arrays(further), arrays(base, "parent"), log_))
    assert (fits.status, fails.status) == (Status.OK, Status.FOUND), fails.text
    assert (fails.severity, fails.confidence) == (Level.HIGH, Level.HIGH)
    (elsewhere,) = of_norms(claims(arrays(after), arrays({key: value * 0.9 for key, value in base.items()}, "parent"), log_))
    assert elsewhere.status is Status.FOUND
    assert "the base has" in elsewhere.text


def test_norms_speak_where_no_bound_holds() -> None:
    base = model()
    after, further = ({key: value * by for key, value in base.items()} for by in (1.05, 1.07))
    log_, strange = told(100, between(base, after)), replace(ADAM, name="prodigy")
    found = held_against(arrays(further), arrays(base), log_, strange)
    assert not isinstance(found, Missing)
    assert [claim.status for claim in check(found)] == [Status.NOT_APPLICABLE, Status.FOUND]
    assert isinstance(held_against(arrays(further), arrays(base), told(100), strange), Missing)


def test_norms_of_other_weights_and_of_earlier_checkpoints_accuse_nobody() -> None:
    base, after = model(), {key: value * 1.05 for key, value in model().items()}
    other = told(100, {step: value * 0.5 for step, value in between(base, after).items()})
    assert of_norms(claims(arrays(after), arrays(base), other)) == []
    earlier = {key: value * 1.03 for key, value in base.items()}
    (claim,) = of_norms(claims(arrays(earlier), arrays(base), told(100, between(base, after))))
    assert claim.status is Status.UNKNOWN
    assert "earlier checkpoint" in claim.text
    at_its_step = of_norms(claims(arrays(earlier), arrays(base), told(100, between(base, after)), reached=60))
    assert [claim.status for claim in at_its_step] == [Status.OK]


@pytest.mark.parametrize("kind", [np.float32, ml_dtypes.bfloat16])
def test_norms_of_weights_saved_with_sixteen_bits(kind: object) -> None:
    rng = np.random.default_rng(2)
    base = {"a.weight": rng.standard_normal((300, 200)), "b.weight": rng.standard_normal((300, 200))}
    stored = {key: value.astype(kind).astype(np.float64) for key, value in base.items()}  # type: ignore[call-overload]
    after, further = ({key: value * by for key, value in stored.items()} for by in (1.02, 1.03))
    log_ = told(100, between(stored, after))
    statuses = [of_norms(claims(arrays(child, kind=kind), arrays(base, kind=kind), log_))[0].status for child in (after, further)]
    assert statuses == [Status.OK, Status.FOUND]


@pytest.mark.parametrize("values", [{1: float("nan"), 2: float("inf")}, {1: 0.0, 2: 0.0}, {5: 1e29}, {1: -3.0, 2: 1e-30, 3: 1e29}])
def test_absurd_norms_say_nothing(values: dict[int, float]) -> None:
    base = model()
    assert of_norms(claims(arrays(moved(base, 0.01)), arrays(base), told(100, values))) == []


def test_parts_that_are_stated_as_frozen() -> None:
    stated = replace(ADAM, frozen=from_config(b"freeze_norm: true\nfrozen_layers: [layers.0, '(a+)+$']\n", "c.yaml").frozen)
    assert stated.frozen == ("layers.0", "norm")
    base = model()
    still, thaw = moved(base, 0.01, only="layers.1"), moved(base, 0.01)
    assert [claim.status for claim in claims(arrays(still), arrays(base), told(100), stated)] == [Status.OK]
    assert [claim.status for claim in claims(arrays(still, kind=ml_dtypes.bfloat16), arrays(base), told(100), stated)] == [Status.OK]
    found = claims(arrays(thaw), arrays(base), told(100), stated)
    assert [claim.status for claim in found] == [Status.OK, Status.FOUND]
    assert found[1].numbers["frozen_and_moved"] == 2


LORA = b"optim: adamw_torch\nadam_beta1: 0.9\nadam_beta2: 0.95\nlora_r: 4\nmodules_to_save: [layers.1.mlp]\n"


def merged(base: Tensors, rank: int, seed: int = 4) -> Tensors:
    rng = np.random.default_rng(seed)
    return {
        name: value + (rng.standard_normal((48, rank)) @ rng.standard_normal((rank, 40)) * 0.05 if value.ndim == 2 else 0.0)
        for name, value in base.items()
    }


@pytest.mark.parametrize("kind", [np.float32, ml_dtypes.bfloat16, np.float16])
def test_an_adapters_log_beside_weights_that_moved_in_every_direction(kind: object) -> None:
    stated, base = from_config(LORA, "c.yaml"), model()
    assert (stated.rank, stated.whole) == (4, ("layers.1.mlp",))
    before = {name: value.astype(kind).astype(np.float64) for name, value in base.items()}  # type: ignore[call-overload]
    for child, status in ((merged(before, 4), Status.OK), (merged(before, 20), Status.FOUND), (moved(before, 0.1), Status.FOUND)):
        found = claims(arrays(child, kind=kind), arrays(base, kind=kind), told(100), stated)
        assert [claim.status for claim in found] == [Status.NOT_APPLICABLE, status], found[-1].text
        assert found[-1].numbers["matrices"] == 2


@pytest.mark.parametrize("line", [b"use_dora: true", b"load_in_4bit: true", b"peft_init_lora_weights: pissa", b"lora_rank: -1"])
def test_adapters_whose_merge_has_a_higher_rank_are_not_judged_by_it(line: bytes) -> None:
    with pytest.raises(NoBound, match="adapter"):
        displacement(
            arrays(moved(model(), 0.1)),
            arrays(model()),
            told(100),
            from_config(LORA.replace(b"lora_r: 4", b"lora_r: 4\n" + line) if b"rank" not in line else line + b"\nlora: true", "c.yaml"),
        )


def saved(place: Path, tensors: Tensors) -> str:
    place.mkdir(parents=True)
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, place / "model.safetensors")
    return str(place)


def test_two_checkpoints_of_one_run_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"step": step, "epoch": step / 100, "loss": 2.0, "learning_rate": 1e-3} for step in range(10, 1001, 10)]
    state = {"global_step": 1000, "max_steps": 1000, "logging_steps": 10, "log_history": rows}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state, indent=2, sort_keys=True))
    first = saved(tmp_path / "run/checkpoint-100", model())
    for step, size, code in ((200, 0.05, 0), (300, 0.4, 1), (400, 2.0, 1)):
        last = Path(saved(tmp_path / f"run/checkpoint-{step}", moved(model(), size)))
        (last / "README.md").write_text("- optimizer: adamw_torch with betas=(0.9,0.95)\n- weight_decay: 0.0\n")
        options = ["--checkpoint", str(last), "--base-checkpoint", first, "--quiet", "--format", "json"]
        assert main(["log", str(tmp_path / "trainer_state.json"), *options]) == code, size
        findings = json.loads(capsys.readouterr().out)["findings"]
        (ours,) = (finding for finding in findings if finding["rule"] == "log-cannot-explain-weights")
        assert ours["numbers"]["steps"] == step - 100


def test_only_the_steps_between_two_checkpoints_of_one_run_count() -> None:
    log_, base = told(1000), model()
    whole, part = schedule(log_), schedule(log_, window=Window(100, 200))
    assert (len(whole.rates), len(part.rates), part.warm) == (1001, 101, 100)
    child, ref = moved(base, 0.2), "run/checkpoint-200/model.safetensors"
    parents = {
        "run/checkpoint-100/model.safetensors": Status.FOUND,  # a hundred steps of 1e-3
        "other/checkpoint-100/model.safetensors": Status.OK,  # another run's: all steps up to this one count
        "base/model.safetensors": Status.OK,
    }
    for parent, status in parents.items():
        assert claims(arrays(child, ref), arrays(base, parent), log_, reached=200)[0].status is status, parent
    assert claims(arrays(moved(base, 0.05), ref), arrays(base, next(iter(parents))), log_, reached=200)[0].status is Status.OK
    assert claims(arrays(moved(base, 0.4), ref), arrays(base, "base/model.safetensors"), log_, reached=200)[0].status is Status.FOUND


@pytest.mark.parametrize("name", ["train/global_step", "optimizer_steps", "num_updates"])
def test_a_counter_that_shows_several_updates_a_step_accuses_nobody(name: str) -> None:
    run = told(100).runs[0]
    for pace, status in ((1, Status.FOUND), (4, Status.UNKNOWN)):
        rows = tuple(replace(record, values={**record.values, name: float(pace * record.step)}) for record in run.records)
        claim = claims(arrays(moved(model(), 2.0)), arrays(model()), TrainingLog(runs=(replace(run, records=rows),)))[0]
        assert claim.status is status


def test_several_updates_a_step_in_the_configuration_leave_no_bound() -> None:
    stated = from_config(b"optim: adamw_torch\nadam_beta1: 0.9\nadam_beta2: 0.95\nnum_ppo_epochs: 4\n", "c.yaml")
    with pytest.raises(NoBound, match="several updates"):
        displacement(arrays(moved(model(), 2.0)), arrays(model()), told(100), stated)
    assert from_config(b"optim: adamw_torch\nnum_iterations: 1\n", "c.yaml").obstacles == ()


def test_a_new_head_under_an_old_name_explains_another_norm_of_the_base() -> None:
    base = model()
    start = {**base, "layers.1.mlp.weight": model(9)["layers.1.mlp.weight"] * 1.5}
    after = moved(start, 0.01)
    (claim,) = of_norms(claims(arrays(after), arrays(base), told(100, between(start, after)), OptimizerSettings(name="prodigy")))
    assert claim.status is Status.UNKNOWN
    assert "made anew" in claim.text


def test_pruned_weights_explain_another_norm_and_another_rank() -> None:
    base = model()
    after = {name: value * 1.05 for name, value in base.items()}
    pruned = {name: value * (np.abs(value) > 0.07) for name, value in after.items()}
    for stated in (ADAM, from_config(LORA, "c.yaml"), replace(ADAM, frozen=("norm",))):
        told_norms = told(100, between(base, after))
        assert all(claim.status is not Status.FOUND for claim in claims(arrays(pruned), arrays(base), told_norms, stated))
