"""Least squares over candidates: exact mixtures give their coefficients, and what cannot be told apart says so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.fingerprint.kinds.mixtures import gram, mixture


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), coefficients=st.lists(st.floats(-0.5, 1.5), min_size=2, max_size=4))
def test_an_exact_mixture_gives_its_coefficients(seed: int, coefficients: list[float]) -> None:
    rng = np.random.default_rng(seed)
    parents = [[rng.standard_normal((32, 32)) for _ in coefficients] for _ in range(5)]
    lefts = [sum(c * parent for c, parent in zip(coefficients, tensors, strict=True)) for tensors in parents]
    found = mixture([gram(np.asarray(left), tensors) for left, tensors in zip(lefts, parents, strict=True)])
    if max(abs(c) for c in coefficients) < 1e-6:
        return
    assert found is not None
    assert found.coefficients == pytest.approx(coefficients, abs=1e-6)
    assert found.residual < 1e-9
    assert found.distinct


def test_the_interval_covers_the_coefficient_of_a_noisy_mixture() -> None:
    rng, covered = np.random.default_rng(0), 0
    for _ in range(100):
        parents = [[rng.standard_normal((16, 16)) for _ in range(2)] for _ in range(12)]
        grams = [gram(0.6 * a + 0.4 * b + 0.3 * rng.standard_normal((16, 16)), [a, b]) for a, b in parents]
        found = mixture(grams)
        assert found is not None
        covered += abs(found.coefficients[0] - 0.6) <= found.intervals[0]
    assert covered >= 85


def test_siblings_of_one_parent_are_no_mixture_of_each_other() -> None:
    rng, grams = np.random.default_rng(1), []
    for _ in range(8):
        parent, shared = rng.standard_normal((32, 32)), rng.standard_normal((32, 32))
        ours = parent + 0.1 * (0.4 * shared + rng.standard_normal((32, 32)))
        theirs = parent + 0.1 * (0.4 * shared + rng.standard_normal((32, 32)))
        grams.append(gram(ours, [parent, theirs]))
    found = mixture(grams)
    assert found is not None
    assert found.gain < 0.5


def test_equal_candidates_cannot_be_told_apart() -> None:
    rng = np.random.default_rng(2)
    parents = [rng.standard_normal((16, 16)) for _ in range(4)]
    found = mixture([gram(parent, [parent, parent]) for parent in parents])
    assert found is not None
    assert not found.distinct
    assert sum(found.coefficients) == pytest.approx(1)


def test_nothing_gives_no_mixture() -> None:
    assert mixture([]) is None
    assert mixture([gram(np.zeros((4, 4)), [np.ones((4, 4))])] * 3) is None
