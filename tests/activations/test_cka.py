"""Debiased CKA and mutual neighbours: against slow definitions, under every change that leaves features what they are, and on noise."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelguard.activations.cka import cka_map, u_centred, unbiased_hsic
from modelguard.activations.neighbours import neighbour_map

Array = NDArray[np.float64]


def features(seed: int, count: int, width: int) -> Array:
    return np.random.default_rng(seed).normal(size=(count, width))


def gram(*layers: Array) -> Array:
    """Gram matrices (layers, n, n)."""
    return np.stack([layer @ layer.T for layer in layers])


def slow_hsic(k: Array, m: Array) -> float:
    """The U-statistic by its definition (Song et al. 2012, equation 4): a mean over all ordered choices of four examples."""
    choices = list(permutations(range(len(k)), 4))
    return float(np.mean([k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in choices]))


def slow_neighbours(k: Array, m: Array, count: int) -> float:
    """Mutual neighbours by sets, one example after the other."""

    def nearest(side: Array, i: int) -> set[int]:
        cosine = {j: side[i, j] / np.sqrt(side[i, i] * side[j, j]) for j in range(len(side)) if j != i}
        return set(sorted(cosine, key=lambda j: -cosine[j])[:count])

    return float(np.mean([len(nearest(k, i) & nearest(m, i)) / count for i in range(len(k))]))


@pytest.mark.parametrize(("count", "wide", "narrow"), [(4, 3, 2), (5, 9, 1), (7, 2, 40)])
def test_the_unbiased_estimate_is_the_mean_over_all_choices_of_four(count: int, wide: int, narrow: int) -> None:
    k, m = gram(features(1, count, wide))[0], gram(features(2, count, narrow) + 3)[0]
    assert unbiased_hsic(k, m) == pytest.approx(slow_hsic(k, m), rel=1e-9, abs=1e-12)
    assert unbiased_hsic(k, k) == pytest.approx(slow_hsic(k, k), rel=1e-9)


def test_a_map_is_the_ratio_of_the_estimates() -> None:
    ours, theirs = gram(features(1, 9, 4), features(2, 9, 30)), gram(features(3, 9, 5), features(1, 9, 4) ** 3, features(4, 9, 2))
    found = cka_map(ours, theirs)
    assert found.shape == (2, 3)
    for a, k in enumerate(ours):
        for b, m in enumerate(theirs):
            expected = unbiased_hsic(k, m) / np.sqrt(unbiased_hsic(k, k) * unbiased_hsic(m, m))
            assert found[a, b] == pytest.approx(expected, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(6, 40), width=st.integers(2, 60), scale=st.floats(1e-4, 1e4))
def test_turning_scaling_and_reordering_change_nothing(seed: int, count: int, width: int, scale: float) -> None:
    ours, theirs = features(seed, count, width), features(seed + 1, count, 7)
    theirs[:, :2] += ours[:, :2]
    turn = np.linalg.qr(features(seed + 2, width, width))[0]
    order = np.random.default_rng(seed).permutation(count)
    for measure in (cka_map, neighbour_map):
        plain = measure(gram(ours), gram(theirs))
        assert measure(gram(scale * ours @ turn), gram(theirs)) == pytest.approx(plain, abs=1e-6)
        assert measure(gram(ours[order]), gram(theirs[order])) == pytest.approx(plain, abs=1e-6)
        assert pytest.approx(plain, abs=1e-9) == measure(gram(theirs), gram(ours)).T


def test_equal_features_are_wholly_alike_and_stretched_ones_less() -> None:
    ours = features(5, 60, 200)
    stretched = ours * np.linspace(0.05, 3, 200)
    for measure in (cka_map, neighbour_map):
        assert measure(gram(ours), gram(ours))[0, 0] == pytest.approx(1.0)
        assert 0.2 < measure(gram(ours), gram(stretched))[0, 0] < 0.999


def test_independent_features_have_the_mean_zero_however_many_they_are() -> None:
    values = [cka_map(gram(features(2 * seed, 30, 500)), gram(features(2 * seed + 1, 30, 300)))[0, 0] for seed in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))
    centre = np.eye(30) - 1 / 30
    k, m = (centre @ gram(features(seed, 30, 500))[0] @ centre for seed in (0, 1))
    assert (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()) > 0.9  # what the usual estimate makes of the same


def test_neighbours_are_those_of_the_definition_and_chance_is_chance() -> None:
    k, m = gram(features(1, 25, 6)), gram(features(2, 25, 4) + features(1, 25, 6)[:, :4])
    assert neighbour_map(k, m, 5)[0, 0] == pytest.approx(slow_neighbours(k[0], m[0], 5))
    values = [neighbour_map(gram(features(2 * seed, 60, 90)), gram(features(2 * seed + 1, 60, 90)))[0, 0] for seed in range(60)]
    assert np.mean(values) == pytest.approx(10 / 59, abs=4 * np.std(values) / np.sqrt(60))


def test_what_does_not_vary_has_no_likeness() -> None:
    ours, flat = gram(features(1, 20, 6)), gram(np.ones((20, 6)), np.zeros((20, 6)))
    assert np.isnan(cka_map(ours, flat)).all()
    assert np.isnan(neighbour_map(ours, flat)[:, 1]).all()
    assert np.isfinite(cka_map(ours, ours)).all()
    assert np.isnan(neighbour_map(np.full((1, 20, 20), np.nan), ours)).all()


@pytest.mark.parametrize("shape", [(3, 3), (5, 4)])
def test_too_few_examples_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="square"):
        u_centred(np.ones(shape))
    assert u_centred(np.eye(4)).sum() == pytest.approx(0.0)
