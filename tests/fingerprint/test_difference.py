"""The exact difference against the same numbers computed the plain way."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelguard.checkpoints.dtypes import NUMPY
from modelguard.correspondence.alignment import align
from modelguard.fingerprint.difference import difference
from modelguard.types.weights import TensorDifference
from tests.fingerprint.zoo import Arrays


def one(left: NDArray[np.generic], right: NDArray[np.generic]) -> TensorDifference:
    ours, theirs = Arrays({"x": left}), Arrays({"x": right})
    return difference(ours, theirs, align(ours, theirs, by_content=False))[0]


@given(seed=st.integers(0, 1000), entries=st.integers(1, 5000), share=st.floats(0, 1))
def test_every_number_is_the_plain_one(seed: int, entries: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    right = rng.standard_normal(entries).astype(np.float32)
    left = np.where(rng.random(entries) < share, right + rng.standard_normal(entries).astype(np.float32), right).astype(np.float32)
    result = one(left, right)
    delta = left.astype(np.float64) - right
    assert result.equal == int((left == right).sum())
    assert result.max_abs == pytest.approx(np.abs(delta).max(), rel=1e-6)
    assert result.relative == pytest.approx(np.linalg.norm(delta) / np.linalg.norm(right), rel=1e-4, abs=1e-9)
    assert result.explanation == ("identical" if result.equal == entries else "changed")


def test_equal_stretches_count_towards_the_norms_of_a_tensor_that_differs_elsewhere() -> None:
    right = np.random.default_rng(0).standard_normal((1 << 23) + 3).astype(np.float32)  # several stretches and a remainder
    left = right.copy()
    left[-1] += 2
    result = one(left, right)
    assert result.equal == left.size - 1
    assert result.relative == pytest.approx(2 / np.linalg.norm(right.astype(np.float64)), rel=1e-4)
    assert result.cosine == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("dtype", sorted(NUMPY))
def test_every_type_is_compared_to_the_bit(dtype: str) -> None:
    size = NUMPY[dtype].itemsize
    rng = np.random.default_rng(7)
    raw = rng.integers(0, 2 if dtype == "BOOL" else 256, 600 * size, dtype=np.uint8)
    other = raw.copy()
    other[:size] ^= 1
    left, right = (bytes_.view(NUMPY[dtype]) for bytes_ in (raw, other))
    assert one(left, left).explanation == "identical"
    assert one(left, right).equal == 599


@pytest.mark.parametrize("narrow", [np.float16, ml_dtypes.bfloat16, np.dtype(ml_dtypes.float8_e4m3fn)], ids=["f16", "bf16", "f8"])
@pytest.mark.parametrize("wide", [np.float32, np.float64], ids=["f32", "f64"])
def test_a_rounding_is_a_cast_and_anything_else_is_not(narrow: type, wide: type) -> None:
    right = np.random.default_rng(1).standard_normal(3000).astype(wide)
    left = right.astype(narrow)
    ours, theirs = Arrays({"x": left}), Arrays({"x": right})
    pairs = align(ours, theirs, by_content=False)
    assert difference(ours, theirs, pairs)[0].explanation == "cast"
    moved = Arrays({"x": right * wide(1.5)})
    assert difference(ours, moved, pairs)[0].explanation == "changed"


def test_what_is_not_a_number_is_counted_and_does_not_spread() -> None:
    right = np.ones(1000, dtype=np.float32)
    left = right.copy()
    left[:3] = np.nan, np.inf, 3e38
    right[5] = -np.inf
    result = one(left, right)
    assert result.nonfinite == 3
    assert np.isfinite([result.max_abs, result.relative, result.cosine]).all()
    assert result.max_abs == pytest.approx(3e38, rel=1e-6)


def test_an_empty_tensor_is_identical() -> None:
    empty = np.zeros((0, 4), dtype=np.float32)
    assert one(empty, empty).explanation == "identical"
