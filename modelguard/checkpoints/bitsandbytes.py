"""bitsandbytes: 4-bit codes of a table with a scale for each block of entries (QLoRA, arXiv 2305.14314), and 8-bit rows (arXiv 2208.07339).

4 bits: `weight` holds two codes a byte, the higher nibble first, over the flattened matrix; `weight.quant_map` is the table of 16 values,
`weight.absmax` the scale of each block. Where the scales are quantised in turn, `absmax` holds codes of `nested_quant_map` with a scale
in `nested_absmax` for each nested block, and an offset is added. Shape, block sizes and offset stand as JSON in a tensor of their own.
8 bits: `weight` I8 (outputs, inputs), `SCB` the largest magnitude of each row, which stands for 127.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint, TensorInfo
from modelguard.checkpoints.computed import Floats, Recipe, part, vector
from modelguard.documents import json_object
from modelguard.errors import CannotRead, Malformed

STATE = ".quant_state.bitsandbytes__"
MAX_STATE_BYTES = 4096
MAX_BLOCK = 1 << 16
HUGE = 1e30
TABLE, NESTED_TABLE = 16, 256
ROWS = ".SCB"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blocks:
    """A matrix of 4-bit codes. `nested` is 0 where the scales are stored as they are."""

    stored: Checkpoint
    name: str
    shape: tuple[int, ...]
    block: int
    nested: int = 0
    offset: float = 0.0

    @property
    def width(self) -> int:
        return self.shape[-1]

    def rows(self, start: int, stop: int) -> Floats:
        first, last = start * self.width, stop * self.width
        pairs = octets(self.stored, self.name, first // 2, -(-last // 2))
        nibbles = np.stack((pairs >> 4, pairs & 15), axis=1).reshape(-1)[first % 2 :][: last - first]
        table = vector(self.stored, f"{self.name}.quant_map", 0, TABLE)
        made: Floats = table[nibbles]
        scales = self._scales(first // self.block, -(-last // self.block))
        made *= np.repeat(scales, self.block)[first % self.block :][: last - first]
        return made.reshape(stop - start, self.width)

    def _scales(self, first: int, last: int) -> Floats:
        """The scales of blocks [first, last)."""
        found = vector(self.stored, f"{self.name}.absmax", first, last)
        if not self.nested:
            return found
        table = vector(self.stored, f"{self.name}.nested_quant_map", 0, NESTED_TABLE)
        outer = vector(self.stored, f"{self.name}.nested_absmax", first // self.nested, -(-last // self.nested))
        outer = np.repeat(outer, self.nested)[first % self.nested :][: last - first]
        return np.asarray(table[found] * outer + np.float32(self.offset), dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """A matrix of 8-bit rows."""

    stored: Checkpoint
    name: str
    scales: str

    def rows(self, start: int, stop: int) -> Floats:
        made = part(self.stored, self.name, range(start, stop), range(self.stored.tensors[self.name].shape[1])).astype(np.float32)
        made *= vector(self.stored, self.scales, start, stop)[:, None] / np.float32(127)
        return made


def octets(stored: Checkpoint, name: str, start: int, stop: int) -> NDArray[np.uint8]:
    """Bytes of a tensor, whatever its type: codes are also stored inside of floats, so that sharding code takes them for weights."""
    raw = np.empty(stop - start, dtype=np.uint8)
    stored.readinto(name, start, raw.data)
    return raw


def recipes(stored: Checkpoint, config: Mapping[str, Any]) -> Iterator[Recipe]:
    """The matrices that are packed this way."""
    for name in sorted(stored.tensors):
        stem, marked, kind = name.partition(STATE)
        if marked:
            yield _four_bits(stored, stem, name, kind)
        elif name.endswith(ROWS):
            yield _eight_bits(stored, name.removesuffix(ROWS), name)


def _four_bits(stored: Checkpoint, name: str, state_name: str, kind: str) -> Recipe:
    where = f"{stored.ref}: {name[:80]!a} (bitsandbytes)"
    info, state = stored.tensors.get(name), stored.tensors[state_name]
    if info is None or state.nbytes > MAX_STATE_BYTES or kind not in ("nf4", "fp4"):
        raise Malformed(f"{where}: the quantisation state does not belong to a matrix of 4-bit codes", advice="save the model again")
    told = json_object(octets(stored, state_name, 0, state.nbytes).tobytes(), f"{where}: quantisation state")
    blocks = _blocks(stored, name, told, where)
    _check(blocks, info, where)
    suffixes = (".absmax", ".quant_map", *((".nested_absmax", ".nested_quant_map") if blocks.nested else ()))
    parts = (name, state_name, *(name + suffix for suffix in suffixes))
    scheme = f"bitsandbytes {kind}, blocks of {blocks.block}{', nested scales' if blocks.nested else ''}"
    return Recipe(name=name, shape=blocks.shape, width=blocks.width, replaces=parts, scheme=scheme, rows=blocks.rows)


def _blocks(stored: Checkpoint, name: str, told: Mapping[str, Any], where: str) -> _Blocks:
    """What the state tells, checked for itself."""
    shape, offset = told.get("shape"), told.get("nested_offset", 0.0)
    if not isinstance(shape, list) or not shape or not all(type(length) is int and 0 < length < 1 << 40 for length in shape):
        raise Malformed(f"{where}: the quantisation state has no shape", advice="save the model again")
    if type(offset) not in (int, float) or not abs(offset) < HUGE:
        raise Malformed(f"{where}: the quantisation state's offset is no number", advice="save the model again")
    block, nested = (_size(told, key, where) if key in told else 0 for key in ("blocksize", "nested_blocksize"))
    if not block:
        raise Malformed(f"{where}: the quantisation state has no block size", advice="save the model again")
    return _Blocks(stored=stored, name=name, shape=tuple(shape), block=block, nested=nested, offset=float(offset))


def _size(told: Mapping[str, Any], key: str, where: str) -> int:
    size = told[key]
    if type(size) is not int or not 0 < size <= MAX_BLOCK:
        raise Malformed(f"{where}: the quantisation state's {key} is not usable", advice="save the model again")
    return size


def _check(blocks: _Blocks, info: TensorInfo, where: str) -> None:
    """Raises Malformed unless every tensor has as many entries as the shape asks for."""
    entries = prod(blocks.shape)
    count = -(-entries // blocks.block)
    wanted = {".absmax": ("U8" if blocks.nested else "F32", count), ".quant_map": ("F32", TABLE)}
    if blocks.nested:
        wanted |= {".nested_absmax": ("F32", -(-count // blocks.nested)), ".nested_quant_map": ("F32", NESTED_TABLE)}
    for suffix, (dtype, length) in wanted.items():
        found = blocks.stored.tensors.get(blocks.name + suffix)
        if found is None or found.dtype != dtype or found.entries != length:
            raise Malformed(f"{where}: {suffix[1:]} is missing or not {length} entries of {dtype}", advice="save the model again")
    if info.nbytes != -(-entries // 2):
        raise Malformed(f"{where}: {info.nbytes} bytes do not hold {entries} codes of 4 bits", advice="save the model again")


def _eight_bits(stored: Checkpoint, stem: str, scales_name: str) -> Recipe:
    name, layout = f"{stem}.weight", f"{stem}.weight_format"
    where = f"{stored.ref}: {name[:80]!a} (bitsandbytes, 8 bits)"
    info, scales = stored.tensors.get(name), stored.tensors[scales_name]
    if info is None or info.dtype != "I8" or len(info.shape) != 2 or scales.dtype != "F32" or scales.entries != info.shape[0]:
        raise Malformed(f"{where}: SCB does not hold one scale for each row of an I8 matrix", advice="save the model again")
    parts = (name, scales_name, *((layout,) if layout in stored.tensors else ()))
    if layout in stored.tensors and octets(stored, layout, 0, stored.tensors[layout].nbytes).any():
        raise CannotRead(f"{where}: stored in a GPU's tile order, which is not read", advice="save it in row order")
    rows = _Rows(stored=stored, name=name, scales=scales_name).rows
    scheme = "bitsandbytes int8, a scale for each row"
    return Recipe(name=name, shape=info.shape, width=info.shape[1], replaces=parts, scheme=scheme, rows=rows)
