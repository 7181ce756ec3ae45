"""Real fine-tunes of a small transformer against their logs, and against logs that do not tell all of the training."""

from __future__ import annotations

import importlib.util

import pytest

from modelguard.checks.log_cannot_explain_weights import check
from modelguard.fingerprint.displacement import displacement
from modelguard.types.displacement import Displacement
from modelguard.types.findings import Claim, Level, Status
from modelguard.types.logs import TrainingLog
from tests.fingerprint.moving import TUNINGS, Tensors, base, log, tuned, without
from tests.fingerprint.zoo import Arrays
from tests.requirement import require

SEEDS = (0, 1, 2)
STEPS = 120
CLOSE = ("AdamW .9/.999", "AdamW .9/.95", "Lion")  # SGD's bound is an order of magnitude wide: docs/log-against-weights.md

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(autouse=True)
def _torch() -> None:
    require("torch", importlib.util.find_spec("torch"), "the runs are trained here")


def held(after: Tensors, before: Tensors, told: TrainingLog, tuning: str) -> tuple[Displacement, Claim]:
    found = displacement(Arrays(after, "child"), Arrays(before, "parent"), told, TUNINGS[tuning].settings)
    return found, next(check(found))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tuning", TUNINGS)
def test_honest_runs_pass(tuning: str, seed: int) -> None:
    for steps in (STEPS, 3 * STEPS):
        run = tuned(tuning, seed, steps)
        found, claim = held(run.after, run.base, log(run.rows), tuning)
        assert claim.status is Status.OK, claim.text
        assert found.ratio < 1.0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tuning", CLOSE)
def test_three_times_the_training_is_found(tuning: str, seed: int) -> None:
    _, claim = held(tuned(tuning, seed, 3 * STEPS).after, base(seed), log(tuned(tuning, seed, STEPS).rows), tuning)
    assert (claim.status, claim.severity) == (Status.FOUND, Level.HIGH), claim.text


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tuning", TUNINGS)
def test_another_initialisation_is_found(tuning: str, seed: int) -> None:
    run = tuned(tuning, seed, STEPS)
    _, claim = held(run.after, base(seed + 50), log(run.rows), tuning)
    assert (claim.status, claim.severity, claim.confidence) == (Status.FOUND, Level.HIGH, Level.HIGH), claim.text


@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_head_is_found_with_lion_and_close_betas(seed: int) -> None:
    for tuning in ("Lion", "AdamW .9/.95"):
        run = tuned(tuning, seed, 3 * STEPS)
        _, claim = held(run.after, run.base, log(without(run.rows, "head")), tuning)
        assert claim.status is Status.FOUND, claim.text
