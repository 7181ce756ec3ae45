"""GPTQ: codes packed along the inputs, a scale and a zero point for each group of inputs (Frantar et al. 2022, arXiv 2210.17323).

`qweight` (inputs · bits / 32, outputs) and `qzeros` (groups, outputs · bits / 32) are little-endian streams of codes in 32-bit words,
`scales` is (groups, outputs), `g_idx` (inputs) names each input's group: weight[o, i] = (code - zero) · scale. The first version of
the format stores zero - 1, the second one zero; which of the two it is shows in the codes, whose mean is then one above zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.computed import (
    BLOCK_ENTRIES,
    MAX_GROUPS,
    MAX_WIDTH,
    Floats,
    Recipe,
    codes,
    floats,
    is_floating,
    neighbours,
    part,
    vector,
)
from modelguard.errors import Malformed

SUFFIX = ".qweight"
BITS = (2, 3, 4, 8)
MEASURED_MATRICES = 4
MEASURED_OUTPUTS = 64
CLEAR = 0.25  # of a step: how near to 0 or 1 the codes' mean above their zero points must be to tell the versions apart


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packed:
    """One matrix, and what its shapes say of it. `offset` is what must be added to a stored zero point."""

    stored: Checkpoint
    stem: str
    bits: int
    inputs: int
    outputs: int
    groups: int
    ordered: bool  # whether g_idx gives the groups
    offset: int = 1

    @property
    def recipe(self) -> Recipe:
        suffixes = (SUFFIX, ".qzeros", ".scales", *((".g_idx",) if self.ordered else ()))
        size = -(-self.inputs // self.groups)
        scheme = f"GPTQ, {self.bits} bits, groups of {size}"
        parts = tuple(self.stem + suffix for suffix in suffixes)
        shape = (self.outputs, self.inputs)
        return Recipe(name=f"{self.stem}.weight", shape=shape, width=self.inputs, replaces=parts, scheme=scheme, rows=self.rows)

    def rows(self, start: int, stop: int) -> Floats:
        group = self._groups()
        scales = floats(self.stored, f"{self.stem}.scales", range(self.groups), range(start, stop)).T
        zeros = ((self._zeros(start, stop) + np.uint8(self.offset)) & np.uint8((1 << self.bits) - 1)).T
        made = self._codes(start, stop).astype(np.float32)
        made -= zeros.astype(np.float32)[:, group]
        made *= scales[:, group]
        return made

    def mean_above_zero(self) -> float:
        """Mean of (code - stored zero point) over the first outputs, in steps of the grid."""
        stop = min(self.outputs, MEASURED_OUTPUTS, max(1, BLOCK_ENTRIES // self.inputs))
        zeros = self._zeros(0, stop).T[:, self._groups()]
        return float(np.mean(self._codes(0, stop), dtype=np.float64) - np.mean(zeros, dtype=np.float64))

    def _codes(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Codes of outputs [start, stop), (stop - start, inputs)."""
        name = self.stem + SUFFIX
        words = part(self.stored, name, range(self.stored.tensors[name].shape[0]), range(start, stop))
        return codes(words.T, self.bits)[:, : self.inputs]

    def _zeros(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Stored zero points of outputs [start, stop), (groups, stop - start)."""
        name = f"{self.stem}.qzeros"
        first, last = start // 32 * self.bits, min(-(-stop // 32) * self.bits, self.stored.tensors[name].shape[1])
        skipped = start // 32 * 32
        return codes(part(self.stored, name, range(self.groups), range(first, last)), self.bits)[:, start - skipped : stop - skipped]

    def _groups(self) -> NDArray[np.int64]:
        """The group of every input."""
        if not self.ordered:
            return np.arange(self.inputs, dtype=np.int64) // (self.inputs // self.groups)
        group = vector(self.stored, f"{self.stem}.g_idx", 0, self.inputs).astype(np.int64)
        if group.min(initial=0) < 0 or group.max(initial=0) >= self.groups:
            raise Malformed(f"{self.stored.ref}: {self.stem[:80]!a}.g_idx names a group that has no scale", advice="save the model again")
        return group


def recipes(stored: Checkpoint, config: Mapping[str, Any]) -> Iterator[Recipe]:
    """The matrices that are packed this way. `config` is the quantization_config beside them: a claim, asked where codes do not tell."""
    packed = [found for name in sorted(stored.tensors) if name.endswith(SUFFIX) and (found := _packed(stored, name.removesuffix(SUFFIX)))]
    offset = _offset(packed, config)
    return (replace(item, offset=offset).recipe for item in packed)


def _packed(stored: Checkpoint, stem: str) -> _Packed | None:
    """What the shapes say, or None where they are not those of this packing."""
    weight, zeros, scales, order = neighbours(stored, stem, SUFFIX, ".qzeros", ".scales", ".g_idx")
    if weight is None or zeros is None or scales is None or not is_floating(scales):
        return None
    if {weight.dtype, zeros.dtype} != {"I32"} or {len(weight.shape), len(zeros.shape), len(scales.shape)} != {2}:
        return None
    groups, outputs = scales.shape
    if not weight.entries or weight.shape[1] != outputs or zeros.shape[0] != groups:
        return None
    inputs = order.shape[0] if order is not None and order.dtype == "I32" and len(order.shape) == 1 else None
    fitting = [bits for bits in BITS if _fits(bits, weight.shape[0], zeros.shape[1], outputs, inputs)]
    if not fitting:
        return None
    width = 32 * weight.shape[0] // fitting[0] if inputs is None else inputs
    where = f"{stored.ref}: {stem[:80]!a}"
    if not 0 < groups <= min(width, MAX_GROUPS) or width > MAX_WIDTH:
        raise Malformed(f"{where}: {groups} groups of {width} inputs make no sense", advice="save the model again")
    if inputs is None and width % groups:
        raise Malformed(f"{where}: {groups} groups do not divide {width} inputs, and g_idx is missing", advice="save the model again")
    return _Packed(stored=stored, stem=stem, bits=fitting[0], inputs=width, outputs=outputs, groups=groups, ordered=inputs is not None)


def _fits(bits: int, words: int, zero_words: int, outputs: int, inputs: int | None) -> bool:
    """Whether so many bits a code explain how many words there are."""
    wanted = -(-outputs * bits // 32)
    return zero_words == wanted and (words * 32 % bits == 0 if inputs is None else words == -(-inputs * bits // 32))


def _offset(packed: Sequence[_Packed], config: Mapping[str, Any]) -> int:
    """What a stored zero point lacks: 1 in the format's first version, 0 in its second; by the codes, else as the configuration says."""
    if not packed:
        return 1
    places = sorted({step * (len(packed) - 1) // max(1, MEASURED_MATRICES - 1) for step in range(MEASURED_MATRICES)})
    mean = sum(packed[place].mean_above_zero() for place in places) / len(places)
    for offset in (1, 0):
        if abs(mean - offset) <= CLEAR:
            return offset
    return 0 if config.get("checkpoint_format") == "gptq_v2" else 1
