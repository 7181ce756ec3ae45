"""Rewritings of a model that leave its function alone: units in another order, the residual stream in another frame.

Each family is told which tensors hold what along which axis; the shapes alone cannot tell, where attention is as wide as the stream.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.zoo.training import Tensors

Array = NDArray[np.float32]

UNITS = {  # pattern -> the axis of units
    r"mlp\.(gate|up|gate_up)_proj\.weight": 0,
    r"mlp\.down_proj\.weight": 1,
    r"mlp\.c_fc\.weight": 1,
    r"mlp\.c_fc\.bias": 0,
    r"mlp\.c_proj\.weight": 0,
    r"intermediate\.dense\.(weight|bias)": 0,
    r"layer\.\d+\.output\.dense\.weight": 1,
}
STREAM = {  # pattern -> the axis of the residual stream
    r"embed_tokens\.weight|lm_head\.weight|(gate|up|gate_up|q|k|v|qkv)_proj\.weight": 1,
    r"down_proj\.weight|o_proj\.weight": 0,
    r"wte\.weight|wpe\.weight|c_proj\.weight": 1,
    r"c_attn\.weight|c_fc\.weight": 0,
    r"c_proj\.bias|ln_[12f]\.(weight|bias)": 0,
    r"embeddings\.\w+_embeddings\.weight|(query|key|value|intermediate\.dense|transform\.dense)\.weight": 1,
    r"output\.dense\.(weight|bias)": 0,
    r"(embeddings|output|transform)\.LayerNorm\.(weight|bias)|transform\.dense\.(weight|bias)": 0,
}
GAINS = {"input_layernorm": r"self_attn\.(q|k|v|qkv)_proj", "post_attention_layernorm": r"mlp\.(gate|up|gate_up)_proj"}


def permuted(tensors: Tensors, seed: int) -> Tensors:
    """The units of every layer in another order."""
    rng, changed = np.random.default_rng(seed), dict(tensors)
    orders: dict[str, NDArray[np.int64]] = {}
    for name, value in tensors.items():
        for axis in _axes(UNITS, name):
            layer = re.match(r".*?\.\d+\.", name)
            place = layer[0] if layer else ""
            fused = 2 if "gate_up" in name else 1  # gate and up stored as one: both halves in the same order
            order = orders.setdefault(place, rng.permutation(value.shape[axis] // fused))
            whole = np.concatenate([order + part * len(order) for part in range(fused)])
            changed[name] = np.take(value, whole, axis=axis)
    return changed


def rotated(tensors: Tensors, seed: int) -> Tensors:
    """The residual stream turned by a random rotation; gains of norms are folded into what reads behind them (RMS norms only)."""
    folded = _folded(tensors)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((_width(tensors),) * 2))[0].astype(np.float32)
    return _streamed(folded, lambda value, axis: value @ turn if axis else turn.T @ value)


def axes_permuted(tensors: Tensors, seed: int) -> Tensors:
    """The axes of the residual stream in another order: all the freedom that a layer norm leaves."""
    order = np.random.default_rng(seed).permutation(_width(tensors))
    return _streamed(tensors, lambda value, axis: np.take(value, order, axis=axis))


def uneven(tensors: Tensors, seed: int) -> Tensors:
    """Gains of norms spread over a factor of about three either way, as large models have them, and undone in what reads behind them."""
    rng, changed = np.random.default_rng(seed), dict(tensors)
    for name in tensors:
        for gain, readers in GAINS.items():
            if name.endswith(f"{gain}.weight"):
                factor = np.exp(0.5 * rng.standard_normal(tensors[name].shape)).astype(np.float32)
                changed[name] = tensors[name] * factor
                for reader in _readers(tensors, name.removesuffix(f"{gain}.weight"), readers):
                    changed[reader] = tensors[reader] / factor
    return changed


def _folded(tensors: Tensors) -> Tensors:
    changed = dict(tensors)
    for name, value in tensors.items():
        for gain, readers in GAINS.items():
            if name.endswith(f"{gain}.weight"):
                changed[name] = np.ones_like(value)
                for reader in _readers(tensors, name.removesuffix(f"{gain}.weight"), readers):
                    changed[reader] = changed[reader] * value
    if "lm_head.weight" in tensors:
        changed["lm_head.weight"] = tensors["lm_head.weight"] * tensors["model.norm.weight"]
        changed["model.norm.weight"] = np.ones_like(tensors["model.norm.weight"])
    return changed


def _readers(tensors: Tensors, layer: str, pattern: str) -> list[str]:
    return [name for name in tensors if name.startswith(layer) and re.search(pattern, name)]


def _streamed(tensors: Tensors, change: Callable[[Array, int], Array]) -> Tensors:
    changed = dict(tensors)
    for name in tensors:
        for axis in _axes(STREAM, name):
            changed[name] = np.ascontiguousarray(change(changed[name], axis))
    return changed


def _axes(table: dict[str, int], name: str) -> list[int]:
    """The axes of a tensor that a table speaks of; a matrix from the stream into the stream has two."""
    return [axis for pattern, axis in table.items() if re.search(rf"(^|\.)({pattern})$", name)]


def _width(tensors: Tensors) -> int:
    return next(int(value.shape[1]) for name, value in tensors.items() if re.search(r"embed_tokens|wte|word_embeddings", name))
