"""The experts of a sparse layer as today's networks want them: all of a layer in one tensor, where files hold a matrix for each.

A layer of E experts has `experts.gate_up_proj` (E, 2 units, width), gate above up, and `experts.down_proj` (E, width, units). Files call
an expert's matrices `gate_proj`, `up_proj` and `down_proj`, or as Mixtral's `w1`, `w3` and `w2`. What is put together is a view: a tile at
a time is read of the matrices that it lies in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from modelguard.checkpoints.base import Checkpoint, TensorInfo
from modelguard.checkpoints.computed import Computed, Floats, Recipe, floats, is_floating

MATRIX = re.compile(r"(?P<layer>.{1,200}\.experts)\.(?P<expert>\d{1,4})\.(?P<part>\w{1,9})\.weight")
PARTS = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down", "w1": "gate", "w3": "up", "w2": "down"}
STACKS = {"gate_up_proj": ("gate", "up"), "down_proj": ("down",)}

Matrices = dict[tuple[int, str], TensorInfo]


@dataclass(frozen=True, slots=True)
class _Stack:
    """Matrices (rows, width) of one shape under one another, as (len(names) * rows, width)."""

    stored: Checkpoint
    names: tuple[str, ...]

    def rows(self, start: int, stop: int) -> Floats:
        height, width = self.stored.tensors[self.names[0]].shape
        pieces = []
        while start < stop:
            place, first = divmod(start, height)
            last = min(height, first + stop - start)
            pieces.append(floats(self.stored, self.names[place], range(first, last), range(width)))
            start += last - first
        return np.concatenate(pieces)


def stacked(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with the experts of each layer in one tensor; as it is where it has none, or they do not make a whole."""
    layers: dict[str, Matrices] = {}
    for name, info in checkpoint.tensors.items():
        match = MATRIX.fullmatch(name)
        if match and match["part"] in PARTS:
            layers.setdefault(match["layer"], {})[int(match["expert"]), PARTS[match["part"]]] = info
    recipes = tuple(recipe for layer, found in layers.items() for recipe in _recipes(checkpoint, layer, found))
    return Computed(checkpoint, recipes, format=checkpoint.format) if recipes else checkpoint


def _recipes(checkpoint: Checkpoint, layer: str, found: Matrices) -> Iterator[Recipe]:
    count = max(expert for expert, _ in found) + 1
    for name, parts in STACKS.items():
        infos = [found.get((expert, part)) for expert in range(count) for part in parts]
        named = tuple(info.name for info in infos if info is not None and len(info.shape) == 2 and info.entries and is_floating(info))
        shapes = {info.shape for info in infos if info is not None}
        if len(named) < len(infos) or len(shapes) > 1 or f"{layer}.{name}" in checkpoint.tensors:
            continue
        ((height, width),) = shapes
        shape = (count, len(parts) * height, width)
        yield Recipe(
            name=f"{layer}.{name}", shape=shape, width=width, replaces=named, scheme="experts", rows=_Stack(checkpoint, named).rows
        )
