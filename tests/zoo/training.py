"""Tiny models of real architectures (transformers'), trained on the CPU on Python's own sources, as the arrays that they save.

Shapes are as small as the tests' power allows: below about 800 units a layer, T3 does not speak on a 20 % share (docs/weight-tests.md).
"""

from __future__ import annotations

import sysconfig
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

Tensors = dict[str, NDArray[np.float32]]

VOCABULARY = 640  # more than twice the width, as of every real model
CONTEXT = 32
BATCH = 8


@dataclass(frozen=True, slots=True)
class Recipe:
    """One model: its architecture, and the seeds of its initialisation and of its data. Equal recipes give equal models."""

    family: str
    seed: int
    data: str = "code"  # code, other (the other half of the sources) or chain (a random Markov chain)
    order: int | None = None  # seed of the data's order; the initialisation's own where none is named
    steps: int = 80
    rate: float = 2e-3


def _llama(width: int = 128, units: int = 1280, keys: int = 2, tied: bool = False) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": width, "intermediate_size": units, "num_attention_heads": 4, "num_key_value_heads": keys}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=4, vocab_size=VOCABULARY, tie_word_embeddings=tied))


def _gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 128, "n_inner": 1280, "n_layer": 4, "n_head": 4, "n_positions": CONTEXT, "vocab_size": VOCABULARY}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))


def _bert() -> Any:
    from transformers import BertConfig, BertForMaskedLM

    sizes = {"hidden_size": 128, "intermediate_size": 1280, "num_hidden_layers": 4, "num_attention_heads": 4}
    return BertForMaskedLM(BertConfig(**sizes, vocab_size=VOCABULARY, max_position_embeddings=CONTEXT))


def _phi3() -> Any:
    from transformers import Phi3Config, Phi3ForCausalLM

    sizes = {"hidden_size": 128, "intermediate_size": 1280, "num_hidden_layers": 4, "num_attention_heads": 4}
    return Phi3ForCausalLM(Phi3Config(**sizes, num_key_value_heads=4, vocab_size=VOCABULARY, pad_token_id=0, eos_token_id=1))


def _t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 128, "d_ff": 1280, "d_kv": 32, "num_heads": 4, "num_layers": 2, "num_decoder_layers": 2}
    return T5ForConditionalGeneration(T5Config(**sizes, vocab_size=VOCABULARY, decoder_start_token_id=0))


def _mixtral() -> Any:
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {"hidden_size": 128, "intermediate_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    return MixtralForCausalLM(MixtralConfig(**sizes, num_local_experts=2, num_experts_per_tok=1, vocab_size=VOCABULARY))


def _resnet() -> Any:
    from transformers import ResNetConfig, ResNetForImageClassification

    sizes = {"embedding_size": 16, "hidden_sizes": [16, 32, 64], "depths": [1, 1, 1], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(**sizes, num_labels=10))


FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": _llama,
    "gpt2": _gpt2,
    "bert": _bert,
    "llama, 64 wide, 256 units": lambda: _llama(64, 256),
    "llama, 96 wide": lambda: _llama(96, 1280),
    "llama, tied": lambda: _llama(tied=True),
    "phi3 (fused gate and up)": _phi3,
    "t5": _t5,
    "mixtral (experts)": _mixtral,
    "resnet (convolutions)": _resnet,
}


@cache
def trained(recipe: Recipe) -> Tensors:
    """The model of that recipe, as it is saved. Do not change it in place."""
    import torch

    torch.manual_seed(recipe.seed)
    network = FAMILIES[recipe.family]()
    _train(network, recipe, recipe.seed if recipe.order is None else recipe.order)
    return _saved(network)


def retrained(recipe: Recipe, tensors: Tensors, *, steps: int = 15, rate: float = 1e-3) -> Tensors:
    """Those weights, trained on with other data at half of the rate: a fine-tune."""
    network = loaded(recipe, tensors)
    _train(network, Recipe(recipe.family, recipe.seed, "chain", steps=steps, rate=rate), recipe.seed + 1000)
    return _saved(network)


def loaded(recipe: Recipe, tensors: Tensors) -> Any:
    """A network of that recipe's architecture with those weights, in evaluation mode."""
    network = FAMILIES[recipe.family]()
    with tempfile.TemporaryDirectory() as directory:
        network.config.save_pretrained(directory)
        contiguous = {name: np.array(value, order="C") for name, value in tensors.items()}
        save_file(contiguous, Path(directory) / "model.safetensors", metadata={"format": "pt"})
        return type(network).from_pretrained(directory)


def _train(network: Any, recipe: Recipe, order: int) -> None:
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(order)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=0.01)
    network.train()
    for _ in range(recipe.steps):
        loss = network(**_batch(recipe, rng)).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def _batch(recipe: Recipe, rng: np.random.Generator) -> dict[str, Any]:
    import torch

    if recipe.family.startswith("resnet"):
        labels = rng.integers(0, 10, BATCH)
        images = rng.standard_normal((BATCH, 3, 32, 32)) + labels[:, None, None, None] / 5
        return {"pixel_values": torch.from_numpy(images.astype(np.float32)), "labels": torch.from_numpy(labels)}
    text = tokens(recipe.data)
    starts = rng.integers(0, len(text) - CONTEXT, BATCH)
    ids = torch.from_numpy(np.stack([text[start : start + CONTEXT] for start in starts]))
    if recipe.family != "bert":
        return {"input_ids": ids, "labels": ids}
    hidden = torch.from_numpy(rng.random((BATCH, CONTEXT)) < 0.15)
    return {"input_ids": ids.masked_fill(hidden, 0), "labels": ids.masked_fill(~hidden, -100)}


@cache
def tokens(data: str) -> NDArray[np.int64]:
    """A text as tokens below VOCABULARY: words and signs of Python's sources by their hash, or a random Markov chain."""
    if data == "chain":
        rng = np.random.default_rng(20261122)
        successors, walk = rng.integers(0, VOCABULARY, (VOCABULARY, 4)), [0]
        for choice in rng.integers(0, 4, 60_000):
            walk.append(int(successors[walk[-1], choice]))
        return np.array(walk)
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[data == "other" :: 2]
    words = " ".join(path.read_text(encoding="utf-8", errors="replace") for path in sources[:24]).split()
    return np.array([zlib.crc32(word.encode()) % VOCABULARY for word in words])


def _saved(network: Any) -> Tensors:
    """What `save_pretrained` writes: real names, layouts and tied tensors left out."""
    with tempfile.TemporaryDirectory() as directory:
        network.save_pretrained(directory)
        return dict(load_file(Path(directory) / "model.safetensors"))
