"""Experts that started as a dense MLP or as pieces of it, in the layouts that mixtures of experts are stored in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from modelguard.fingerprint.upcycling import examine_upcycling
from tests.fingerprint.zoo import LAYERS, UNITS, WIDTH, Arrays, Tensors, model, tuned

ALPHA = 1e-9
EXPERTS = 4
BASE = model(0)


def shared(base: Tensors) -> Tensors:
    """Everything but the MLPs, with a router."""
    rng = np.random.default_rng(3)
    made = {name: value for name, value in base.items() if ".mlp." not in name}
    return made | {f"model.layers.{layer}.mlp.gate.weight": normal(rng, EXPERTS, WIDTH) for layer in range(LAYERS)}


def normal(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return rng.standard_normal(shape).astype(np.float32) * np.float32(0.05)


def copies(base: Tensors) -> Tensors:
    """Every expert is a copy, as in sparse upcycling, then moved on its own."""
    made = shared(base)
    for layer in range(LAYERS):
        for expert in range(EXPERTS):
            for ours, theirs in {"w1": "gate", "w3": "up", "w2": "down"}.items():
                value = tuned({"x": base[f"model.layers.{layer}.mlp.{theirs}_proj.weight"]}, seed=layer * EXPERTS + expert, size=0.3)["x"]
                made[f"model.layers.{layer}.block_sparse_moe.experts.{expert}.{ours}.weight"] = value
    return made


def pieces(base: Tensors, *, ordered: bool = True) -> Tensors:
    """Every expert is a quarter of the units, picked at random, in their order or in none."""
    made, rng = shared(base), np.random.default_rng(4)
    for layer in range(LAYERS):
        for expert, places in enumerate(np.split(rng.permutation(UNITS), EXPERTS)):
            kept = np.sort(places) if ordered else places
            for part in ("gate", "up"):
                name = f"model.layers.{layer}.mlp.{part}_proj.weight"
                made[name.replace(f"mlp.{part}", f"mlp.experts.{expert}.{part}")] = tuned({"x": base[name][kept]}, seed=expert)["x"]
    return made


def stacked(base: Tensors, *, turned: bool) -> Tensors:
    """All experts of a layer in one tensor, gate and up fused."""
    made = shared(base)
    for layer in range(LAYERS):
        fused = np.concatenate([base[f"model.layers.{layer}.mlp.{part}_proj.weight"] for part in ("gate", "up")])
        experts = np.stack([tuned({"x": fused}, seed=expert)["x"] for expert in range(EXPERTS)])
        made[f"model.layers.{layer}.mlp.experts.gate_up_proj"] = np.ascontiguousarray(experts.swapaxes(1, 2)) if turned else experts
    return made


def gate_named(base: Tensors) -> Tensors:
    """The dense side with its gate preferred: stacked experts start with the gate."""
    return {name: value for name, value in base.items() if "up_proj" not in name}


MADE: dict[str, Callable[[Tensors], Tensors]] = {
    "copies": copies,
    "pieces in order": pieces,
    "pieces in no order": lambda base: pieces(base, ordered=False),
    "stacked": lambda base: stacked(base, turned=False),
    "stacked, transposed": lambda base: stacked(base, turned=True),
}


@pytest.mark.parametrize("name", MADE)
def test_upcycled_experts_are_found(name: str) -> None:
    dense = gate_named(BASE) if name.startswith("stacked") else BASE
    found = examine_upcycling(Arrays(MADE[name](BASE)), Arrays(dense), ALPHA)
    assert found.kind is not None
    assert found.kind.kind == "upcycled"
    assert found.kind.numbers["layers"] == LAYERS
    assert found.kind.numbers["experts"] == EXPERTS


@pytest.mark.parametrize("name", MADE)
def test_experts_of_another_model_are_not(name: str) -> None:
    dense = gate_named(model(7)) if name.startswith("stacked") else model(7)
    found = examine_upcycling(Arrays(MADE[name](BASE)), Arrays(dense), ALPHA)
    assert found.kind is None
    assert len(found.results) == LAYERS
    assert min(result.log10_p for result in found.results) > -6


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan"), float("inf")])
def test_experts_without_content_show_nothing(value: float) -> None:
    made = {name: np.full_like(tensor, value) for name, tensor in MADE["pieces in order"](BASE).items()}
    found = examine_upcycling(Arrays(made), Arrays(BASE), ALPHA)
    assert found.kind is None
    assert all(result.statistic == 0 for result in found.results)


@pytest.mark.parametrize("tensors", [{}, BASE, {"model.layers.0.mlp.experts.gate_up_proj": np.zeros((0, 3, 4), dtype=np.float32)}])
def test_nothing_to_hold_shows_nothing(tensors: Tensors) -> None:
    assert examine_upcycling(Arrays(tensors), Arrays(BASE), ALPHA).results == ()
    assert examine_upcycling(Arrays(BASE), Arrays(tensors), ALPHA).results == ()
