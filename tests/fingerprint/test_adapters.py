"""What two adapters show of each other, and an adapter of a base: shared starts are found, and nothing else is claimed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from modelguard.checkpoints.safetensors import Safetensors
from modelguard.fingerprint.adapters import AdapterRelation, relation_of_adapters
from modelguard.types.weights import Relation
from tests.weights import Arrays, encode, opened, random

ALPHA = 1e-9
RANK, WIDTH, MODULES = 8, 48, 6
Matrix = NDArray[np.float64]


def train(a: Matrix, data: int, steps: int = 60, b: Matrix | None = None) -> tuple[Matrix, Matrix]:
    """Low-rank factors after gradient descent on a small regression of their own."""
    rng = np.random.default_rng(data)
    b = np.zeros((WIDTH, RANK)) if b is None else b
    inputs, target = rng.normal(size=(64, WIDTH)), rng.normal(size=(WIDTH, WIDTH)) / 7
    for _ in range(steps):
        error = inputs @ (b @ a - target).T / len(inputs)
        gradient = error.T @ inputs
        a, b = a - 0.02 * b.T @ gradient, b - 0.02 * gradient @ a.T
    return a, b


def factors(seed: int, data: int, *, rank: int = RANK) -> dict[str, NDArray[np.float32]]:
    """An adapter whose A starts from `seed`, trained on `data`."""
    rng = np.random.default_rng(seed)
    made: dict[str, NDArray[np.float32]] = {}
    for number in range(MODULES):
        a, b = train(rng.uniform(-1, 1, (RANK, WIDTH)) / math.sqrt(WIDTH), 100 * data + number)
        made[f"base_model.model.layers.{number}.q_proj.lora_A.weight"] = a[:rank].astype(np.float32)
        made[f"base_model.model.layers.{number}.q_proj.lora_B.weight"] = b[:, :rank].astype(np.float32)
    return made


def related(path: Path, left: Arrays, right: Arrays) -> AdapterRelation | None:
    ours: Safetensors = opened(path / "left", encode(left))
    return relation_of_adapters(ours, opened(path / "right", encode(right)), ALPHA)


def test_a_common_start_is_found_and_called_no_more(tmp_path: Path) -> None:
    found = related(tmp_path, factors(1, 1), factors(1, 2))
    assert found is not None
    assert found.relation is Relation.SHARED_INITIALISATION
    assert found.log10_p < -9
    assert "common random seed" in found.why


def test_a_continued_adapter_shares_its_start_and_its_training(tmp_path: Path) -> None:
    before, after = factors(1, 1), factors(1, 1)
    for number in range(MODULES):
        a, b = (f"base_model.model.layers.{number}.q_proj.lora_{side}.weight" for side in "AB")
        made = train(before[a].astype(np.float64), 900 + number, 20, before[b].astype(np.float64))
        after[a], after[b] = (factor.astype(np.float32) for factor in made)
    found = related(tmp_path, after, before)
    assert found is not None
    assert found.relation is Relation.SHARED_INITIALISATION
    assert "B factors agree as well" in found.why


def test_independent_adapters_show_nothing(tmp_path: Path) -> None:
    """The p-values are super-uniform: fixed points of 190 independent pairs, against the bound at several levels."""
    made = [opened(tmp_path / str(seed), encode(factors(seed, 3))) for seed in range(20)]
    values = []
    for place, left in enumerate(made):
        for right in made[:place]:
            found = relation_of_adapters(left, right, ALPHA)
            assert found is not None
            assert found.relation is Relation.INCONCLUSIVE
            values += [test.log10_p for test in found.tests]
    for level in (0.2, 0.05, 0.01):
        share = sum(value <= math.log10(level) for value in values) / len(values)
        assert share <= level + 3 * math.sqrt(level / len(values))


def test_a_change_of_the_ranks_basis_hides_and_the_answer_says_so(tmp_path: Path) -> None:
    right = factors(1, 1)
    mixing = np.random.default_rng(0).normal(size=(RANK, RANK))
    left = {
        name: (mixing @ array if "lora_A" in name else array @ np.linalg.inv(mixing)).astype(np.float32) for name, array in right.items()
    }
    found = related(tmp_path, left, right)
    assert found is not None
    assert found.relation is Relation.INCONCLUSIVE
    assert "would hide" in found.why


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan, np.inf])
def test_constant_and_absurd_factors_show_nothing(value: float, tmp_path: Path) -> None:
    right = factors(1, 1)
    left = {name: np.full_like(array, value) for name, array in right.items()}
    for pair in ((left, right), (left, left)):
        found = related(tmp_path, *pair)
        assert found is not None
        assert found.relation is Relation.INCONCLUSIVE
        assert found.log10_p == 0.0


def test_an_adapter_and_a_base_or_an_adapter_of_another_shape(tmp_path: Path) -> None:
    base = random(0, {f"layers.{number}.q_proj.weight": (WIDTH, WIDTH) for number in range(MODULES)})
    for pair in ((factors(1, 1), base), (base, factors(1, 1))):
        found = related(tmp_path, *pair)
        assert found is not None
        assert found.relation is Relation.INCONCLUSIVE
        assert "an adapter alone cannot confirm its base beyond that" in found.why
        assert "all 6 modules" in found.why
    wrong = related(tmp_path, factors(1, 1), random(0, {"layers.0.q_proj.weight": (WIDTH, 2)}))
    assert wrong is not None
    assert "6 of the adapter's 6 modules do not fit" in wrong.why
    other = related(tmp_path, factors(1, 1), factors(1, 1, rank=4))
    assert other is not None
    assert "no module of equal shape" in other.why
    assert related(tmp_path, base, base) is None
