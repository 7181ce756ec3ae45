"""What each test must not see: a disguise that it is immune to leaves its count as it was, whatever the seed of the disguise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.correspondence.alignment import align
from modelguard.fingerprint import disguise
from modelguard.fingerprint import weight_tests as tests
from modelguard.fingerprint.blocks import Block, find_blocks
from modelguard.fingerprint.matching import log10_tail
from tests.fingerprint.zoo import Arrays, Tensors, merged, model, permuted, rotated

BASE = {name: np.ones_like(value) if value.ndim == 1 else value for name, value in model(0).items()}  # gains folded, as a rotation needs
RELATED, STRANGER = merged(0.3)(BASE), model(1)
SEEDS = st.integers(0, 2**32 - 1)


def block(left: Arrays, right: Arrays) -> Block:
    return find_blocks(left, right, align(left, right, by_content=False))[1]


def t2(left: Tensors) -> int:
    ours, theirs = Arrays(left), Arrays(BASE)
    place = block(ours, theirs)
    profiles = (tests.axis_profiles(side, name, place) for side, name in ((ours, place.left), (theirs, place.right)))
    return tests.t2(*profiles)[0]


def t3(left: Tensors) -> int:
    ours, theirs = Arrays(left), Arrays(BASE)
    return tests.t3(tests.sample(ours, theirs, block(ours, theirs)))[0]


def t4(left: Tensors) -> float:
    ours, theirs = Arrays(left), Arrays(BASE)
    found = disguise.examine(ours, theirs, align(ours, theirs, by_content=False))
    assert found is not None
    return found.share


def rescaled(tensors: Tensors, seed: int) -> Tensors:
    """Every unit's incoming weights by a factor of its own, undone in what reads it."""
    rng, changed = np.random.default_rng(seed), dict(tensors)
    for name in tensors:
        if name.endswith("up_proj.weight"):
            factor = np.exp(rng.uniform(-1, 1, len(tensors[name]))).astype(np.float32)
            changed[name] = tensors[name] * factor[:, None]
            down = name.replace("up_proj", "down_proj")
            changed[down] = tensors[down] / factor
    return changed


@pytest.mark.parametrize("left", [RELATED, STRANGER], ids=["related", "stranger"])
@settings(max_examples=4, deadline=None)
@given(seed=SEEDS)
def test_t2_does_not_see_permuted_or_rescaled_units(left: Tensors, seed: int) -> None:
    plain = t2(left)
    assert abs(t2(permuted(left, seed)) - plain) <= 1
    assert t2(rescaled(left, seed)) == pytest.approx(plain, abs=max(2, 0.1 * plain))


@pytest.mark.parametrize("left", [RELATED, STRANGER], ids=["related", "stranger"])
@settings(max_examples=4, deadline=None)
@given(seed=SEEDS)
def test_t3_does_not_see_a_rotated_stream_or_rescaled_units(left: Tensors, seed: int) -> None:
    plain = t3(left)
    assert abs(t3(rotated(left, seed)) - plain) <= 1
    assert abs(t3(rescaled(left, seed)) - plain) <= 1


@settings(max_examples=3, deadline=None)
@given(seed=SEEDS)
def test_t4_does_not_see_all_of_them_at_once(seed: int) -> None:
    for left in (merged(0.7)(BASE), STRANGER):
        folded = {name: np.ones_like(value) if value.ndim == 1 else value for name, value in left.items()}
        assert abs(t4(permuted(rotated(rescaled(folded, seed), seed + 1), seed + 2)) - t4(folded)) <= 0.02


def test_t1_on_independent_units_is_no_likelier_than_its_bound() -> None:
    """20,000 blocks of independent rows: P(K >= k) stays at or below 1 / k!, within chance."""
    rng, counts = np.random.default_rng(11), []
    for _ in range(20_000):
        left, right = rng.standard_normal((2, 16, 8)).astype(np.float32)
        counts.append(tests.t1(tests.Sample(left, right))[0])
    for k in range(1, 8):
        bound = 10 ** log10_tail(k)
        assert np.mean(np.array(counts) >= k) <= bound + 4 * np.sqrt(bound * (1 - bound) / len(counts)) + 1e-12
