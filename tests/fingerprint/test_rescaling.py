"""Rescalings that undo one another are explained; a factor without its inverse is not."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.correspondence.alignment import align
from modelguard.fingerprint.difference import difference
from modelguard.fingerprint.rescaling import explain_rescaled
from tests.fingerprint.zoo import Arrays, Tensors

UNITS, WIDTH = 40, 16
READERS = {"input_layernorm": ("self_attn.q", "self_attn.k", "self_attn.v"), "post_attention_layernorm": ("mlp.gate", "mlp.up")}


def base(seed: int) -> Tensors:
    rng = np.random.default_rng(seed)
    shapes = {f"self_attn.{part}_proj": (WIDTH, WIDTH) for part in "qkvo"}
    shapes |= {"mlp.gate_proj": (UNITS, WIDTH), "mlp.up_proj": (UNITS, WIDTH), "mlp.down_proj": (WIDTH, UNITS)}
    made = {f"model.layers.0.{name}.weight": rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    made |= {f"model.layers.0.{name}.weight": (1 + 0.1 * rng.standard_normal(WIDTH)).astype(np.float32) for name in READERS}
    made["model.norm.weight"] = (1 + 0.1 * rng.standard_normal(WIDTH)).astype(np.float32)
    return made | {"lm_head.weight": rng.standard_normal((50, WIDTH)).astype(np.float32)}


def rescaled(tensors: Tensors, seed: int, *, undone: bool = True) -> Tensors:
    """Factors on units, on values, and on what the norms give out."""
    rng, made = np.random.default_rng(seed), {name: value.astype(np.float64) for name, value in tensors.items()}
    place = "model.layers.0."
    for writer, reader in (("mlp.up", "mlp.down"), ("self_attn.v", "self_attn.o")):
        factors = np.exp(rng.standard_normal(len(made[f"{place}{writer}_proj.weight"]))) * rng.choice([-1, 1])
        made[f"{place}{writer}_proj.weight"] *= factors[:, None]
        made[f"{place}{reader}_proj.weight"] /= factors if undone else 1
    for norm, readers in READERS.items():
        factors = np.exp(rng.standard_normal(WIDTH))
        made[f"{place}{norm}.weight"] *= factors
        for reader in readers:
            made[f"{place}{reader}_proj.weight"] /= factors
    factors = np.exp(rng.standard_normal(WIDTH))
    made["model.norm.weight"] *= factors
    made["lm_head.weight"] /= factors
    return {name: value.astype(np.float32) for name, value in made.items()}


def stored(tensors: Tensors, dtype: Any) -> Any:
    return {name: value.astype(dtype) for name, value in tensors.items()}


def explanations(left: Any, right: Any) -> dict[str, str]:
    ours, theirs = Arrays(left), Arrays(right)
    items = explain_rescaled(ours, theirs, difference(ours, theirs, align(ours, theirs, by_content=False)))
    return {item.name: item.explanation for item in items}


@given(seed=st.integers(0, 10_000), dtype=st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16]))
@settings(max_examples=20, deadline=None)
def test_factors_that_are_undone_are_explained(seed: int, dtype: Any) -> None:
    right = stored(base(seed), dtype)
    left = stored(rescaled({name: value.astype(np.float32) for name, value in right.items()}, seed), dtype)
    assert set(explanations(left, right).values()) <= {"rescaled", "identical"}


def test_folded_gains_are_explained() -> None:
    right, left = base(0), base(0)
    for norm, readers in READERS.items():
        for reader in readers:
            left[f"model.layers.0.{reader}_proj.weight"] = (
                left[f"model.layers.0.{reader}_proj.weight"] * right[f"model.layers.0.{norm}.weight"]
            )
        left[f"model.layers.0.{norm}.weight"] = np.ones(WIDTH, dtype=np.float32)
    assert set(explanations(left, right).values()) == {"rescaled", "identical"}


def test_factors_without_their_inverse_are_not() -> None:
    found = explanations(rescaled(base(0), 1, undone=False), base(0))
    assert found["model.layers.0.mlp.up_proj.weight"] == "changed"
    assert found["model.layers.0.mlp.down_proj.weight"] == "identical"
    assert found["lm_head.weight"] == "rescaled"


def test_units_before_an_activation_are_not_free() -> None:
    ungated = {name: value for name, value in base(0).items() if "gate" not in name}
    left = {name: value for name, value in rescaled(base(0), 1).items() if "gate" not in name}
    assert explanations(left, ungated)["model.layers.0.mlp.up_proj.weight"] == "changed"


@pytest.mark.parametrize("name", [name for name in base(0) if "norm" not in name])
@pytest.mark.parametrize("size", [1e-4, 0.5])
def test_one_changed_value_is_not(name: str, size: float) -> None:
    left = rescaled(base(0), 1)
    left[name][1, 2] += np.float32(size)
    assert explanations(left, base(0))[name] == "changed"


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_training_is_no_rescaling(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    right = stored(base(0), dtype)
    for size in (1e-5, 1e-3, 0.1):
        left = {
            name: (value.astype(np.float32) * (1 + size * rng.standard_normal(value.shape))).astype(dtype) for name, value in right.items()
        }
        assert "rescaled" not in explanations(left, right).values()


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan"), float("inf"), 3e38])
def test_weights_without_content_end_in_no_error(value: float) -> None:
    empty = {name: np.full_like(tensor, value) for name, tensor in base(0).items()}
    assert "rescaled" not in explanations(empty, base(0)).values()
    assert "rescaled" not in explanations(base(0), empty).values()
