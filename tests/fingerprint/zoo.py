"""A small transformer-like checkpoint as arrays, and what honest and dishonest hands do to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import TensorInfo
from modelguard.checkpoints.dtypes import NUMPY

Array = NDArray[np.float32]
Tensors = dict[str, Array]
WIDTH, UNITS, LAYERS, TOKENS = 128, 1280, 4, 640  # much smaller, and the tests have no power on a 20 % share


class Arrays:
    """A checkpoint in memory."""

    format, notes, digest, verified = "arrays", (), None, True

    def __init__(self, tensors: Mapping[str, NDArray[np.generic]], ref: str = "arrays") -> None:
        self.ref = ref
        self._raw = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
        kinds = {dtype: kind for kind, dtype in NUMPY.items()}
        named = {name: kinds[value.dtype] for name, value in self._raw.items()}
        self.tensors = {name: TensorInfo(name, named[name], value.shape, value.nbytes) for name, value in self._raw.items()}

    def readinto(self, name: str, start: int, buffer: memoryview) -> None:
        raw = self._raw[name].reshape(-1).view(np.uint8)
        buffer[:] = raw[start : start + len(buffer)].data


SPREAD, DIRECTIONS = 0.05, 2


def model(seed: int, *, layers: int = LAYERS, prefix: str = "model.") -> Tensors:
    """Independent weights: embeddings, attention, gated MLP and norms. Noise, and the few strong directions that training makes."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Array:
        noise = rng.standard_normal(shape).astype(np.float32) * np.float32(SPREAD)
        return noise if len(shape) < 2 else noise + strong(*shape)

    def strong(rows: int, columns: int) -> Array:
        """Directions whose singular values are two to four times as large as the largest of the noise."""
        sizes = SPREAD * (rows**0.5 + columns**0.5) * np.linspace(1.5, 2, DIRECTIONS)
        left, right = (np.linalg.qr(rng.standard_normal((side, DIRECTIONS)))[0] for side in (rows, columns))
        return np.asarray((left * sizes) @ right.T, dtype=np.float32)

    tensors = {f"{prefix}embed_tokens.weight": normal(TOKENS, WIDTH), f"{prefix}norm.weight": 1 + normal(WIDTH)}
    for layer in range(layers):
        place = f"{prefix}layers.{layer}."
        tensors |= {f"{place}self_attn.{part}_proj.weight": normal(WIDTH, WIDTH) for part in "qkvo"}
        tensors |= {f"{place}mlp.gate_proj.weight": normal(UNITS, WIDTH), f"{place}mlp.up_proj.weight": normal(UNITS, WIDTH)}
        tensors |= {f"{place}mlp.down_proj.weight": normal(WIDTH, UNITS), f"{place}input_layernorm.weight": 1 + normal(WIDTH)}
    return tensors


def tuned(tensors: Tensors, seed: int = 0, size: float = 0.1) -> Tensors:
    """Every tensor moved by a tenth of its own spread."""
    rng = np.random.default_rng(seed)
    return {name: value + rng.standard_normal(value.shape).astype(np.float32) * size * value.std() for name, value in tensors.items()}


def permuted(tensors: Tensors, seed: int = 1) -> Tensors:
    """The units of every MLP in another order: the same function."""
    rng, changed = np.random.default_rng(seed), dict(tensors)
    for layer in {name.split(".mlp.")[0] for name in tensors if ".mlp." in name}:
        order = rng.permutation(UNITS)
        for part in ("gate", "up"):
            changed[f"{layer}.mlp.{part}_proj.weight"] = tensors[f"{layer}.mlp.{part}_proj.weight"][order]
        changed[f"{layer}.mlp.down_proj.weight"] = tensors[f"{layer}.mlp.down_proj.weight"][:, order]
    return changed


def rotated(tensors: Tensors, seed: int = 2) -> Tensors:
    """The residual stream turned: the same function, once norm gains are folded into the matrices behind them."""
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((WIDTH, WIDTH)))[0].astype(np.float32)
    changed = {}
    for name, value in tensors.items():
        if value.ndim == 1:
            changed[name] = np.ones_like(value)
        elif name.endswith(("down_proj.weight", "o_proj.weight")):
            changed[name] = turn.T @ value
        else:
            changed[name] = value @ turn
    return changed


def four_bit(tensors: Tensors) -> Tensors:
    def rounded(value: Array) -> Array:
        scale = np.abs(value).max(axis=-1, keepdims=True) / 7
        return np.asarray(np.rint(value / scale) * scale, dtype=np.float32)

    return {name: rounded(value) if value.ndim == 2 else value for name, value in tensors.items()}


def pruned(tensors: Tensors) -> Tensors:
    return {
        name: np.where(np.abs(value) >= np.median(np.abs(value)), value, 0) if value.ndim == 2 else value for name, value in tensors.items()
    }


def renamed(tensors: Tensors) -> Tensors:
    return {name.replace("model.", "backbone.model.", 1): value for name, value in tensors.items()}


def merged(share: float) -> Callable[[Tensors], Tensors]:
    def merge(tensors: Tensors) -> Tensors:
        other = model(99)
        return {name: np.float32(share) * value + np.float32(1 - share) * other[name] for name, value in tensors.items()}

    return merge


DERIVATIVES: Mapping[str, Callable[[Tensors], Tensors]] = {
    "fine-tuned": tuned,
    "4-bit": four_bit,
    "half pruned": pruned,
    "half merged": merged(0.5),
    "renamed and tuned": lambda tensors: renamed(tuned(tensors)),
    "permuted and tuned": lambda tensors: permuted(tuned(tensors)),
    "rotated": rotated,
    "rotated and tuned": lambda tensors: rotated(tuned(tensors)),
}
