"""Intervals and counts of the zoo, on cases that can be worked out by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from benchmarks.zoo.statistics import BLOCK, none_of, over_models, tails, unit_matrices, wilson
from benchmarks.zoo.training import Recipe
from tests.fingerprint.zoo import LAYERS, UNITS, WIDTH, model

MODELS = [Recipe("llama", seed) for seed in range(12)]


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"), [(0, 0, 0.0, 1.0), (0, 20, 0.0, 0.161), (20, 20, 0.839, 1.0), (10, 20, 0.299, 0.701)]
)
def test_wilsons_interval(hits: int, n: int, low: float, high: float) -> None:
    assert wilson(hits, n) == pytest.approx((low, high), abs=1e-3)


def test_a_bootstrap_over_models_is_wider_than_one_over_pairs() -> None:
    pairs = [((ours, theirs), MODELS[0] in (ours, theirs)) for ours, theirs in combinations(MODELS, 2)]
    hits = sum(hit for _, hit in pairs)
    low, high = over_models(pairs)
    assert low <= hits / len(pairs) <= high
    assert high - low > np.ptp(wilson(hits, len(pairs)))
    assert over_models(pairs) == (low, high)


def test_nothing_seen_is_bounded_by_pairs_that_share_no_model() -> None:
    assert none_of(46) == pytest.approx(1 - 0.05 ** (1 / 23))
    assert none_of(1) == pytest.approx(0.95)


def test_tails_of_counts() -> None:
    counts = np.zeros(BLOCK + 1, np.int64)
    counts[:4] = 50, 30, 15, 5
    assert tails(counts)[:3] == [(1, 50, 0.5, 1.0), (2, 20, 0.2, 0.5), (3, 5, 0.05, 1 / 6)]


def test_unit_matrices_are_one_a_layer() -> None:
    assert [matrix.shape for matrix in unit_matrices(model(1))] == [(UNITS, WIDTH)] * LAYERS
