"""What is made of a trained model without training: roundings, prunings, layers, merges, layouts. Each returns new tensors by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from benchmarks.zoo.training import VOCABULARY, Tensors

Matrix = NDArray[np.float32]
Made = Mapping[str, NDArray[np.generic]]
Change = Callable[[Tensors], Tensors]

SECRET = 20261122
LAYER = re.compile(r"^(.*\.(?:layers|h|layer)\.)(\d+)(\..*)$")


def matrices(change: Callable[[Matrix], Matrix]) -> Change:
    """That change on every matrix; vectors and convolutions stay."""
    return lambda tensors: {name: change(value) if value.ndim == 2 else value for name, value in tensors.items()}


def rounded(bits: int) -> Change:
    """Symmetric levels with one scale a row."""

    def change(value: Matrix) -> Matrix:
        scale = np.abs(value).max(axis=1, keepdims=True) / np.float32(2 ** (bits - 1) - 1)
        return np.asarray(np.rint(value / np.where(scale > 0, scale, 1)) * scale, dtype=np.float32)

    return matrices(change)


def pruned(share: float) -> Change:
    """The smallest entries of every matrix, up to that share, set to zero."""
    return matrices(lambda value: np.where(np.abs(value) >= np.quantile(np.abs(value), share), value, np.float32(0)))


def noised(size: float) -> Change:
    """Every tensor with Gaussian noise of `size` times its own standard deviation (a norm's gain has little)."""

    def change(tensors: Tensors) -> Tensors:
        rng = np.random.default_rng(SECRET)
        return {name: tensors[name] + _noise(rng, tensors[name].shape) * np.float32(size * tensors[name].std()) for name in sorted(tensors)}

    return change


def cast(dtype: DTypeLike) -> Callable[[Tensors], Made]:
    """Every tensor in a narrower type."""
    return lambda tensors: {name: value.astype(dtype) for name, value in tensors.items()}


BFLOAT16: DTypeLike = ml_dtypes.bfloat16


def there_and_back(tensors: Tensors) -> Tensors:
    """Rounded to bfloat16 and stored as float32 again, so that a disguise can be put on top."""
    return {name: value.astype(BFLOAT16).astype(np.float32) for name, value in tensors.items()}


def layered(order: Sequence[int]) -> Change:
    """The layers of these numbers, in this order: left out, doubled or exchanged."""

    def change(tensors: Tensors) -> Tensors:
        made = {name: value for name, value in tensors.items() if not LAYER.match(name)}
        for name, value in tensors.items():
            if match := LAYER.match(name):
                made |= {f"{match[1]}{place}{match[3]}": value for place, old in enumerate(order) if old == int(match[2])}
        return made

    return change


def extended(tensors: Tensors) -> Tensors:
    """Eight more tokens, as fine-tunes for conversation have them: the mean of the others, and noise."""
    rng, changed = np.random.default_rng(SECRET), dict(tensors)
    for name in sorted(tensors):
        value = tensors[name]
        if len(value) == VOCABULARY and value.ndim == 2:
            changed[name] = np.concatenate([value, value.mean(axis=0) + _noise(rng, (8, value.shape[1])) * value.std()])
        elif len(value) == VOCABULARY:  # the bias of an output over tokens
            changed[name] = np.concatenate([value, np.zeros(8, np.float32)])
    return changed


def mixed(base: Tensors, other: Tensors, share: float) -> Tensors:
    """A linear merge that holds `share` of the base."""
    return {name: np.float32(share) * value + np.float32(1 - share) * other[name] for name, value in base.items()}


def partly(parent: Tensors, rest: Tensors, layers: int) -> Tensors:
    """The first `layers` layers of one model inside another."""
    return {name: parent[name] if (match := LAYER.match(name)) and int(match[2]) < layers else rest[name] for name in rest}


def narrowed(tensors: Tensors) -> Tensors:
    """Every MLP without the weaker half of its units; those that stay keep their order. Llama's layout."""
    changed = dict(tensors)
    for name in tensors:
        if name.endswith("mlp.up_proj.weight"):
            gate, down = (name.replace("up_proj", part) for part in ("gate_proj", "down_proj"))
            strength = np.linalg.norm(tensors[name], axis=1) * np.linalg.norm(tensors[down], axis=0)
            kept = np.sort(np.argsort(strength, kind="stable")[len(strength) // 2 :])
            changed |= {name: tensors[name][kept], gate: tensors[gate][kept], down: np.ascontiguousarray(tensors[down][:, kept])}
    return changed


def renamed(tensors: Tensors) -> Tensors:
    return {f"backbone.{name}": value for name, value in tensors.items()}


FUSED: Mapping[str, tuple[str, ...]] = {
    "self_attn.qkv_proj.weight": tuple(f"self_attn.{part}_proj.weight" for part in "qkv"),
    "mlp.gate_up_proj.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
}


def fused(tensors: Tensors) -> Tensors:
    """Queries, keys and values as one matrix, and gate and up: phi3's layout of a llama."""
    made = {name: value for name, value in tensors.items() if not name.endswith(tuple(part for parts in FUSED.values() for part in parts))}
    for whole, parts in FUSED.items():
        for place in [name.removesuffix(parts[0]) for name in tensors if name.endswith(parts[0])]:
            made[place + whole] = np.concatenate([tensors[place + part] for part in parts])
    return made


def split(tensors: Tensors) -> Tensors:
    """A phi3's matrices as a llama has them: all three of attention equally large, as gate and up are."""
    made = {name: value for name, value in tensors.items() if not name.endswith(tuple(FUSED))}
    for name, value in tensors.items():
        for whole in [whole for whole in FUSED if name.endswith(whole)]:
            pieces = np.split(value, len(FUSED[whole]))
            made |= {name.removesuffix(whole) + part: piece for part, piece in zip(FUSED[whole], pieces, strict=True)}
    return made


def peft(factors: Tensors) -> Tensors:
    """An adapter's factors under the names that PEFT saves."""
    return {f"base_model.model.{name}.weight": value for name, value in factors.items()}


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Matrix:
    return rng.standard_normal(shape).astype(np.float32)
