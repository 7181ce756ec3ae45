"""compressed-tensors, pack-quantized: codes of 1 to 8 bits packed along the inputs, a scale for each row or group of inputs.

`weight_packed` I32 (outputs, inputs · bits / 32) is a little-endian stream of codes of each row, `weight_shape` the two lengths,
`weight_scale` (outputs, groups), `weight_zero_point` packed in the same way along the outputs, `weight_g_idx` each input's group.
Codes and zero points are signed and stored with 2^(bits - 1) added: weight[o, i] = (code - zero) · scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.computed import MAX_GROUPS, Floats, Recipe, codes, floats, is_floating, neighbours, part, vector
from modelguard.errors import CannotRead, Malformed

SUFFIX = ".weight_packed"
BITS = (4, 8, 2, 3, 5, 6, 7, 1)  # where several explain the number of words, of a narrow matrix, the usual one


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packed:
    """One matrix, and what its shapes say of it."""

    stored: Checkpoint
    stem: str
    bits: int
    inputs: int
    outputs: int
    groups: int
    zeros: bool
    ordered: bool
    whole: bool  # one scale for the whole matrix

    @property
    def recipe(self) -> Recipe:
        more = (".weight_zero_point",) * self.zeros + (".weight_g_idx",) * self.ordered
        parts = tuple(self.stem + suffix for suffix in (SUFFIX, ".weight_scale", ".weight_shape", *more))
        size = f"groups of {-(-self.inputs // self.groups)}" if self.groups > 1 else "one scale" if self.whole else "a scale for each row"
        scheme = f"compressed-tensors, {self.bits} bits, {size}"
        shape = (self.outputs, self.inputs)
        return Recipe(name=f"{self.stem}.weight", shape=shape, width=self.inputs, replaces=parts, scheme=scheme, rows=self.rows)

    def rows(self, start: int, stop: int) -> Floats:
        name = self.stem + SUFFIX
        words = part(self.stored, name, range(start, stop), range(self.stored.tensors[name].shape[1]))
        made = codes(words, self.bits)[:, : self.inputs].astype(np.float32)
        middle, group = np.float32(1 << (self.bits - 1)), self._groups()
        made -= self._zeros(start, stop)[:, group] if self.zeros else middle
        made *= self._scales(start, stop)[:, group]
        return made

    def _scales(self, start: int, stop: int) -> Floats:
        name = f"{self.stem}.weight_scale"
        if self.whole:
            return np.broadcast_to(floats(self.stored, name, range(1), range(1)), (stop - start, 1))
        return floats(self.stored, name, range(start, stop), range(self.groups))

    def _zeros(self, start: int, stop: int) -> Floats:
        """Zero points of rows [start, stop) as codes, (stop - start, groups)."""
        name = f"{self.stem}.weight_zero_point"
        first, last = start // 32 * self.bits, min(-(-stop // 32) * self.bits, self.stored.tensors[name].shape[0])
        skipped = start // 32 * 32
        found = codes(part(self.stored, name, range(first, last), range(self.groups)).T, self.bits)
        return found[:, start - skipped : stop - skipped].T.astype(np.float32)

    def _groups(self) -> NDArray[np.int64]:
        """The group of every input."""
        if not self.ordered:
            return np.arange(self.inputs, dtype=np.int64) // -(-self.inputs // self.groups)
        group = vector(self.stored, f"{self.stem}.weight_g_idx", 0, self.inputs).astype(np.int64)
        if group.min(initial=0) < 0 or group.max(initial=0) >= self.groups:
            raise Malformed(f"{self.stored.ref}: {self.stem[:80]!a}.weight_g_idx names no group", advice="save the model again")
        return group


def recipes(stored: Checkpoint, config: Mapping[str, Any]) -> Iterator[Recipe]:
    """The matrices that are packed this way. `weight_packed` of bytes is another format's and left to others."""
    for name, info in sorted(stored.tensors.items()):
        if name.endswith(SUFFIX) and info.dtype == "I32":
            yield _packed(stored, name.removesuffix(SUFFIX)).recipe


def _packed(stored: Checkpoint, stem: str) -> _Packed:
    where = f"{stored.ref}: {stem[:80]!a} (compressed-tensors)"
    weight, scale, shape, zeros, order = neighbours(
        stored, stem, SUFFIX, ".weight_scale", ".weight_shape", ".weight_zero_point", ".weight_g_idx"
    )
    if weight is None or scale is None or shape is None or not is_floating(scale):
        raise Malformed(f"{where}: weight_scale or weight_shape is missing", advice="save the model again")
    if len(weight.shape) != 2:
        raise CannotRead(f"{where}: packed with {len(weight.shape)} dimensions, which is not read", advice="save it dequantised")
    if shape.entries != 2 or shape.dtype not in ("I64", "I32"):
        raise Malformed(f"{where}: weight_shape does not hold two lengths", advice="save the model again")
    outputs, inputs = (int(length) for length in vector(stored, shape.name, 0, 2))
    whole = scale.entries == 1
    groups = 1 if whole else scale.shape[1] if len(scale.shape) == 2 else 1
    fitting = [bits for bits in BITS if inputs > 0 and -(-inputs * bits // 32) == weight.shape[1]]
    scaled = whole or (scale.shape[0] == outputs and scale.entries == outputs * groups)
    if outputs != weight.shape[0] or not fitting or not scaled or not 0 < groups <= min(inputs, MAX_GROUPS):
        raise Malformed(f"{where}: the shapes of codes and scales do not fit together", advice="save the model again")
    if zeros is not None and zeros.shape != (-(-outputs * fitting[0] // 32), groups):
        raise Malformed(f"{where}: weight_zero_point has the wrong shape", advice="save the model again")
    if order is not None and (order.entries != inputs or order.dtype not in ("I32", "I64")):
        raise Malformed(f"{where}: weight_g_idx does not name a group for each input", advice="save the model again")
    return _Packed(
        stored=stored,
        stem=stem,
        bits=fitting[0],
        inputs=inputs,
        outputs=outputs,
        groups=groups,
        zeros=zeros is not None,
        ordered=order is not None and _is_used(stored, order.name, inputs),
        whole=whole,
    )


def _is_used(stored: Checkpoint, name: str, inputs: int) -> bool:
    """Whether the inputs' order was set: the library fills it with -1 until then."""
    return bool((vector(stored, name, 0, min(inputs, 8)) >= 0).any())
