"""Factors of rows and columns: found where they are, not read into other changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.fingerprint.kinds.scaling import scaling


def values(seed: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal((64, 96)) * 0.02, dtype=np.float32)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), along=st.sampled_from(["row", "column", "row and column", "tensor"]), sign=st.booleans())
def test_exact_factors_are_found(seed: int, along: str, sign: bool) -> None:
    rng, base = np.random.default_rng(seed), values(seed + 1)
    rows, columns = np.exp(0.5 * rng.standard_normal((64, 1))), np.exp(0.5 * rng.standard_normal((1, 96)))
    signs = np.where(rng.random((64, 1)) < 0.5, -1, 1) if sign else 1
    factor = {"row": rows * signs, "column": columns, "row and column": rows * signs * columns, "tensor": np.full((1, 1), 0.5)}[along]
    found = scaling((base * factor.astype(np.float32)).astype(np.float64), base.astype(np.float64), 24)
    assert found is not None
    assert found.exact
    assert found.along == along
    assert found.smallest == pytest.approx(np.abs(factor).min(), rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_factors_show_beside_another_change(seed: int) -> None:
    rng, base = np.random.default_rng(seed), values(seed + 1).astype(np.float64)
    rows = np.exp(0.5 * rng.standard_normal((64, 1)))
    found = scaling(rows * (base + 0.2 * 0.02 * rng.standard_normal(base.shape)), base, 24)
    assert found is not None
    assert not found.exact
    assert found.along == "row"
    assert found.turned == pytest.approx(0.196, abs=0.02)


@pytest.mark.parametrize("change", ["noise", "low rank", "one entry", "zeros", "independent", "same"])
def test_other_changes_are_no_factors(change: str) -> None:
    base = values(5).astype(np.float64)
    other = values(6).astype(np.float64)
    single = base.copy()
    single[3, 4] *= 1.5
    made = {
        "noise": base + 0.3 * other,
        "low rank": base + other[:, :2] @ other.T[:2, :64] @ np.ones((64, 96)),
        "one entry": single,
        "zeros": np.where(np.abs(base) > 0.01, base, 0),
        "independent": other,
        "same": base.copy(),
    }[change]
    assert scaling(made, base, 24) is None


def test_matrices_of_zeros_have_no_factors() -> None:
    zeros = np.zeros((32, 32))
    assert scaling(zeros, zeros, 24) is None
    assert scaling(zeros, np.ones((32, 32)), 24) is None
