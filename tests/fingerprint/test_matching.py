"""The exact test must be exact: its bound holds under independence, and ties, zeros and NaN never fake agreement."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modelguard.fingerprint.matching import cosines, fixed_points, log10_tail, strict_nearest

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(2, 40)


def gaussian(seed: int, n: int, p: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, p))


def test_tail_bound_holds_for_independent_rows() -> None:
    random = np.random.default_rng(7)
    draws = np.array([fixed_points(random.normal(size=(24, 16)), random.normal(size=(24, 16))) for _ in range(2000)])
    assert draws.mean() == pytest.approx(1.0, abs=0.1)
    for k in range(2, 7):
        bound = 10 ** log10_tail(k)
        assert (draws >= k).mean() <= bound + 4 * math.sqrt(bound / len(draws))


def test_bound_holds_over_every_permutation_even_with_a_hub() -> None:
    """Exhaustive: 6! pairings of two fixed matrices, one of whose rows is nearest to almost everything."""
    left, right = gaussian(1, 6, 3), gaussian(2, 6, 3)
    left[:4] += 5 * right[0]
    counts = [fixed_points(left, right[list(order)]) for order in itertools.permutations(range(6))]
    for k in range(1, 5):
        assert sum(count >= k for count in counts) / len(counts) <= 10 ** log10_tail(k) + 1e-12


def test_blocks_add_up_under_independence() -> None:
    random = np.random.default_rng(3)
    pairs = ((random.normal(size=(3, 12, 16)), random.normal(size=(3, 12, 16))) for _ in range(500))
    totals = np.array([sum(map(fixed_points, left, right)) for left, right in pairs])
    assert (totals >= 9).mean() <= 10 ** log10_tail(9, blocks=3) + 0.02
    assert totals.mean() == pytest.approx(3.0, abs=0.3)


@given(seeds, sizes)
def test_a_noisy_copy_hits_every_row(seed: int, n: int) -> None:
    rows = gaussian(seed, n)
    assert fixed_points(rows, rows + 0.01 * gaussian(seed + 1, n)) == n


@given(seeds, sizes, st.floats(1e-6, 1e6))
def test_scale_does_not_matter(seed: int, n: int, scale: float) -> None:
    left, right = gaussian(seed, n), gaussian(seed + 1, n)
    assert fixed_points(left, right) == fixed_points(left * scale, right)


@given(seeds, sizes)
def test_renumbering_both_sides_changes_nothing(seed: int, n: int) -> None:
    left, right = gaussian(seed, n), gaussian(seed + 1, n)
    order = np.random.default_rng(seed).permutation(n)
    assert fixed_points(left, right) == fixed_points(left[order], right[order])


def test_scaled_rows_of_a_copy_still_match() -> None:
    rows = gaussian(5, 64)
    assert fixed_points(rows, rows * np.random.default_rng(0).uniform(0.5, 2.0, size=(64, 1))) == 64


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, -3e30, float("nan"), float("inf")])
def test_rows_without_content_never_match(constant: float) -> None:
    assert fixed_points(np.full((7, 5), constant), np.full((7, 5), constant)) == 0
    assert fixed_points(gaussian(0, 7, 5), np.full((7, 5), constant)) == 0


def test_duplicate_rows_are_ties_and_ties_point_nowhere() -> None:
    rows = np.repeat(gaussian(0, 8), 2, axis=0)
    assert fixed_points(rows, rows) == 0
    assert fixed_points(gaussian(0, 8), gaussian(0, 8)) == 8


def test_few_levels_leave_only_distinct_rows_to_match() -> None:
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(64, 4))
    unique = sum(1 for row in signs if (signs == row).all(axis=1).sum() == 1)
    assert fixed_points(signs, signs) == unique < 10


def test_a_row_that_is_not_finite_drops_out_alone() -> None:
    rows = gaussian(0, 20)
    rows[3, 2], rows[9] = np.nan, np.inf
    assert fixed_points(rows, rows) == 18


def test_strict_nearest_wants_strictly_more_and_no_nan() -> None:
    nan = float("nan")
    similarity = np.array([[1.0, 0.5, nan], [1.0, 1.0, 0.0], [0.0, 0.0, nan]])
    assert strict_nearest(similarity).tolist() == [True, False, False]
    assert strict_nearest(similarity, margin=0.6).tolist() == [False, False, False]


@given(arrays(np.float64, st.integers(0, 6).map(lambda n: (n, n))))
def test_strict_nearest_agrees_with_its_definition(similarity: np.ndarray) -> None:
    def wins(i: int) -> bool:
        rivals = [value for j, value in enumerate(similarity[i]) if j != i and not math.isnan(value)]
        return bool(similarity[i, i] > -math.inf and all(similarity[i, i] > value for value in rivals))

    assert strict_nearest(similarity).tolist() == [wins(i) for i in range(len(similarity))]


def test_shapes_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="pair up"):
        fixed_points(gaussian(0, 4), gaussian(0, 5))
    with pytest.raises(ValueError, match="square"):
        strict_nearest(np.zeros((2, 3)))


@given(seeds, sizes)
def test_cosines_are_cosines(seed: int, n: int) -> None:
    similarity = cosines(gaussian(seed, n), gaussian(seed, n))
    assert np.abs(similarity).max() <= 1 + 1e-12
    assert np.diagonal(similarity) == pytest.approx(1.0)


def test_tail_values() -> None:
    assert log10_tail(0) == log10_tail(1) == log10_tail(3, blocks=3) == 0.0
    assert log10_tail(5) == pytest.approx(-math.log10(120))
    assert log10_tail(192, blocks=3) == pytest.approx(-264.94, abs=0.01)


@given(st.integers(0, 2000), st.integers(1, 100))
def test_tail_falls_with_k_and_grows_with_blocks(k: int, blocks: int) -> None:
    assert log10_tail(k + 1, blocks) <= log10_tail(k, blocks) <= log10_tail(k, blocks + 1) <= 0.0
