"""T0: gains of norms find the axes of a related model, and never those of an independent one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelguard.correspondence.alignment import align
from modelguard.fingerprint.gains import fixed_neighbours, norms, t0
from modelguard.fingerprint.matching import log10_tail
from modelguard.types.weights import NullTest
from tests.fingerprint.zoo import Arrays

Gains = dict[str, NDArray[np.float32]]
AXES, NORMS = 128, 9


def gains(seed: int, *, of: Gains | None = None, share: float = 1.0) -> Gains:
    """Gains near 1; with `of`, a merge that holds that share of another model's."""
    rng = np.random.default_rng(seed)
    made = {f"model.layers.{layer}.input_layernorm.weight": rng.normal(1, 0.03, AXES).astype(np.float32) for layer in range(NORMS)}
    return made if of is None else {name: np.float32(share) * of[name] + np.float32(1 - share) * value for name, value in made.items()}


def held(left: Gains, right: Gains) -> NullTest | None:
    ours, theirs = Arrays(left, "left"), Arrays(right, "right")
    return t0(ours, theirs, align(ours, theirs, by_content=False))


@pytest.mark.parametrize(("share", "bound"), [(1.0, -200), (0.9, -150), (0.5, -30)])
def test_related_gains_are_found(share: float, bound: float) -> None:
    result = held(gains(1, of=gains(0), share=share), gains(0))
    assert result is not None
    assert result.log10_p <= bound
    assert result.n == AXES


def test_independent_gains_keep_the_bound() -> None:
    results = [held(gains(seed), gains(1000 + seed)) for seed in range(200)]
    values = np.array([result.log10_p for result in results if result is not None])
    assert len(values) == 200
    for level in (0.1, 0.01):
        assert np.mean(values <= np.log10(level)) <= level + 3 * np.sqrt(level / 200)


def test_gains_that_all_models_share_are_no_evidence() -> None:
    assert held({"model.norm.weight": np.ones(AXES, np.float32)}, {"model.norm.weight": np.ones(AXES, np.float32)}) is None


def test_norms_of_heads_are_left_out() -> None:
    tensors = {
        name: np.arange(AXES, dtype=np.float32)
        for name in (
            "model.layers.0.self_attn.q_norm.weight",
            "model.layers.0.self_attn.k_norm.weight",
            "model.norm.weight",
            "h.0.ln_1.bias",
        )
    }
    side = Arrays(tensors, "side")
    assert [ours for ours, _ in norms(side, side, align(side, side, by_content=False))] == ["h.0.ln_1.bias", "model.norm.weight"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_norms_that_are_not_finite_are_left_out(value: float) -> None:
    broken = gains(0)
    broken["model.layers.0.input_layernorm.weight"] = np.full(AXES, value, np.float32)
    result = held(broken, gains(0))
    assert result is not None
    assert f"by {NORMS - 1} norms" in result.note


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(16, 64), st.integers(1, 4), st.integers(1, 3))
def test_no_list_of_neighbours_holds_more_than_it_may(seed: int, axes: int, columns: int, levels: int) -> None:
    """Over all cyclic pairings every axis is found at most q times, whatever the ties: what the bound rests on."""
    rng = np.random.default_rng(seed)
    left, right = (rng.integers(0, levels + 1, (axes, columns)).astype(float) for _ in range(2))
    found = [fixed_neighbours(left, np.roll(right, shift, axis=0)) for shift in range(axes)]
    for q in {q for _, q, _ in found}:
        assert sum(count for count, other, _ in found if other == q) <= q * axes
    assert all(p <= 0 and p >= log10_tail(axes, 1) for _, _, p in found)


def test_zero_gains_show_nothing() -> None:
    count, _, p = fixed_neighbours(np.zeros((32, 3)), np.zeros((32, 3)))
    assert (count, p) == (0, 0.0)
