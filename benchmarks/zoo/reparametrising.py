"""More rewritings that leave a model's function alone: what one matrix gains, its partner loses (gated MLPs with separate attention)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.zoo.rewriting import axes_permuted, permuted, rotated
from benchmarks.zoo.training import Tensors

Array = NDArray[np.float32]
HEADS, KEYS = 4, 2  # of the zoo's llamas
SPREAD = 0.5  # of the logarithm of every factor
SECRET = 77  # seed of the disguises


def disguised(tensors: Tensors, seed: int = SECRET) -> Tensors:
    """All disguises at once: what the attention and the MLP allow, then permuted units, then another frame of the residual stream."""
    return turned(permuted(rescaled(attention_rewritten(tensors, seed + 2), seed + 1), seed), seed)


def turned(tensors: Tensors, seed: int = SECRET) -> Tensors:
    """The residual stream in another frame: rotated where norms are RMS norms, its axes permuted where they are layer norms."""
    return rotated(tensors, seed) if "model.norm.weight" in tensors else axes_permuted(tensors, seed)


def rescaled(tensors: Tensors, seed: int = SECRET) -> Tensors:
    """Every unit's up row by a factor, and its down column by the inverse. Nothing where the MLP has no separate gate."""
    rng, changed = np.random.default_rng(seed), dict(tensors)
    for name in sorted(tensors):
        if name.endswith("mlp.up_proj.weight"):
            down, factor = name.replace("up_proj", "down_proj"), _factors(rng, len(tensors[name]))
            changed[name], changed[down] = tensors[name] * factor[:, None], tensors[down] / factor
    return changed


def attention_rewritten(tensors: Tensors, seed: int = SECRET) -> Tensors:
    """Heads in another order, queries against keys rescaled by rotary pair, values against outputs by any invertible matrix."""
    rng, changed = np.random.default_rng(seed), dict(tensors)
    for name in sorted(tensors):
        if name.endswith("self_attn.q_proj.weight"):
            place = name.removesuffix("q_proj.weight")
            parts = {part: changed[f"{place}{part}_proj.weight"] for part in "qkvo"}
            changed |= {f"{place}{part}_proj.weight": value for part, value in _rewritten(parts, rng).items()}
    return changed


def _rewritten(parts: dict[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """One layer's attention: q and o by head (HEADS, size, width), k and v by key head (KEYS, size, width)."""
    width, size = parts["q"].shape[1], len(parts["q"]) // HEADS
    q, o = (side.reshape(HEADS, size, -1) for side in (parts["q"], parts["o"].T))
    k, v = (parts[part].reshape(KEYS, size, width) for part in "kv")
    factor = np.tile(np.stack([_factors(rng, size // 2) for _ in range(KEYS)]), 2)[:, :, None]  # the same for both of a rotary pair
    mixing = np.stack([np.linalg.qr(rng.standard_normal((size, size)))[0] * _factors(rng, size) for _ in range(KEYS)]).astype(np.float32)
    reader = np.repeat(np.arange(KEYS), HEADS // KEYS)  # the key head of each head
    q, k = q * factor[reader], k / factor
    values, outputs = np.linalg.inv(mixing) @ v, np.swapaxes(mixing, 1, 2)[reader] @ o
    groups = rng.permutation(KEYS)
    order = np.concatenate([group * (HEADS // KEYS) + rng.permutation(HEADS // KEYS) for group in groups])
    return {
        "q": q[order].reshape(-1, width),
        "k": k[groups].reshape(-1, width),
        "v": values[groups].reshape(-1, width).astype(np.float32),
        "o": np.ascontiguousarray(outputs[order].reshape(HEADS * size, -1).T).astype(np.float32),
    }


def _factors(rng: np.random.Generator, count: int) -> Array:
    return np.exp(SPREAD * rng.standard_normal(count)).astype(np.float32)
