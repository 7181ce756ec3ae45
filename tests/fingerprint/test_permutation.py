"""Exact permutations: explained where the whole layer follows them, and `changed` where one tensor stays behind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.correspondence.alignment import align
from modelguard.fingerprint.difference import difference
from modelguard.fingerprint.permutation import explain
from tests.fingerprint.zoo import Arrays, Tensors

UNITS, WIDTH = 24, 10


def layer(seed: int, *, fused: bool = False) -> Tensors:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    made = {"m.layers.0.mlp.down_proj.weight": normal(WIDTH, UNITS), "m.layers.0.norm.weight": normal(WIDTH)}
    for part in ("gate_up",) if fused else ("gate", "up"):
        made[f"m.layers.0.mlp.{part}_proj.weight"] = normal(UNITS * (2 if fused else 1), WIDTH)
        made[f"m.layers.0.mlp.{part}_proj.bias"] = normal(UNITS * (2 if fused else 1))
    return made | {f"m.layers.0.self_attn.{part}_proj.weight": normal(WIDTH, WIDTH) for part in "qkvo"}


def reordered(tensors: Tensors, order: np.ndarray, only: Sequence[str] = ("gate", "up", "down")) -> Tensors:
    made = dict(tensors)
    for name, value in tensors.items():
        if any(f"mlp.{part}_proj" in name for part in only):
            made[name] = (
                value[:, order] if "down" in name else value[np.concatenate([order, order + UNITS]) if "gate_up" in name else order]
            )
    return made


def explanations(left: Tensors, right: Tensors) -> dict[str, str]:
    ours, theirs = Arrays(left), Arrays(right)
    items = explain(ours, theirs, difference(ours, theirs, align(ours, theirs, by_content=False)))
    return {item.name: item.explanation for item in items}


@given(seed=st.integers(0, 10_000), fused=st.booleans())
@settings(max_examples=25, deadline=None)
def test_an_order_of_the_whole_layer_is_explained(seed: int, fused: bool) -> None:
    base, order = layer(seed, fused=fused), np.random.default_rng(seed).permutation(UNITS)
    found = explanations(reordered(base, order, ("gate", "up", "down", "gate_up")), base)
    assert set(found.values()) == {"identical", "permuted"} or (order == np.arange(UNITS)).all()


@pytest.mark.parametrize("only", [("gate",), ("up",), ("down",), ("gate", "up"), ("up", "down"), ("gate", "down")])
def test_an_order_that_not_all_follow_is_another_function(only: tuple[str, ...]) -> None:
    order = np.random.default_rng(1).permutation(UNITS)
    found = explanations(reordered(layer(0), order, only), layer(0))
    assert "permuted" not in found.values()
    assert "changed" in found.values()


def test_a_bias_left_behind_is_another_function() -> None:
    base, order = layer(0), np.random.default_rng(1).permutation(UNITS)
    name = "m.layers.0.mlp.up_proj.bias"
    assert "permuted" not in explanations(reordered(base, order) | {name: base[name]}, base).values()


def test_queries_in_another_order_than_keys_are_another_function() -> None:
    base, order = layer(0), np.random.default_rng(1).permutation(WIDTH)
    name = "m.layers.0.self_attn.q_proj.weight"
    assert explanations(base | {name: base[name][order]}, base)[name] == "changed"


def test_one_changed_value_is_not_explained() -> None:
    base, order = layer(0), np.random.default_rng(1).permutation(UNITS)
    left = reordered(base, order)
    left["m.layers.0.mlp.up_proj.weight"] = left["m.layers.0.mlp.up_proj.weight"].copy()
    left["m.layers.0.mlp.up_proj.weight"][3, 3] += np.float32(1e-4)
    assert explanations(left, base)["m.layers.0.mlp.up_proj.weight"] == "changed"
