"""Checkpoints of which some tensors are computed from stored ones while they are read: dequantised matrices, adapters on a base.

A computed tensor is float32 and made in blocks of whole rows. The blocks' borders depend on the shape alone, so that whoever reads
whichever stretch sees the same bytes; the last blocks are kept, because readers walk through a tensor in smaller steps.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint, TensorInfo
from modelguard.checkpoints.dtypes import FLOATING, NUMPY, itemsize, to_float32
from modelguard.errors import CannotRead, Malformed

BLOCK_ENTRIES = 1 << 20
CACHED_BYTES = 64 << 20
MAX_WIDTH = 1 << 22  # entries of a row: a hundred times the widest matrix in use, and a bound on what one block takes
MAX_GROUPS = 1 << 16  # groups of inputs with a scale of their own; models in use have some thousands at most
WHOLE_ROWS_BYTES = 16 << 20  # below this, one read of whole rows is faster than one read a row
ENTRY = 4  # bytes

Array = NDArray[Any]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One computed tensor: `rows(start, stop)` gives its rows of `width` entries, over all dimensions, as float32 (stop - start, width).

    `replaces` names the stored tensors that are not shown beside it; `scheme` says in words how it is stored.
    """

    name: str
    shape: tuple[int, ...]
    width: int
    replaces: tuple[str, ...]
    scheme: str
    rows: Callable[[int, int], Floats]

    @property
    def info(self) -> TensorInfo:
        return TensorInfo(self.name, "F32", self.shape, ENTRY * prod(self.shape))


