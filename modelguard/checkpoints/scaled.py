"""8-bit matrices with scales beside them: FP8 with a scale for each block, row or matrix, and INT8 with one for each row.

`weight_scale_inv` (DeepSeek, fine-grained FP8) and `weight_scale` (compressed-tensors, ModelOpt) are multiplied alike:
weight[o, i] = (entry - zero) · scale[block of o, block of i]. The block's size follows from the shapes, or from the configuration where
the last block is cut short and the shapes alone leave it open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint, TensorInfo
from modelguard.checkpoints.computed import Floats, Recipe, is_floating, vector
from modelguard.errors import Malformed

SUFFIXES = ("_scale_inv", "_scale")
ENTRIES = {"F8_E4M3": "FP8", "F8_E5M2": "FP8", "F8_E4M3FNUZ": "FP8", "F8_E5M2FNUZ": "FP8", "I8": "INT8"}
USUAL_BLOCK = 128
ACTIVATIONS = ("input_scale", "input_zero_point", "activation_scale", "output_scale")  # beside a weight, but no weights


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scaled:
    """A tensor of matrices (…, outputs, inputs). Each has `grid` scales (down, across), one for every `block` of entries."""

    stored: Checkpoint
    info: TensorInfo
    scale: str
    zeros: str
    grid: tuple[int, int]
    block: tuple[int, int]

    def rows(self, start: int, stop: int) -> Floats:
        outputs, inputs = self.info.shape[-2:]
        made = vector(self.stored, self.info.name, start * inputs, stop * inputs).astype(np.float32).reshape(-1, inputs)
        matrix, row = np.divmod(np.arange(start, stop), outputs)
        place, across = matrix * self.grid[0] + row // self.block[0], np.arange(inputs) // self.block[1]
        if self.zeros:
            made -= self._table(self.zeros, place)[:, across]
        made *= self._table(self.scale, place)[:, across]
        return made

    def _table(self, name: str, place: NDArray[np.int64]) -> Floats:
        """Scales or zero points by their place down the grids, (rows, across). Only the stretch that is needed is read."""
        first, last, across = int(place[0]), int(place[-1]) + 1, self.grid[1]
        return vector(self.stored, name, first * across, last * across).astype(np.float32).reshape(-1, across)[place - first]


def recipes(stored: Checkpoint, config: Mapping[str, Any]) -> Iterator[Recipe]:
    """The matrices that are stored this way. `config` is the quantization_config beside them, asked only for a block's size."""
    for name, info in sorted(stored.tensors.items()):
        scales = [name + suffix for suffix in SUFFIXES if name + suffix in stored.tensors]
        if info.dtype in ENTRIES and len(info.shape) >= 2 and info.entries and scales:
            yield _recipe(stored, info, scales[0], config)


def _recipe(stored: Checkpoint, info: TensorInfo, scale: str, config: Mapping[str, Any]) -> Recipe:
    where = f"{stored.ref}: {info.name[:80]!a} ({info.dtype} with scales)"
    found = stored.tensors[scale]
    grid = _grid(info, found)
    if grid is None or not is_floating(found):
        raise Malformed(f"{where}: scales of shape {found.shape} do not fit {info.shape}", advice="save the model again")
    claimed = _claimed(config)
    block = tuple(_block(length, count, claim) for length, count, claim in zip(info.shape[-2:], grid, claimed, strict=True))
    if not all(block):
        raise Malformed(f"{where}: {grid} scales do not say which blocks they are for", advice="add config.json with weight_block_size")
    zeros = f"{info.name}_zero_point"
    if zeros in stored.tensors and (stored.tensors[zeros].entries != found.entries or stored.tensors[zeros].dtype == "I32"):
        raise Malformed(f"{where}: zero points do not fit the scales", advice="save the model again")
    made = _Scaled(
        stored=stored, info=info, scale=scale, zeros=zeros if zeros in stored.tensors else "", grid=grid, block=(block[0], block[1])
    )
    parts = (info.name, scale, *((made.zeros,) if made.zeros else ()), *_activations(stored, info.name))
    size = "a scale for each row" if grid[0] == info.shape[-2] else "one scale" if grid == (1, 1) else f"blocks of {block[0]} × {block[1]}"
    scheme = f"{ENTRIES[info.dtype]}, {size}"
    return Recipe(name=info.name, shape=info.shape, width=info.shape[-1], replaces=parts, scheme=scheme, rows=made.rows)


def _grid(info: TensorInfo, scale: TensorInfo) -> tuple[int, int] | None:
    """How many scales each matrix has (down, across), or None where the shapes do not fit."""
    lead, (outputs, inputs) = info.shape[:-2], info.shape[-2:]
    if scale.entries == prod(lead):
        return 1, 1
    if not lead and scale.shape == (outputs,):
        return outputs, 1
    if len(scale.shape) != len(info.shape) or scale.shape[:-2] != lead:
        return None
    down, across = scale.shape[-2:]
    return (down, across) if 0 < down <= outputs and 0 < across <= inputs else None


def _claimed(config: Mapping[str, Any]) -> tuple[int, int]:
    """The block size that a configuration names, else the usual one."""
    claim = config.get("weight_block_size")
    sound = isinstance(claim, list) and len(claim) == 2 and all(type(length) is int and 0 < length < 1 << 30 for length in claim)
    return (claim[0], claim[1]) if sound and isinstance(claim, list) else (USUAL_BLOCK, USUAL_BLOCK)


def _block(length: int, count: int, claimed: int) -> int:
    """Entries to a scale along one axis; 0 where nothing sound explains so many scales."""
    if count == 1:
        return length
    if -(-length // claimed) == count:
        return claimed
    return length // count if length % count == 0 else 0


def _activations(stored: Checkpoint, name: str) -> tuple[str, ...]:
    """What stands beside a weight for the sake of activations."""
    stem = name.rpartition(".")[0]
    return tuple(other for suffix in ACTIVATIONS if (other := f"{stem}.{suffix}") in stored.tensors) if name.endswith(".weight") else ()
