"""AWQ in its GEMM layout: 4-bit codes packed along the outputs, eight a word (Lin et al. 2023, arXiv 2306.00978).

`qweight` is (inputs, outputs / 8), `qzeros` (groups, outputs / 8), `scales` (groups, outputs): weight[o, i] = (code - zero) · scale.
The nibbles of a word, lowest first, belong to its outputs 0, 2, 4, 6, 1, 3, 5, 7.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.computed import MAX_GROUPS, Floats, Recipe, codes, floats, is_floating, neighbours, part

SUFFIX = ".qweight"
A_WORD = 8  # codes
NIBBLE_OF_OUTPUT = np.array([0, 4, 1, 5, 2, 6, 3, 7])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packed:
    """One matrix, and what its shapes say of it."""

    stored: Checkpoint
    stem: str
    inputs: int
    outputs: int
    groups: int

    @property
    def recipe(self) -> Recipe:
        parts = tuple(self.stem + suffix for suffix in (SUFFIX, ".qzeros", ".scales"))
        scheme = f"AWQ, 4 bits, groups of {self.inputs // self.groups}"
        shape = (self.outputs, self.inputs)
        return Recipe(name=f"{self.stem}.weight", shape=shape, width=self.inputs, replaces=parts, scheme=scheme, rows=self.rows)

    def rows(self, start: int, stop: int) -> Floats:
        size = self.inputs // self.groups
        scales = floats(self.stored, f"{self.stem}.scales", range(self.groups), range(start, stop)).T
        zeros = self._codes(".qzeros", self.groups, start, stop).astype(np.float32)
        made = self._codes(SUFFIX, self.inputs, start, stop).astype(np.float32)
        grouped = made.reshape(stop - start, self.groups, size)
        grouped -= zeros[:, :, None]
        grouped *= scales[:, :, None]
        return made

    def _codes(self, suffix: str, count: int, start: int, stop: int) -> NDArray[np.uint8]:
        """Codes of outputs [start, stop) as (stop - start, count), of `count` stored rows."""
        first, last = start // A_WORD, -(-stop // A_WORD)
        nibbles = codes(part(self.stored, self.stem + suffix, range(count), range(first, last)), 4)
        ordered = nibbles.reshape(count, -1, A_WORD)[:, :, NIBBLE_OF_OUTPUT].reshape(count, -1)
        return np.ascontiguousarray(ordered[:, start - first * A_WORD : stop - first * A_WORD].T)


def recipes(stored: Checkpoint, config: Mapping[str, Any]) -> Iterator[Recipe]:
    """The matrices that are packed this way."""
    for name in sorted(stored.tensors):
        if name.endswith(SUFFIX) and (found := _packed(stored, name.removesuffix(SUFFIX))):
            yield found.recipe


def _packed(stored: Checkpoint, stem: str) -> _Packed | None:
    """What the shapes say, or None where they are not those of this packing."""
    weight, zeros, scales = neighbours(stored, stem, SUFFIX, ".qzeros", ".scales")
    if weight is None or zeros is None or scales is None or not is_floating(scales):
        return None
    if {weight.dtype, zeros.dtype} != {"I32"} or {len(weight.shape), len(zeros.shape), len(scales.shape)} != {2}:
        return None
    (inputs, words), (groups, outputs) = weight.shape, scales.shape
    if not weight.entries or not 0 < groups <= MAX_GROUPS or outputs != words * A_WORD or zeros.shape != (groups, words) or inputs % groups:
        return None
    return _Packed(stored=stored, stem=stem, inputs=inputs, outputs=outputs, groups=groups)