class Computed:
    """A checkpoint with some tensors computed, also from those of a `joined` one; the others are passed on as they are stored."""

    def __init__(
        self, stored: Checkpoint, recipes: Iterable[Recipe], *, format: str, notes: tuple[str, ...] = (), joined: Checkpoint | None = None
    ) -> None:
        self._stored, self._recipes = stored, _by_name(stored, recipes)
        hidden = {name for recipe in self._recipes.values() for name in recipe.replaces}
        shown = {name: info for name, info in stored.tensors.items() if name not in hidden}
        made = {name: recipe.info for name, recipe in self._recipes.items()}
        self.tensors: Mapping[str, TensorInfo] = dict(sorted((shown | made).items()))
        self.ref, self.format, self.notes = stored.ref, format, (*stored.notes, *notes)
        self.digest, self.verified = stored.digest, stored.verified
        if joined is not None:  # what is computed is not what either file's digest names
            self.ref, self.digest, self.verified = f"{stored.ref}+{joined.ref}", None, stored.verified and joined.verified
        self._blocks: OrderedDict[tuple[str, int], memoryview] = OrderedDict()
        self._lock = threading.Lock()

    def readinto(self, name: str, start: int, buffer: memoryview) -> None:
        if name not in self._recipes:
            self._stored.readinto(name, start, buffer)
            return
        recipe, done = self._recipes[name], 0
        if start < 0 or start + len(buffer) > recipe.info.nbytes:
            raise CannotRead(f"{self.ref}: tensor {name[:80]!a} ends at byte {recipe.info.nbytes}, {start + len(buffer)} wanted")
        size = _rows_in_block(recipe) * recipe.width * ENTRY
        while done < len(buffer):
            number, offset = divmod(start + done, size)
            piece = self._block(recipe, number)[offset : offset + len(buffer) - done]
            buffer[done : done + len(piece)] = piece
            done += len(piece)

    def _block(self, recipe: Recipe, number: int) -> memoryview:
        """The bytes of a block of rows, from the last ones made or anew. Two threads may make the same one: both are right."""
        key = (recipe.name, number)
        with self._lock:
            if key in self._blocks:
                self._blocks.move_to_end(key)
                return self._blocks[key]
        step = _rows_in_block(recipe)
        start = number * step
        with np.errstate(all="ignore"):  # scales may be infinite or absurd: that is the file's affair, and shows in the entries
            made = recipe.rows(start, min(prod(recipe.shape) // recipe.width, start + step))
        block = np.ascontiguousarray(made, dtype=np.float32).reshape(-1).view(np.uint8).data
        with self._lock:
            self._blocks[key] = block
            while sum(map(len, self._blocks.values())) > CACHED_BYTES and len(self._blocks) > 1:
                self._blocks.popitem(last=False)
        return block


def _by_name(stored: Checkpoint, recipes: Iterable[Recipe]) -> dict[str, Recipe]:
    """Recipes by name, once it is certain that no tensor is told twice."""
    found: dict[str, Recipe] = {}
    used: set[str] = set()
    for recipe in recipes:
        where = f"{stored.ref}: tensor {recipe.name[:80]!a}"
        if recipe.name in found or used & set(recipe.replaces):
            raise Malformed(f"{where} is given twice", advice="save the model again")
        if recipe.name in stored.tensors and recipe.name not in recipe.replaces:
            raise Malformed(f"{where} is stored packed and unpacked: loaders would differ", advice="save the model again")
        if recipe.width > MAX_WIDTH:
            raise Malformed(f"{where}: rows of {recipe.width} entries, at most {MAX_WIDTH} are read")
        found[recipe.name] = recipe
        used |= set(recipe.replaces)
    return found


def _rows_in_block(recipe: Recipe) -> int:
    return max(1, BLOCK_ENTRIES // max(1, recipe.width))


def part(stored: Checkpoint, name: str, rows: range, columns: range) -> Array:
    """Entries of a stored matrix in their own type, (len(rows), len(columns)); both ranges have step 1."""
    info = stored.tensors[name]
    width, size = prod(info.shape[1:]), itemsize(info.dtype)
    if 4 * len(columns) >= width or len(rows) * width * size <= WHOLE_ROWS_BYTES:
        raw = np.empty(len(rows) * width * size, dtype=np.uint8)
        stored.readinto(name, rows.start * width * size, raw.data)
        return raw.view(NUMPY[info.dtype]).reshape(len(rows), width)[:, columns.start : columns.stop]
    strip = np.empty((len(rows), len(columns) * size), dtype=np.uint8)
    for place, row in enumerate(rows):
        stored.readinto(name, (row * width + columns.start) * size, strip[place].data)
    return strip.view(NUMPY[info.dtype])


def vector(stored: Checkpoint, name: str, start: int, stop: int) -> Array:
    """Entries [start, stop) of a stored tensor in their own type, whatever its shape."""
    info = stored.tensors[name]
    raw = np.empty((stop - start) * itemsize(info.dtype), dtype=np.uint8)
    stored.readinto(name, start * itemsize(info.dtype), raw.data)
    return raw.view(NUMPY[info.dtype])


def floats(stored: Checkpoint, name: str, rows: range, columns: range) -> Floats:
    """`part` as float32, for a tensor of floating type."""
    entries = part(stored, name, rows, columns)
    raw = np.ascontiguousarray(entries).reshape(-1).view(np.uint8)
    return to_float32(raw, stored.tensors[name].dtype).reshape(entries.shape)


def codes(words: Array, bits: int) -> NDArray[np.uint8]:
    """Unsigned codes of `bits` bits each from rows of 32-bit words, lowest bits first: (n, k) becomes (n, 32 k // bits)."""
    octets = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return octets
    if 8 % bits == 0:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        return ((octets[:, :, None] >> shifts) & np.uint8((1 << bits) - 1)).reshape(len(octets), -1)
    stream = np.unpackbits(octets, axis=1, bitorder="little")  # codes run over the borders of words
    whole = stream[:, : stream.shape[1] // bits * bits].reshape(len(octets), -1, bits)
    return np.packbits(whole, axis=2, bitorder="little")[:, :, 0]


def neighbours(stored: Checkpoint, stem: str, *suffixes: str) -> tuple[TensorInfo | None, ...]:
    """The tensors `stem` + suffix, None where there is none."""
    return tuple(stored.tensors.get(stem + suffix) for suffix in suffixes)


def is_floating(info: TensorInfo | None) -> bool:
    """Whether there is such a tensor, and of a type that can hold scales."""
    return info is not None and info.dtype in FLOATING
