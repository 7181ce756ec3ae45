"""Real fine-tunes of a small transformer against their logs, and against logs that do not tell all of the training.

The seeds are none that a threshold was chosen on.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest

from modelguard.checks.log_cannot_explain_weights import check
from modelguard.displacement.against_log import displacement
from modelguard.types.displacement import Displacement
from modelguard.types.findings import Claim, Level, Status
from modelguard.types.logs import TrainingLog
from tests.fingerprint.moving import TUNINGS, Tensors, base, log, tuned, without
from tests.fingerprint.zoo import Arrays
from tests.requirement import require

SEEDS = (3, 4, 5, 6)
STEPS = 120
CLOSE = ("AdamW .9/.999", "AdamW .9/.95", "Lion")
WIDE = ("SGD, clipped", "SGD, clipped, no momentum")  # the bound does not show it: docs/log-against-weights.md
USUAL = (*CLOSE, "SGD, clipped")
RUNS = [pytest.param(tuning, seed) for tuning in TUNINGS for seed in (SEEDS if tuning in USUAL else SEEDS[:2])]

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(autouse=True)
def _torch() -> None:
    require("torch", importlib.util.find_spec("torch"), "the runs are trained here")


def held(after: Tensors, before: Tensors, told: TrainingLog, tuning: str) -> tuple[Displacement, list[Claim]]:
    found = displacement(Arrays(after, "child"), Arrays(before, "parent"), told, TUNINGS[tuning].settings)
    return found, list(check(found))


@pytest.mark.parametrize(("tuning", "seed"), RUNS)
def test_honest_runs_pass(tuning: str, seed: int) -> None:
    for steps in (STEPS, 3 * STEPS):
        run = tuned(tuning, seed, steps)
        for told in (log(run.rows), log(run.rows, 1), log(run.rows, weights=True)):
            found, claims = held(run.after, run.base, told, tuning)
            assert {claim.status for claim in claims} == {Status.OK}, [claim.text for claim in claims]
            assert found.ratio < 1.0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tuning", CLOSE)
def test_three_times_the_training_is_found(tuning: str, seed: int) -> None:
    _, (claim,) = held(tuned(tuning, seed, 3 * STEPS).after, base(seed), log(tuned(tuning, seed, STEPS).rows), tuning)
    assert (claim.status, claim.severity) == (Status.FOUND, Level.HIGH), claim.text


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tuning", WIDE)
def test_three_times_the_training_does_not_pass_by_any_optimizer_where_the_norm_of_the_weights_is_logged(tuning: str, seed: int) -> None:
    long, told = tuned(tuning, seed, 3 * STEPS), tuned(tuning, seed, STEPS).rows
    assert held(long.after, long.base, log(told, 1), tuning)[1][0].status in (Status.OK, Status.UNKNOWN)
    _, (_, claim) = held(long.after, long.base, log(told, 1, weights=True), tuning)
    assert claim.status in (Status.FOUND, Status.UNKNOWN), (
        claim.text
    )  # open where the norm fell before it rose, as an averaged checkpoint's would
    assert claim.status is Status.UNKNOWN or (claim.severity, claim.confidence) == (Level.HIGH, Level.HIGH)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tuning", USUAL)
def test_another_initialisation_is_found(tuning: str, seed: int) -> None:
    run = tuned(tuning, seed, STEPS)
    _, (claim,) = held(run.after, base(seed + 50), log(run.rows), tuning)
    assert (claim.status, claim.severity, claim.confidence) == (Status.FOUND, Level.HIGH, Level.HIGH), claim.text


@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_head_is_found_with_lion_and_close_betas(seed: int) -> None:
    for tuning in ("Lion", "AdamW .9/.95"):
        run = tuned(tuning, seed, 3 * STEPS)
        _, (claim,) = held(run.after, run.base, log(without(run.rows, "head")), tuning)
        assert claim.status is Status.FOUND, claim.text


@pytest.mark.parametrize("seed", SEEDS[:2])
@pytest.mark.parametrize("tuning", ["AdamW .9/.95", "Lion"])
def test_a_real_run_whose_frozen_parts_or_adapter_are_stated(tuning: str, seed: int) -> None:
    run, stated = tuned(tuning, seed, STEPS), TUNINGS[tuning].settings
    for settings in (replace(stated, frozen=("embed_tokens",)), replace(stated, rank=4)):
        found = displacement(Arrays(run.after), Arrays(run.base), log(run.rows), settings)
        assert [claim.status for claim in check(found)] == [Status.OK, Status.FOUND]
