"""What training made tells a model's descendants from models that only share its initialisation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from modelguard.correspondence.alignment import align
from modelguard.fingerprint.blocks import find_blocks
from modelguard.fingerprint.initialisation import Origin, judged, origin, retention
from modelguard.types.weights import Relation
from tests.fingerprint.zoo import Arrays

Tensors = dict[str, NDArray[np.float32]]
WIDTH, UNITS, LAYERS = 96, 256, 3


def initialised(seed: int) -> Tensors:
    rng, tensors = np.random.default_rng(seed), {"model.norm.weight": np.ones(WIDTH, np.float32)}
    for layer in range(LAYERS):
        place = f"model.layers.{layer}."
        shapes = {"mlp.up_proj": (UNITS, WIDTH), "mlp.gate_proj": (UNITS, WIDTH), "mlp.down_proj": (WIDTH, UNITS)}
        tensors |= {f"{place}{name}.weight": rng.normal(0, 0.02, shape).astype(np.float32) for name, shape in shapes.items()}
    return tensors


def trained(tensors: Tensors, seed: int, size: float = 0.6) -> Tensors:
    """A few strong directions on top, and a little noise: what training leaves behind."""
    rng, made = np.random.default_rng(seed), dict(tensors)
    for name, value in tensors.items():
        if value.ndim == 2:
            product = rng.standard_normal((value.shape[0], 4)) @ rng.standard_normal((4, value.shape[1]))
            made[name] = (value + 0.02 * size * product + rng.normal(0, 0.004, value.shape)).astype(np.float32)
    return made


def merged(share: float, ours: Tensors, other: Tensors) -> Tensors:
    return {name: np.float32(share) * value + np.float32(1 - share) * other[name] for name, value in ours.items()}


def rounded(tensors: Tensors) -> Tensors:
    def change(value: NDArray[np.float32]) -> NDArray[np.float32]:
        scale = np.abs(value).max(axis=-1, keepdims=True) / 7
        return np.asarray(np.rint(value / scale) * scale, dtype=np.float32)

    return {name: change(value) for name, value in tensors.items()}


def held(left: Tensors, right: Tensors) -> Origin:
    ours, theirs = Arrays(left, "left"), Arrays(right, "right")
    alignment = align(ours, theirs, by_content=False)
    return origin(ours, theirs, alignment, find_blocks(ours, theirs, alignment))


BASE = trained(initialised(0), 1)
STRANGER = trained(initialised(7), 8)
DERIVED = {
    "trained on as long again": trained(BASE, 2),
    "4-bit": rounded(BASE),
    "half pruned": {name: np.where(np.abs(value) >= np.median(np.abs(value)), value, 0) for name, value in BASE.items()},
    "half of it in a merge": merged(0.5, BASE, STRANGER),
    "a fifth of it in a merge": merged(0.2, BASE, STRANGER),
}


@pytest.mark.parametrize("kind", DERIVED)
def test_what_was_made_from_the_trained_model_is_derived(kind: str) -> None:
    found = held(DERIVED[kind], BASE)
    assert found.relation is Relation.DERIVED
    assert found.forward.middle == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("seed", range(3, 8))
def test_a_sibling_of_one_initialisation_is_never_derived(seed: int) -> None:
    found = held(trained(initialised(0), seed), BASE)
    assert found.relation is Relation.SHARED_INITIALISATION
    assert found.forward.high < 0.3
    assert "of what training made" in found.evidence.note
    assert found.evidence.log10_p == 0


def test_where_training_left_no_trace_nothing_is_said() -> None:
    assert held(trained(initialised(0), 3, size=0.0), initialised(0)).relation is Relation.INCONCLUSIVE


def test_independent_models_say_nothing() -> None:
    found = held(STRANGER, BASE)
    assert (found.relation, found.forward.n) == (Relation.INCONCLUSIVE, 0)


def test_a_soup_of_siblings_is_not_taken_for_a_sibling() -> None:
    found = held(merged(0.5, BASE, trained(initialised(0), 3)), BASE)
    assert found.relation in (Relation.DERIVED, Relation.INCONCLUSIVE)


def test_the_judgement_is_the_same_from_run_to_run() -> None:
    assert held(DERIVED["4-bit"], BASE) == held(DERIVED["4-bit"], BASE)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, (60, 64), elements=st.sampled_from([0.0, 1.0, -1.0, 3e38, 1e-38, np.nan, np.inf])), st.booleans())
def test_hostile_entries_give_no_judgement_and_no_warning(entries: NDArray[np.float32], same: bool) -> None:
    other = entries if same else np.zeros_like(entries)
    assert judged([(("a", "b"), entries, other)]).relation is Relation.INCONCLUSIVE


@pytest.mark.parametrize("matrix", [np.zeros((64, 64)), np.ones((64, 64)), np.eye(64), np.ones((8, 900))])
def test_matrices_without_noise_say_nothing(matrix: NDArray[np.float64]) -> None:
    assert retention(matrix, matrix) is None
