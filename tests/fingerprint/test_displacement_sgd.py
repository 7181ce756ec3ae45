"""SGD's and Adafactor's bounds against gradients of every kind: never exceeded, and reached where a bound can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelguard.displacement.bounds import bound
from modelguard.displacement.schedule import schedule
from modelguard.displacement.settings import from_card
from modelguard.types.displacement import OptimizerSettings
from tests.fingerprint.moving import log

Array = NDArray[np.float64]


def sgd(gradients: Array, rates: Array, stated: OptimizerSettings, start: Array, nesterov: bool) -> Array:
    """torch's SGD on gradients (T, d): the weights after it."""
    weights, carried, mu, clip = start.copy(), np.zeros_like(start), stated.momentum or 0.0, stated.clip
    for gradient, rate in zip(gradients, rates, strict=True):
        size = float(np.linalg.norm(gradient))
        step = gradient * min(1.0, clip / size if clip and size else 1.0) + (stated.weight_decay or 0.0) * weights
        carried = mu * carried + step
        weights = weights - rate * (step + mu * carried if nesterov else carried)
    return weights


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    decay=st.sampled_from([0.0, 0.1]),
    clip=st.sampled_from([None, 1.0]),
    nesterov=st.booleans(),
    offset=st.sampled_from([-1, 0, 1]),
    kind=st.sampled_from(["normal", "constant", "spiky"]),
)
def test_no_gradients_exceed_the_bound_of_sgd(
    seed: int, momentum: float, decay: float, clip: float | None, nesterov: bool, offset: int, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(2, 40))
    gradients = rng.standard_normal((steps, 12)) if kind != "constant" else np.ones((steps, 12)) * rng.random()
    gradients *= 10 ** rng.uniform(-3, 1, (steps, 1)) if kind == "spiky" else 0.2
    rates, start = np.sort(rng.random(steps))[::-1] * 1e-2, rng.standard_normal(12)
    norms = np.roll(np.linalg.norm(gradients, axis=1), offset)  # a log may name a norm by the step beside its own
    if offset and len(norms) > 1:
        norms[0 if offset > 0 else -1] = np.nan if clip else norms.max()
    if clip:
        norms[rng.random(steps) < 0.5] = np.nan
    stated = OptimizerSettings(name="sgd", momentum=momentum, weight_decay=decay, clip=clip, source="card")
    limit = bound(stated, rates, 0, norms)
    away = float(np.linalg.norm(sgd(gradients, rates, stated, start, nesterov) - start))
    assert away <= (limit.reach + limit.drift * float(np.linalg.norm(start))) * (1 + 1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_gradients_of_one_direction_reach_the_bound_of_sgd(momentum: float) -> None:
    rates, stated = np.full(200, 1e-2), OptimizerSettings(name="sgd", momentum=momentum, weight_decay=0.0, clip=1.0)
    norms = np.linspace(0.9, 0.1, 200)
    gradients = np.outer(norms, [0.6, 0.8])
    away = float(np.linalg.norm(sgd(gradients, rates, stated, np.zeros(2), True)))
    assert 0.97 < away / bound(stated, rates, 0, norms).reach <= 1.0 + 1e-9
    assert bound(stated, rates).reach > 1.9 * away  # without norms every gradient may have been as long as the clip


def test_momentum_from_before_the_first_logged_step_counts() -> None:
    stated, rates = OptimizerSettings(name="sgd", momentum=0.9, weight_decay=0.0, clip=1.0), np.full(300, 1e-2)
    gradients, late = np.tile([0.6, 0.8], (300, 1)), np.where(np.arange(300) < 290, 0.0, rates)  # the weights of the last ten steps
    away = float(np.linalg.norm(sgd(gradients, late, stated, np.zeros(2), False)))
    assert bound(stated, rates[290:], 290).reach >= away > bound(stated, rates[290:], 0).reach * 0.7


def test_the_trainers_sgd_has_no_momentum() -> None:
    line = b"- optimizer: Use OptimizerNames.SGD and the args are: No additional optimizer arguments\n"
    assert from_card(line, "README.md").momentum == 0.0
    assert from_card(b"- optimizer: sgd\n", "README.md").momentum is None


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1e-5, 0.02, 1.0]), steps=st.integers(1, 40))
def test_no_gradients_exceed_the_bound_of_scaled_adafactor(seed: int, size: float, steps: int) -> None:
    rng = np.random.default_rng(seed)
    weights = start = rng.standard_normal(30) * size
    rates, direction = rng.random(steps) * 1e-2, np.sign(start)  # outward, so that the scale grows all the time
    for rate in rates:
        weights = weights + rate * max(1e-3, float(np.sqrt((weights**2).mean()))) * direction
    limit = bound(OptimizerSettings(name="adafactor", weight_decay=0.0, scaled=True), rates)
    away, before = (float(np.sqrt((value**2).mean())) for value in (weights - start, start))
    assert away <= limit.reach * max(1e-3, before) * (1 + 1e-9)


def test_gradient_norms_at_some_steps_tighten_only_those() -> None:
    rows = tuple((step, 1e-3, 0.1) for step in range(1, 101))
    stated = OptimizerSettings(name="sgd", momentum=0.0, weight_decay=0.0, clip=1.0, source="card")
    reaches = []
    for interval in (1, 5):
        plan = schedule(log(rows, interval))
        reaches.append(bound(stated, plan.rates, plan.warm, plan.norms).reach)
    assert reaches[0] == pytest.approx(0.1 * 0.1 + 1e-3, rel=0.02)
    assert reaches[1] == pytest.approx(0.1 * 0.82 + 1e-3, rel=0.02)
