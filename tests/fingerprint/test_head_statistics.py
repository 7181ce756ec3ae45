"""Heads whose patterns are known, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest

from modelguard.activations.heads import MEASURES, NEAREST, SPECTRUM, head_statistics

TOKENS = 48


def told(pattern: np.ndarray) -> np.ndarray:
    """The numbers of one head that does the same in three texts."""
    attention = np.broadcast_to(pattern.astype(np.float32), (3, 1, TOKENS, TOKENS))
    return head_statistics(np.ascontiguousarray(attention))[0].astype(np.float64)


def parts(numbers: np.ndarray) -> tuple[float, float, float, np.ndarray, np.ndarray]:
    entropy, distance, first = numbers[:3]
    return float(entropy), float(distance), float(first), numbers[3 : 3 + len(NEAREST)], numbers[-SPECTRUM:]


def test_a_head_that_looks_at_itself() -> None:
    entropy, distance, first, mass, spectrum = parts(told(np.eye(TOKENS)))
    assert (entropy, distance) == (0.0, 0.0)
    assert first == pytest.approx(1 / TOKENS, abs=1e-4)
    assert mass.tolist() == [1.0, *[0.0] * (len(NEAREST) - 1)]
    assert np.allclose(spectrum, 1 / TOKENS, atol=1e-4)


def test_a_head_that_looks_at_everything() -> None:
    entropy, distance, first, mass, spectrum = parts(told(np.full((TOKENS, TOKENS), 1 / TOKENS)))
    assert entropy == pytest.approx(1.0, abs=1e-3)
    apart = np.abs(np.arange(TOKENS)[:, None] - np.arange(TOKENS))
    assert distance == pytest.approx(apart.mean() / (TOKENS - 1), abs=1e-3)
    assert first == pytest.approx(1 / TOKENS, abs=1e-4)
    assert mass.sum() == pytest.approx(1.0, abs=1e-2)
    assert mass[4] == pytest.approx(((apart >= 8) & (apart < 16)).mean(), abs=1e-3)
    assert spectrum[0] == pytest.approx(1.0)
    assert np.allclose(spectrum[1:], 0, atol=1e-6)


def test_a_head_that_looks_at_the_first_token_or_at_the_one_before() -> None:
    sink = np.zeros((TOKENS, TOKENS))
    sink[:, 0] = 1
    assert parts(told(sink))[2] == 1.0
    before = np.eye(TOKENS, k=-1)
    before[0, 0] = 1
    mass = parts(told(before))[3]
    assert mass[1] == pytest.approx((TOKENS - 1) / TOKENS, abs=1e-3)
    assert mass[0] == pytest.approx(1 / TOKENS, abs=1e-3)


def test_short_texts_and_strange_numbers_are_told_apart() -> None:
    short = head_statistics(np.full((2, 3, 4, 4), 0.25, dtype=np.float32))
    assert short.shape == (3, MEASURES)
    assert np.isfinite(short).all()
    assert (short[:, -SPECTRUM + 4 :] == 0).all()
    strange = np.full((2, 3, 4, 4), 0.25, dtype=np.float32)
    strange[0, 1] = np.nan
    assert not np.isfinite(head_statistics(strange)).all()


def test_heads_keep_their_order() -> None:
    random = np.random.default_rng(0).random((2, 5, 20, 20)).astype(np.float32)
    random /= random.sum(axis=-1, keepdims=True)
    order = [3, 1, 4, 0, 2]
    assert np.array_equal(head_statistics(random[:, order]), head_statistics(random)[order])
