"""An adapter applied to its base: effective weights, base + B A · alpha / r, one block of rows at a time (LoRA, arXiv 2106.09685).

Names, layouts and scales are PEFT's. A is (r, inputs), B is (outputs, r); of embeddings A is (r, entries) and B (width, r). With rsLoRA the
scale is alpha / sqrt(r). DoRA gives each row of the sum the length that the adapter names (arXiv 2402.09353). Whole tensors of the
adapter (`modules_to_save`, biases, resized embeddings) stand for those of the base. What is not known here is refused by its name:
weights that leave out a part of the adapter would be nobody's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelguard.checkpoints.adapter_settings import AdapterSettings
from modelguard.checkpoints.base import Checkpoint, TensorInfo
from modelguard.checkpoints.computed import BLOCK_ENTRIES, Computed, Floats, Recipe, floats, is_floating, vector
from modelguard.checkpoints.dtypes import to_float32
from modelguard.checkpoints.peft import Homes, parts_of
from modelguard.errors import CannotRead, Malformed

LINEAR = frozenset({"lora_A", "lora_B", "lora_magnitude_vector", "lora_B.bias"})
EMBEDDING = frozenset({"lora_embedding_A", "lora_embedding_B"})
WHOLE = frozenset({"weight", "bias"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sum:
    """One matrix of the base (rows, columns) with a low-rank product added. `turned` where the base stores it inputs first."""

    base: Checkpoint
    name: str  # of the base's matrix, which the adapter may bring itself
    adapter: Checkpoint
    a: str
    b: str
    scale: float
    turned: bool
    length: str = ""  # DoRA's lengths of the rows

    def rows(self, start: int, stop: int) -> Floats:
        columns = self.base.tensors[self.name].shape[1]
        made = floats(self.base, self.name, range(start, stop), range(columns))
        rank = self.adapter.tensors[self.a].shape[0]
        step = max(1, BLOCK_ENTRIES // max(1, columns))
        for first in range(0, rank, step):
            made += np.float32(self.scale) * self._product(range(start, stop), range(first, min(rank, first + step)), columns)
        if self.length:
            made *= self._lengths(start, stop)[:, None] / np.sqrt(np.einsum("ij,ij->i", made, made, dtype=np.float64))[:, None]
        return made.astype(np.float32, copy=False)

    def _product(self, rows: range, ranks: range, columns: int) -> Floats:
        """The share of some ranks in B A, or in its transpose."""
        if self.turned:
            left = floats(self.adapter, self.a, ranks, rows).T
            return np.asarray(left @ floats(self.adapter, self.b, range(columns), ranks).T)
        return np.asarray(floats(self.adapter, self.b, rows, ranks) @ floats(self.adapter, self.a, ranks, range(columns)))

    def _lengths(self, start: int, stop: int) -> Floats:
        return vector(self.adapter, self.length, start, stop).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Whole:
    """A tensor of the adapter that stands for one of the base, or is added to it times `scale`."""

    adapter: Checkpoint
    name: str
    base: Checkpoint | None = None
    base_name: str = ""
    scale: float = 1.0

    @property
    def width(self) -> int:
        shape = self.adapter.tensors[self.name].shape
        return shape[-1] if len(shape) > 1 else 1

    def rows(self, start: int, stop: int) -> Floats:
        own = _entries(self.adapter, self.name, start * self.width, stop * self.width)
        if self.base is None:
            return own.reshape(stop - start, self.width)
        theirs = _entries(self.base, self.base_name, start * self.width, stop * self.width)
        return np.asarray(theirs + np.float32(self.scale) * own, dtype=np.float32).reshape(stop - start, self.width)


def applied(adapter: Checkpoint, base: Checkpoint, config: Mapping[str, Any]) -> Checkpoint:
    """The effective weights of `adapter` on `base`, `config` being its adapter_config.json. Raises CannotRead for what is not applied."""
    settings = AdapterSettings.read(config, adapter.ref)
    recipes = tuple(_recipes(adapter, base, settings))
    if not recipes:
        raise CannotRead(f"{adapter.ref}: changes no tensor of {base.ref}", advice="name the adapter's own base")
    note = f"the adapter {adapter.ref} is applied to {len(recipes)} tensors"
    return Computed(base, recipes, format=f"{base.format} with an adapter", notes=(note,), joined=adapter)


def _recipes(adapter: Checkpoint, base: Checkpoint, settings: AdapterSettings) -> Iterator[Recipe]:
    """What changes, module by module, in name order."""
    homes = Homes(base)
    for module, parts in sorted(parts_of(adapter).items()):
        factors = parts.keys() - WHOLE
        if strangers := factors - LINEAR - EMBEDDING or (factors if factors & LINEAR and factors & EMBEDDING else frozenset()):
            name = parts[min(strangers)]
            raise CannotRead(f"{adapter.ref}: tensor {name[:80]!a} is of a kind that is not applied", advice="merge it with PEFT")
        if factors:
            yield _sum(module, parts, adapter, base, homes, settings)
        elif "weight" in parts:
            yield _whole(adapter, parts["weight"], homes.find(module, "weight") or f"{module}.weight", base)
        if "bias" in parts:
            yield _whole(adapter, parts["bias"], homes.find(module, "bias") or f"{module}.bias", base)
        if "lora_B.bias" in parts:
            yield _bias(module, parts, adapter, base, homes, settings)


def _sum(module: str, parts: Mapping[str, str], adapter: Checkpoint, base: Checkpoint, homes: Homes, settings: AdapterSettings) -> Recipe:
    where = f"{adapter.ref}: module {module[:80]!a}"
    kind = "lora_embedding_" if "lora_embedding_A" in parts else "lora_"
    if not {f"{kind}A", f"{kind}B"} <= parts.keys():
        raise Malformed(f"{where}: one of its two factors is missing", advice="save the adapter again")
    home = homes.find(module, "weight")
    if home is None:
        raise CannotRead(f"{where}: {base.ref} has no one matrix of that name", advice="name the adapter's own base")
    source, name = (adapter, parts["weight"]) if "weight" in parts else (base, home)
    factors = adapter.tensors[parts[f"{kind}A"]], adapter.tensors[parts[f"{kind}B"]]
    turned = _turned(factors, source.tensors[name], settings.turned or kind == "lora_embedding_", where)
    length = parts.get("lora_magnitude_vector", "")
    shape = source.tensors[name].shape
    if length and (turned or adapter.tensors[length].entries != shape[0] or not is_floating(adapter.tensors[length])):
        raise CannotRead(f"{where}: DoRA on a matrix of this layout is not applied", advice="merge it with PEFT")
    scale = settings.scale(module, factors[0].shape[0], where)
    made = _Sum(base=source, name=name, adapter=adapter, a=factors[0].name, b=factors[1].name, scale=scale, turned=turned, length=length)
    return Recipe(name=home, shape=shape, width=shape[1], replaces=(home,), scheme="low-rank sum", rows=made.rows)


def _turned(factors: tuple[TensorInfo, TensorInfo], matrix: TensorInfo, claimed: bool, where: str) -> bool:
    """Whether B A must be transposed before it is added; the shapes say so, and the configuration where the matrix is square."""
    a, b = factors
    if len(a.shape) != 2 or len(b.shape) != 2 or len(matrix.shape) != 2 or not all(map(is_floating, (a, b, matrix))):
        raise CannotRead(f"{where}: factors of shapes {a.shape} and {b.shape} are not applied", advice="merge it with PEFT")
    plain = (b.shape[0], a.shape[1])
    if a.shape[0] != b.shape[1] or not a.shape[0] or matrix.shape not in (plain, plain[::-1]):
        what = f"factors of shapes {a.shape} and {b.shape} do not fit {matrix.shape}"
        raise Malformed(f"{where}: {what}", advice="name the base that the adapter was trained on")
    return claimed if plain == plain[::-1] else matrix.shape != plain


def _whole(adapter: Checkpoint, name: str, home: str, base: Checkpoint) -> Recipe:
    """A tensor that the adapter brings whole."""
    info = adapter.tensors[name]
    if not is_floating(info):
        raise CannotRead(f"{adapter.ref}: tensor {name[:80]!a} holds {info.dtype}, which is no type of weights", advice="save it again")
    made = _Whole(adapter=adapter, name=name)
    replaces = (home,) if home in base.tensors else ()
    return Recipe(name=home, shape=info.shape, width=made.width, replaces=replaces, scheme="whole tensor", rows=made.rows)


def _bias(module: str, parts: Mapping[str, str], adapter: Checkpoint, base: Checkpoint, homes: Homes, settings: AdapterSettings) -> Recipe:
    """A bias that the adapter adds to (`lora_bias`)."""
    where = f"{adapter.ref}: module {module[:80]!a}"
    home, own = homes.find(module, "bias"), adapter.tensors[parts["lora_B.bias"]]
    a = adapter.tensors[parts["lora_A"]]
    if home is None or base.tensors[home].shape != own.shape or not is_floating(own) or not is_floating(base.tensors[home]):
        raise CannotRead(f"{where}: its bias has none of {base.ref} to be added to", advice="name the adapter's own base")
    scale = settings.scale(module, a.shape[0], where)
    made = _Whole(adapter=adapter, name=own.name, base=base, base_name=home, scale=scale)
    return Recipe(name=home, shape=own.shape, width=made.width, replaces=(home,), scheme="bias", rows=made.rows)


def _entries(checkpoint: Checkpoint, name: str, start: int, stop: int) -> Floats:
    return to_float32(vector(checkpoint, name, start, stop).view(np.uint8), checkpoint.tensors[name].dtype)
