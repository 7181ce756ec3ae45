"""Numerical rank, flatness and significant bits, against matrices that are made to have them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.fingerprint.kinds.spectra import is_rounded, rounding_error, significant_bits, spectrum


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rank=st.integers(1, 24),
    size=st.sampled_from([1e-3, 1e-2, 1.0]),
    shape=st.sampled_from([(64, 128), (256, 64), (128, 128)]),
)
def test_the_rank_of_an_added_product_is_found_in_float32(seed: int, rank: int, size: float, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    base = (rng.standard_normal(shape) * 0.02).astype(np.float32)
    product = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1])) / np.sqrt(rank)
    tuned = base + (size * 0.02 * product).astype(np.float32)
    found = spectrum(tuned.astype(np.float64) - base, rounding_error(tuned.astype(np.float64), 24))
    assert found.rank == rank
    assert found.low


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), rank=st.sampled_from([4, 8, 16]))
def test_the_rank_shows_above_the_rounding_of_a_narrow_type(seed: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    base = (rng.standard_normal((128, 128)) * 0.02).astype(np.float32)
    product = rng.standard_normal((128, rank)) @ rng.standard_normal((rank, 128)) / np.sqrt(rank)
    tuned = (base + 0.01 * product).astype(ml_dtypes.bfloat16).astype(np.float64)
    found = spectrum(tuned - base, rounding_error(tuned, 8))
    assert found.low
    assert found.rank == rank


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), shape=st.sampled_from([(64, 128), (256, 64), (256, 1024)]), uniform=st.booleans())
def test_noise_is_flat_and_of_full_rank(seed: int, shape: tuple[int, int], uniform: bool) -> None:
    rng = np.random.default_rng(seed)
    change = rng.uniform(-1, 1, shape) if uniform else rng.standard_normal(shape)
    found = spectrum(change, 1e-9)
    assert 0.85 < found.flatness < 1.1
    assert not found.low


def test_rounding_alone_is_negligible_and_has_no_rank() -> None:
    base = np.random.default_rng(0).standard_normal((128, 256))
    cast = base.astype(ml_dtypes.bfloat16).astype(np.float64)
    found = spectrum(cast - base, rounding_error(base, 8))
    assert found.negligible
    assert not found.low


@pytest.mark.parametrize(("kind", "bits"), [(ml_dtypes.bfloat16, 8), (np.float16, 11), (np.float32, 24)])
def test_significant_bits_are_those_of_the_narrowest_type(kind: type, bits: int) -> None:
    values = np.random.default_rng(1).uniform(0.01, 1, 4096).astype(np.float32)
    narrow = values.astype(kind).astype(np.float32)
    assert significant_bits(narrow) == bits
    assert is_rounded(narrow.astype(np.float64), values.astype(np.float64), bits)
    assert is_rounded((values + np.float32(0.01)).astype(np.float64), values.astype(np.float64), bits) is False


def test_truncation_is_a_rounding_too() -> None:
    values = np.random.default_rng(2).standard_normal(4096).astype(np.float32)
    cut = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    assert is_rounded(cut.astype(np.float64), values.astype(np.float64), 8)


@pytest.mark.parametrize("change", [np.zeros((16, 16)), np.full((16, 16), 1e18), np.eye(16) * 1e-300])
def test_degenerate_changes_have_a_spectrum(change: np.ndarray) -> None:
    found = spectrum(change, 0.0)
    assert np.isfinite([found.flatness, found.remainder, found.signal]).all()
