"""Derivatives that take training: fine-tunes, continued pretraining, adapters, upcycled experts, and students of another initialisation."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from benchmarks.zoo.cache import cached
from benchmarks.zoo.families import FAMILIES, UPCYCLED
from benchmarks.zoo.training import STEPS, Recipe, Tensors, loaded, saved, train, trained

RANK, SCALE = 4, 2.0  # of the adapters: weights = base + SCALE * B A
ADAPTED = re.compile(r"(q_proj|v_proj|up_proj|qkv_proj|gate_up_proj|c_attn|c_fc|query|value|intermediate\.dense)\.weight$")
KEPT = 24  # derivatives of a kind that a process keeps in memory


@lru_cache(maxsize=KEPT)
def fine_tuned(recipe: Recipe, data: str = "other") -> Tensors:
    """A fifth of the base's own training, at half of its rate, on another text."""
    run = replace(recipe, data=data, steps=STEPS // 5, rate=recipe.rate / 2)
    return _continued(recipe, run, order=recipe.seed + 1000)


@lru_cache(maxsize=KEPT)
def continued(recipe: Recipe) -> Tensors:
    """As long as the base's own training and at its full rate, on another text."""
    return _continued(recipe, replace(recipe, data="chain" if recipe.data == "other" else "other"), order=recipe.seed + 2000)


@lru_cache(maxsize=KEPT)
def adapter(recipe: Recipe) -> Tensors:
    """Low-rank factors trained beside the frozen base, by module: `….lora_A` (RANK, in) and `….lora_B` (out, RANK)."""
    run = replace(recipe, data="other", steps=STEPS // 5, rate=4 * recipe.rate)

    def make() -> tuple[Tensors, dict[str, str]]:
        import torch

        torch.manual_seed(recipe.seed + 3000)
        network = loaded(recipe.family, trained(recipe)).requires_grad_(False)
        factors = _adapted(network)
        parameters = [factor for pair in factors.values() for factor in pair]
        train(network, run, recipe.seed + 3000, parameters=parameters)
        made = {f"{name}.lora_{side}": factor for name, pair in factors.items() for side, factor in zip("AB", pair, strict=True)}
        return {name: factor.detach().numpy().copy() for name, factor in made.items()}, {}

    return cached(f"adapter {RANK} {SCALE} {recipe!r} {run!r}", make)[0]


def adapter_merged(recipe: Recipe) -> Tensors:
    """The base with its adapter added."""
    factors, changed = adapter(recipe), dict(trained(recipe))
    for module in sorted({name.rsplit(".", 1)[0] for name in factors}):
        delta = np.float32(SCALE) * (factors[f"{module}.lora_B"] @ factors[f"{module}.lora_A"])
        changed[f"{module}.weight"] = changed[f"{module}.weight"] + delta
    return changed


def upcycled(recipe: Recipe) -> Tensors:
    """A llama whose dense MLP was copied into two experts behind a new router, and then trained for a while."""
    run = replace(recipe, family=UPCYCLED, data="other", steps=STEPS // 10, rate=recipe.rate / 2)

    def make() -> tuple[Tensors, dict[str, str]]:
        network = loaded(UPCYCLED, _experts(trained(recipe), recipe.seed))
        train(network, run, recipe.seed + 4000)
        return saved(network), {}

    return cached(f"upcycled {recipe!r} {run!r}", make)[0]


def student(recipe: Recipe) -> Tensors:
    """Another initialisation, trained towards the base's answers (KL divergence) and nothing else."""
    run = replace(recipe, data="other", steps=STEPS // 2)

    def make() -> tuple[Tensors, dict[str, str]]:
        import torch

        torch.manual_seed(recipe.seed + 5000)
        network, teacher = FAMILIES[recipe.family](), loaded(recipe.family, trained(recipe)).requires_grad_(False)

        def loss(student: Any, batch: dict[str, Any]) -> Any:
            goal = teacher(input_ids=batch["input_ids"]).logits.log_softmax(-1)
            ours = student(input_ids=batch["input_ids"]).logits.log_softmax(-1)
            return torch.nn.functional.kl_div(ours.flatten(0, 1), goal.flatten(0, 1), log_target=True, reduction="batchmean")

        train(network, run, recipe.seed + 5000, loss=loss)
        return saved(network), {}

    return cached(f"student {recipe!r} {run!r}", make)[0]


def _continued(recipe: Recipe, run: Recipe, *, order: int) -> Tensors:
    def make() -> tuple[Tensors, dict[str, str]]:
        network = loaded(recipe.family, trained(recipe))
        train(network, run, order)
        return saved(network), {}

    return cached(f"continued {recipe!r} {run!r} {order}", make)[0]


def _adapted(network: Any) -> dict[str, tuple[Any, Any]]:
    """Adds factors to the network in place; they are returned by module."""
    import torch
    from torch.nn.utils import parametrize

    class Added(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, a: Any, b: Any) -> None:
            super().__init__()
            self.a, self.b = a, b

        def forward(self, weight: Any) -> Any:
            return weight + SCALE * (self.b @ self.a)

    factors = {}
    for name, module in list(network.named_modules()):
        if ADAPTED.search(f"{name}.weight") and hasattr(module, "weight"):
            rows, columns = module.weight.shape
            a, b = torch.nn.Parameter(torch.randn(RANK, columns) / columns**0.5), torch.nn.Parameter(torch.zeros(rows, RANK))
            parametrize.register_parametrization(module, "weight", Added(a, b))
            factors[name] = (a, b)
    return factors


def _experts(dense: Tensors, seed: int) -> Tensors:
    rng, made = np.random.default_rng(seed), {}
    parts = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
    for name, value in dense.items():
        match = re.fullmatch(r"(.*\.)mlp\.(\w+)\.weight", name)
        if match is None:
            made[name] = value
            continue
        place = f"{match[1]}block_sparse_moe"
        made |= {f"{place}.experts.{expert}.{parts[match[2]]}.weight": value for expert in range(2)}
        made[f"{place}.gate.weight"] = rng.standard_normal((2, 128)).astype(np.float32) * np.float32(0.02)
    return made
