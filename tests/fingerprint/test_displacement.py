"""The movement bounds: the arithmetic, honest runs that must never exceed them, and what an excess is when training explains it not."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelguard.checks.log_cannot_explain_weights import check
from modelguard.displacement.against_log import displacement, held_against, with_doubts
from modelguard.displacement.bounds import NoBound, adam_factor, bound
from modelguard.displacement.schedule import fill, schedule
from modelguard.types.displacement import OptimizerSettings
from modelguard.types.findings import Absence, Claim, Level, Missing, Status
from modelguard.types.logs import LogRecord, Run, TrainingLog
from tests.fingerprint.moving import log
from tests.fingerprint.zoo import Arrays

ADAM = OptimizerSettings(name="adamw", betas=(0.9, 0.95), weight_decay=0.0, source="README.md")
SHAPES = {"layer.0.weight": (24, 20), "layer.1.weight": (24, 20), "layer.2.weight": (24, 20), "norm.weight": (20,)}
Array = NDArray[np.float64]


def adam(gradients: Array, betas: tuple[float, float], rates: Array, decay: float = 0.0, start: Array | float = 0.0) -> Array:
    """Plain AdamW in float64 on gradients (T, d) at rates (T,): the weights after it."""
    m = v = np.zeros(gradients.shape[1])
    weights = np.zeros(gradients.shape[1]) + start
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        m, v = betas[0] * m + (1 - betas[0]) * gradient, betas[1] * v + (1 - betas[1]) * gradient**2
        update = (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + 1e-30)
        weights = weights * (1 - rate * decay) - rate * update
    return weights


@pytest.mark.parametrize(
    ("betas", "expected"),
    [
        ((0.9, 0.999), (1.043, 2.243, 5.781)),
        ((0.9, 0.99), (1.036, 1.867, 2.345)),
        ((0.9, 0.98), (1.029, 1.581, 1.698)),
        ((0.9, 0.95), (1.011, 1.162, 1.165)),
        ((0.95, 0.95), (1.0, 1.0, 1.0)),
        ((0.95, 0.999), (1.010, 1.579, 4.045)),
    ],
)
def test_the_factor_of_adam(betas: tuple[float, float], expected: tuple[float, float, float]) -> None:
    factors = adam_factor(betas, 1000)
    assert factors[0] == pytest.approx(1.0)
    assert tuple(factors[[9, 99, 999]]) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.95), (0.95, 0.999)])
@pytest.mark.parametrize("steps", [1, 10, 100, 1000])
def test_the_factor_is_reached_by_the_worst_gradients(betas: tuple[float, float], steps: int) -> None:
    worst = (betas[0] / betas[1]) ** np.arange(steps - 1, -1, -1.0)
    last = np.zeros(steps)
    last[-1] = 1.0  # only the last step moves, so that its update alone is seen
    assert abs(adam(worst[:, None], betas, last)[0]) == pytest.approx(adam_factor(betas, steps)[-1], rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    betas=st.sampled_from([(0.9, 0.999), (0.9, 0.95), (0.95, 0.95), (0.8, 0.99), (0.0, 0.9)]),
    steps=st.integers(1, 60),
    decay=st.sampled_from([0.0, 0.1]),
    kind=st.sampled_from(["normal", "sparse", "constant", "growing", "heavy"]),
)
def test_no_gradients_exceed_the_bound(seed: int, betas: tuple[float, float], steps: int, decay: float, kind: str) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((steps, 16))
    gradients = {
        "normal": noise,
        "sparse": noise * (rng.random(noise.shape) < 0.1),
        "constant": np.ones_like(noise),
        "growing": noise[:1] * (betas[0] / betas[1] if betas[0] else 1.5) ** np.arange(steps, 0, -1.0)[:, None],
        "heavy": rng.standard_cauchy(noise.shape),
    }[kind]
    rates, start = rng.random(steps) * 1e-2, rng.standard_normal(16)
    limit = bound(OptimizerSettings(name="adamw", betas=betas, weight_decay=decay), rates)
    moved = np.abs(adam(gradients, betas, rates, decay, start) - start)
    assert (moved <= (limit.reach + limit.drift * np.abs(start)) * (1 + 1e-9)).all()


def shapes(name: str, warmup: int, total: int, steps: Array) -> Array:
    """Schedules of the usual kinds, of peak 1."""
    rest = np.clip((total - steps) / max(1, total - warmup), 0, 1)
    falling = {"linear": rest, "cosine": 0.5 * (1 - np.cos(np.pi * rest)), "constant": np.ones_like(rest)}
    inverse = {"inverse": np.sqrt(max(1, warmup) / np.maximum(steps, 1.0))}
    return np.where(steps < warmup, steps / max(1, warmup), (falling | inverse)[name])


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("interval", [1, 10, 100, 250])
@pytest.mark.parametrize("warmup", [1, 37, 300])
@pytest.mark.parametrize("name", ["linear", "cosine", "constant", "inverse"])
def test_sparse_rows_never_give_less_than_the_schedule(name: str, warmup: int, interval: int, offset: int) -> None:
    logged = np.arange(interval, 1001, interval)
    rates = shapes(name, warmup, 1000, (logged - offset).astype(float))
    filled = fill(list(zip(logged.tolist(), rates.tolist(), strict=True)), 0, 1000)
    true = shapes(name, warmup, 1000, np.arange(1000.0))
    assert len(filled) == 1000
    assert filled.sum() + filled.max() >= true.sum()
    assert filled.sum() <= true.sum() * (1.09 if interval <= 10 else 1.7)


def rates_of(steps: int, rate: float = 1e-3, first: int = 1) -> TrainingLog:
    return log(tuple((step, rate, 1.0) for step in range(first, first + steps)))


def moved(size: float, names: tuple[str, ...] = tuple(SHAPES), dtype: object = np.float32) -> tuple[Arrays, Arrays]:
    """A base and a checkpoint, of which some tensors moved by at most `size` an entry."""
    rng = np.random.default_rng(5)
    base = {name: rng.standard_normal(shape) * 0.1 for name, shape in SHAPES.items()}
    after = {name: value + (name in names) * size * rng.uniform(-1, 1, value.shape) for name, value in base.items()}
    cast = [{name: value.astype(dtype) for name, value in side.items()} for side in (after, base)]  # type: ignore[call-overload]
    return Arrays(cast[0], "child"), Arrays(cast[1], "parent")


def claims(sides: tuple[Arrays, Arrays], told: TrainingLog, stated: OptimizerSettings = ADAM, reached: int = 0) -> list[Claim]:
    return list(check(displacement(*sides, told, stated, reached=reached)))


def test_movement_within_the_bound_is_ok_and_beyond_it_is_found() -> None:
    near, far = claims(moved(0.1), rates_of(100))[0], claims(moved(0.2), rates_of(100))[0]
    assert (near.status, far.status) == (Status.OK, Status.FOUND)
    assert (far.severity, far.confidence) == (Level.HIGH, Level.HIGH)
    assert float(far.numbers["ratio"]) == pytest.approx(2 * float(near.numbers["ratio"]), rel=0.05)
    assert "parent" in far.text


def test_settings_that_are_usual_but_not_stated_lower_the_confidence() -> None:
    far = claims(moved(2.0), rates_of(100), replace(ADAM, betas=None))[0]
    assert (far.status, far.confidence) == (Status.FOUND, Level.MEDIUM)


def test_an_optimizer_that_nobody_names_accuses_nobody() -> None:
    nameless = OptimizerSettings()
    assert claims(moved(2.0), rates_of(100), nameless)[0].status is Status.UNKNOWN
    within = held_against(*moved(0.1), rates_of(100), nameless)
    assert isinstance(within, Missing)
    assert within.kind is Absence.ABSENT


@pytest.mark.parametrize(
    "stated",
    [
        replace(ADAM, betas=(0.99, 0.9)),
        replace(ADAM, name="adamw_bnb_8bit"),
        replace(ADAM, name="prodigy"),
        replace(ADAM, name="schedule_free_adamw"),
        replace(ADAM, obstacles=("it trains a low-rank adapter (lora_r)",)),
        OptimizerSettings(name="sgd", source="card"),
        OptimizerSettings(name="sgd", momentum=0.9, weight_decay=0.0, source="card"),
    ],
    ids=lambda stated: f"{stated.name}-{stated.betas}",
)
def test_where_no_bound_holds_there_is_no_answer(stated: OptimizerSettings) -> None:
    with pytest.raises(NoBound):
        displacement(*moved(5.0), TrainingLog(runs=(without_norms(rates_of(100)),)), stated)


def without_norms(told: TrainingLog) -> Run:
    rows = tuple(replace(record, values={"loss": 1.0, "learning_rate": 1e-3}) for record in told.runs[0].records)
    return replace(told.runs[0], records=rows)


def test_a_log_without_rates_gives_no_answer() -> None:
    run = rates_of(100).runs[0]
    bare = replace(run, records=tuple(replace(record, values={"loss": 1.0}) for record in run.records))
    with pytest.raises(NoBound, match="no learning rates"):
        displacement(*moved(5.0), TrainingLog(runs=(bare,)), ADAM)


def test_a_new_head_under_an_old_name_is_no_accusation() -> None:
    child, parent = moved(0.01)
    fresh = {name: np.random.default_rng(9).standard_normal(SHAPES[name]).astype(np.float32) for name in ("layer.2.weight",)}
    rng, kept = np.random.default_rng(5), {}
    for name, shape in SHAPES.items():
        kept[name] = fresh.get(name, (rng.standard_normal(shape) * 0.1).astype(np.float32) + np.float32(0.001) * (name not in fresh))
    claim = claims((Arrays(kept, "child"), parent), rates_of(100))[0]
    assert claim.status is Status.UNKNOWN
    assert "made anew" in claim.text
    assert child.tensors.keys() == parent.tensors.keys()


def test_a_merged_adapter_is_no_accusation() -> None:
    rng = np.random.default_rng(3)
    base = {name: (rng.standard_normal((64, 48)) * 0.05).astype(np.float32) for name in ("a.weight", "b.weight")}
    after = {name: value + (rng.standard_normal((64, 4)) @ rng.standard_normal((4, 48))).astype(np.float32) for name, value in base.items()}
    for dtype in (np.float32, ml_dtypes.bfloat16):
        sides = [Arrays({name: value.astype(dtype) for name, value in side.items()}) for side in (after, base)]
        claim = claims((sides[0], sides[1]), rates_of(100))[0]
        assert claim.status is Status.UNKNOWN
        assert "low rank" in claim.text


def test_pruned_and_quantized_weights_are_no_accusation() -> None:
    rng = np.random.default_rng(3)
    base = {name: rng.standard_normal((64, 2048)).astype(np.float32) for name in ("a.weight", "b.weight")}
    pruned = {name: value * (np.abs(value) > 0.7) for name, value in base.items()}
    quantized = {name: (np.round(value) + np.float32(0.001)).astype(np.float32) for name, value in base.items()}
    for child in (pruned, quantized):
        claim = claims((Arrays(child), Arrays(base)), rates_of(100))[0]
        assert claim.status is Status.UNKNOWN
        assert "pruned or quantized" in claim.text


def test_a_hostile_number_of_steps_is_refused() -> None:
    rows = tuple(LogRecord(step=step, kind="train", values={"learning_rate": 1e-3}) for step in (1, 3_000_000, 2, 3_000_000, 3, 2**52))
    with pytest.raises(NoBound, match="steps"):
        schedule(TrainingLog(runs=(Run(source="s", format="hf-trainer", records=rows),)))


def test_statistics_that_no_optimizer_moves_do_not_count() -> None:
    child, parent = ({"w": np.zeros((20, 20), np.float32), "bn.running_var": np.full(20, value, np.float32)} for value in (50.0, 1.0))
    assert displacement(Arrays(child), Arrays(parent), rates_of(100), ADAM).ratio == 0.0


def test_rounding_to_sixteen_bits_is_no_movement() -> None:
    _, parent = moved(0.0)
    child, _ = moved(0.0, dtype=ml_dtypes.bfloat16)
    assert displacement(child, parent, rates_of(5, rate=1e-7), ADAM).ratio <= 1.0
    assert displacement(parent, child, rates_of(5, rate=1e-7), ADAM).ratio <= 1.0


def test_pure_bfloat16_training_stays_within_the_bound() -> None:
    """Round-to-nearest at every step moves an entry by nothing or by at most twice the step."""
    rng, rate, steps = np.random.default_rng(0), 3e-4, 200
    base = (rng.standard_normal((32, 32)) * 0.05).astype(ml_dtypes.bfloat16)
    weights = base
    for _ in range(steps):
        weights = (weights.astype(np.float32) - rate).astype(ml_dtypes.bfloat16)  # every gradient of one sign
    found = displacement(Arrays({"w": weights}), Arrays({"w": base}), rates_of(steps, rate=rate), ADAM)
    assert 0.1 < found.ratio <= 1.0


def test_training_that_left_nothing_is_noted_and_frozen_tensors_are_fine() -> None:
    still, frozen = claims(moved(0.0), rates_of(100))[0], claims(moved(0.05, ("layer.1.weight",)), rates_of(100))[0]
    assert (still.status, still.severity) == (Status.FOUND, Level.LOW)
    assert frozen.status is Status.OK
    faint = claims(moved(1e-6), rates_of(100))[0]
    assert (faint.status, faint.severity) == (Status.FOUND, Level.INFO)


def test_a_checkpoint_ahead_of_its_log_is_found() -> None:
    assert [claim.status for claim in claims(moved(0.05), rates_of(100), reached=100)] == [Status.OK]
    ahead = claims(moved(0.05), rates_of(100), reached=300)
    assert [claim.status for claim in ahead] == [Status.OK, Status.FOUND]


def test_a_log_whose_steps_need_not_be_updates_accuses_nobody() -> None:
    told = rates_of(100)
    for format_, start, status in (("hf-trainer", 0, Status.FOUND), ("csv", 0, Status.UNKNOWN), ("csv", 5000, Status.UNKNOWN)):
        records = tuple(replace(record, step=record.step + start) for record in told.runs[0].records)
        run = replace(told.runs[0], format=format_, records=records, claimed={})
        assert claims(moved(2.0), TrainingLog(runs=(run,)))[0].status is status


def test_what_was_rolled_back_and_what_lies_in_a_hole_counts_as_training() -> None:
    records = tuple(
        LogRecord(step=step, kind="train", values={"loss": 1.0, "learning_rate": 1e-3})
        for step in (*range(10, 110, 10), *range(50, 210, 10))
    )
    run = Run(source="s", format="hf-trainer", records=records, claimed={"global_step": 200})
    whole = schedule(TrainingLog(runs=(run,)))
    assert len(whole.rates) >= 200 + 50
    holed = replace(run, records=tuple(record for record in records if not 60 <= record.step <= 90))
    assert schedule(TrainingLog(runs=(holed,))).rates.sum() >= 200 * 1e-3


def test_two_files_of_one_run_count_once_and_two_runs_twice() -> None:
    run = rates_of(100).runs[0]
    copy = replace(run, source="events", format="tfevents")
    other = replace(run, source="b", records=tuple(replace(record, values={**record.values, "loss": 1.0}) for record in run.records))
    single, doubled, both = (len(schedule(TrainingLog(runs=runs)).rates) for runs in ((run,), (run, copy), (run, other)))
    assert single == doubled
    assert both > 1.9 * single


def test_a_base_that_the_weights_do_not_support_is_not_accused_twice() -> None:
    from modelguard.fingerprint.compare import compare
    from tests.fingerprint.zoo import model

    stranger, parent = Arrays(model(1), "child"), Arrays(model(0), "parent")
    found = displacement(stranger, parent, rates_of(20), ADAM)
    assert next(check(found)).status is Status.FOUND
    doubted = with_doubts(found, compare(stranger, parent))
    assert not isinstance(doubted, Missing)
    assert next(check(doubted)).status is Status.UNKNOWN
