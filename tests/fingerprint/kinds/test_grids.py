"""Grids of quantisation: found wherever values were rounded to few levels, and nowhere else."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelguard.fingerprint.kinds.grids import grid, steps

Matrix = NDArray[np.float64]


def weights(seed: int, rows: int = 64, columns: int = 128, tails: bool = False) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    values = rng.standard_t(4, (rows, columns)) if tails else rng.standard_normal((rows, columns))
    return np.asarray(values * 0.02, dtype=np.float32)


def rounded(values: NDArray[np.float32], bits: int, size: int, affine: bool) -> NDArray[np.float32]:
    groups = values.reshape(-1, size)
    if affine:
        low, high = np.minimum(groups.min(1, keepdims=True), 0), np.maximum(groups.max(1, keepdims=True), 0)
        step = (high - low) / np.float32(2**bits - 1)
        zero = np.rint(-low / step)
        made = (np.clip(np.rint(groups / step) + zero, 0, 2**bits - 1) - zero) * step
    else:
        step = np.abs(groups).max(1, keepdims=True) / np.float32(2 ** (bits - 1) - 1)
        made = np.rint(groups / step) * step
    return np.asarray(made.reshape(values.shape), dtype=np.float32)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    bits=st.sampled_from([2, 3, 4, 6, 8]),
    size=st.sampled_from([32, 64, 128]),
    affine=st.booleans(),
    tails=st.booleans(),
)
def test_a_rounding_to_a_grid_is_found_with_its_bits(seed: int, bits: int, size: int, affine: bool, tails: bool) -> None:
    before = weights(seed, tails=tails and bits > 3)  # few coarse levels under heavy tails are zeros and one value: no grid to see
    after = rounded(before, bits, size, affine)
    found = grid(after.astype(np.float64), before.astype(np.float64), 24)
    assert found is not None
    assert found.bits == bits
    assert found.along == ("row" if size == 128 else f"group of {size}")
    assert found.within > 0.999


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), tails=st.booleans(), kind=st.sampled_from(["float32", "bfloat16", "float16", "pruned", "low rank"]))
def test_nothing_else_is_a_grid(seed: int, tails: bool, kind: str) -> None:
    before, other = weights(seed, tails=tails), weights(seed + 1)
    after = {
        "float32": before + other * np.float32(0.01),
        "bfloat16": before.astype(ml_dtypes.bfloat16).astype(np.float32),
        "float16": before.astype(np.float16).astype(np.float32),
        "pruned": np.where(np.abs(before) > np.median(np.abs(before)), before, 0),
        "low rank": before + other[:, :4] @ other[:4],
    }[kind]
    bits = {"bfloat16": 8, "float16": 11}.get(kind, 24)
    assert grid(after.astype(np.float64), before.astype(np.float64), bits) is None


@pytest.mark.parametrize("bits", [4, 8])
def test_a_grid_shows_through_a_cast(bits: int) -> None:
    before = weights(1)
    after = rounded(before, bits, 128, False).astype(ml_dtypes.bfloat16).astype(np.float64)
    found = grid(after, before.astype(np.float64), 8)
    assert found is not None
    assert (found.bits, found.along) == (bits, "row")


def test_a_grid_that_the_other_side_has_as_well_is_no_new_one() -> None:
    before = rounded(weights(2), 4, 128, False)
    after = np.where(before > 0, before, 0).astype(np.float64)
    assert grid(after, before.astype(np.float64), 24) is None


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_constants_and_zeros_show_nothing(value: float) -> None:
    before = weights(3).astype(np.float64)
    assert steps(np.full(128, value), 24) is None
    assert grid(np.full_like(before, value), before, 24) is None
    half = before.copy()
    half[::2] = value
    assert grid(half, before, 24) is None


def test_all_zero_rows_hide_no_grid() -> None:
    before = weights(4)
    after = rounded(before, 4, 128, False).astype(np.float64)
    after[::3] = 0
    found = grid(after, before.astype(np.float64), 24)
    assert found is not None
    assert found.bits == 4


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-(2.0**59), 2.0**59, width=32), min_size=1, max_size=64))
def test_any_finite_values_give_an_answer(values: list[float]) -> None:
    found = steps(np.array(values), 24)
    if found is not None:
        step, chance, levels = found
        assert step > 0
        assert chance <= -6
        assert 2 <= levels <= 512
