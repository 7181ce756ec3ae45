"""Training from scratch, from fixed seeds, as the arrays that `save_pretrained` writes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.zoo.cache import cached
from benchmarks.zoo.families import FAMILIES, VISION, layers_of, tokenizer_of
from benchmarks.zoo.text import CONTEXT, VOCABULARY, tokens

__all__ = ["FAMILIES", "VOCABULARY", "Recipe", "Tensors", "loaded", "retrained", "trained"]

Tensors = dict[str, NDArray[np.float32]]
Loss = Callable[[Any, dict[str, Any]], Any]  # (network, batch) -> the loss, a torch scalar

BATCH = 4
KEPT = 64  # models that a process keeps in memory
STEPS = 300  # of the zoo's models: loss is far below its start by then


@dataclass(frozen=True, slots=True)
class Recipe:
    """One model: its architecture, and the seeds of its initialisation and of its data. Equal recipes give equal models."""

    family: str
    seed: int
    data: str = "code"  # code, other (the other half of the sources) or chain (a random Markov chain)
    order: int | None = None  # seed of the data's order; the initialisation's own where none is named
    steps: int = 80
    rate: float = 2e-3

    @property
    def name(self) -> str:
        order = "" if self.order is None else f", order {self.order}"
        rate = "" if self.rate == 2e-3 else f", rate {self.rate:g}"
        return f"{self.family} {self.seed} ({self.data}{order}{rate})"


def trained(recipe: Recipe) -> Tensors:
    """The model of that recipe, as it is saved. Do not change it in place."""
    return _trained(recipe)[0]


def learned(recipe: Recipe) -> tuple[float, float]:
    """The loss of the first five steps and of the last twenty, in nats."""
    return _trained(recipe)[1]


@lru_cache(maxsize=KEPT)
def _trained(recipe: Recipe) -> tuple[Tensors, tuple[float, float]]:
    def make() -> tuple[Tensors, dict[str, str]]:
        import torch

        torch.manual_seed(recipe.seed)
        network = FAMILIES[recipe.family]()
        losses = train(network, recipe, recipe.seed if recipe.order is None else recipe.order)
        return saved(network), {"first": f"{np.mean(losses[:5]):.4f}", "last": f"{np.mean(losses[-20:]):.4f}"}

    tensors, notes = cached(repr(recipe), make)
    return tensors, (float(notes["first"]), float(notes["last"]))


def retrained(recipe: Recipe, tensors: Tensors, *, steps: int = 15, rate: float = 1e-3) -> Tensors:
    """Those weights, trained on with other data at half of the rate: a fine-tune."""
    network = loaded(recipe.family, tensors)
    train(network, replace(recipe, data="chain", steps=steps, rate=rate), recipe.seed + 1000)
    return saved(network)


def loaded(family: str | Recipe, tensors: Tensors) -> Any:
    """A network of that architecture with those weights, in evaluation mode: as many layers and tokens as the weights have."""
    network = FAMILIES[family if isinstance(family, str) else family.family]()
    _fit(network.config, tensors)
    with tempfile.TemporaryDirectory() as directory:
        network.config.save_pretrained(directory)
        _save(tensors, Path(directory) / "model.safetensors")
        return type(network).from_pretrained(directory)


def train(network: Any, recipe: Recipe, order: int, *, parameters: Iterable[Any] | None = None, loss: Loss | None = None) -> list[float]:
    """Trains in place with AdamW at a constant rate, and says the loss of every step."""
    import torch

    torch.set_num_threads(1)
    rng, losses = np.random.default_rng(order), []
    chosen = network.parameters() if parameters is None else parameters
    optimiser = torch.optim.AdamW(chosen, lr=recipe.rate, weight_decay=0.01, fused=True)
    network.train()
    for _ in range(recipe.steps):
        batch = batch_of(recipe, rng)
        value = network(**batch).loss if loss is None else loss(network, batch)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    return losses


def batch_of(recipe: Recipe, rng: np.random.Generator) -> dict[str, Any]:
    """The next batch of a recipe's data, as its architecture takes it."""
    import torch

    if recipe.family in VISION:
        return _images(recipe.data, rng)
    text = tokens(recipe.data, tokenizer_of(recipe.family))
    starts = rng.integers(0, len(text) - CONTEXT, BATCH)
    ids = torch.from_numpy(np.stack([text[start : start + CONTEXT] for start in starts]))
    if recipe.family != "bert":
        return {"input_ids": ids, "labels": ids}
    hidden = torch.from_numpy(rng.random((BATCH, CONTEXT)) < 0.15)
    return {"input_ids": ids.masked_fill(hidden, 0), "labels": ids.masked_fill(~hidden, -100)}


def _images(data: str, rng: np.random.Generator) -> dict[str, Any]:
    """Stripes of ten widths in noise, upright or (the other data) level."""
    import torch

    labels = rng.integers(0, 10, BATCH)
    waves = np.sin(np.arange(32) * (labels[:, None] + 1) / 3.5 + rng.uniform(0, 6, (BATCH, 1)))
    stripes = waves[:, None, None, :] if data == "code" else waves[:, None, :, None]
    images = rng.standard_normal((BATCH, 3, 32, 32)) + stripes
    return {"pixel_values": torch.from_numpy(images.astype(np.float32)), "labels": torch.from_numpy(labels)}


def saved(network: Any) -> Tensors:
    """What `save_pretrained` writes: real names, layouts and tied tensors left out."""
    from safetensors.numpy import load_file
    from transformers.utils import logging

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as directory:
        network.save_pretrained(directory)
        return dict(load_file(Path(directory) / "model.safetensors"))


def _fit(config: Any, tensors: Tensors) -> None:
    """Sets what derivatives change: how many layers, tokens and units there are."""
    counts = {
        "num_hidden_layers": layers_of(frozenset(tensors)),
        "vocab_size": _rows(tensors, ("embed_tokens.weight", "wte.weight", "word_embeddings.weight")),
        "intermediate_size": _rows(tensors, ("mlp.up_proj.weight",)),
    }
    for name, count in counts.items():
        if count and config.model_type in ("llama", "gpt2", "bert", "phi3", "mixtral"):
            setattr(config, name, count)


def _rows(tensors: Tensors, names: tuple[str, ...]) -> int:
    return max((len(value) for name, value in tensors.items() if name.endswith(names)), default=0)


def _save(tensors: Tensors, path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({name: np.array(value, order="C") for name, value in tensors.items()}, path, metadata={"format": "pt"})
