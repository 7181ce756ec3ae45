"""Pairs of large bfloat16 checkpoints in a decoder's layout, written tensor by tensor from a pool of normal numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint16]
Change = Callable[[int, Words], Words]

POOL = 1 << 24
VOCABULARY = 32_000


def shapes(nbytes: int, width: int) -> dict[str, tuple[int, ...]]:
    """Tensor names and shapes of a decoder of about `nbytes` bytes in bfloat16."""
    embedding = {"model.embed_tokens.weight": (min(VOCABULARY, nbytes // (40 * width)), width)}
    layer = {f"self_attn.{side}_proj.weight": (width, width) for side in "qkvo"}
    layer |= {f"mlp.{side}_proj.weight": (4 * width, width) for side in ("gate", "up")} | {"mlp.down_proj.weight": (width, 4 * width)}
    layer |= {f"{place}_layernorm.weight": (width,) for place in ("input", "post_attention")}
    size = sum(2 * prod(shape) for shape in layer.values())
    layers = max(2, round((nbytes - 2 * prod(embedding["model.embed_tokens.weight"])) / size))
    return embedding | {f"model.layers.{number}.{name}": shape for number in range(layers) for name, shape in layer.items()}


def write(path: Path, layout: dict[str, tuple[int, ...]], seed: int, change: Change = lambda place, words: words) -> None:
    """A safetensors file of that layout. `change` maps a tensor's number and bfloat16 words to what is stored."""
    normal = np.random.default_rng(seed).standard_normal(POOL, dtype=np.float32) * np.float32(0.02)
    pool = np.asarray(normal.view(np.uint32) >> 16, dtype=np.uint16)
    header, position = {}, 0
    for name, shape in layout.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [position, position + 2 * prod(shape)]}
        position += 2 * prod(shape)
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for place, shape in enumerate(layout.values()):
            words = np.resize(np.roll(pool, 7919 * (place + 1)), prod(shape))
            file.write(change(place, words).data)


def every_value(_place: int, words: Words) -> Words:
    """Every entry differs, by its last bit: the least that a change can be."""
    return words ^ np.uint16(1)


def one_in_ten(place: int, words: Words) -> Words:
    """Every tenth tensor differs, in every entry."""
    return every_value(place, words) if place % 10 == 1 else words
