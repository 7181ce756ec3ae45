"""PEFT adapters: low-rank factors beside a base. Alone they show which shapes they fit, and nothing more about their base."""

from __future__ import annotations

import re
from collections.abc import Mapping

from modelguard.blobs.base import Folder, read_small
from modelguard.checkpoints.base import Checkpoint
from modelguard.documents import json_object
from modelguard.errors import CannotFetch
from modelguard.types.weights import AdapterFit

CONFIG = "adapter_config.json"
MAX_CONFIG_BYTES = 4 << 20
ROLE = re.compile(
    r"(?P<module>.+?)\.(?P<role>lora_(?:embedding_)?[AB]|lora_magnitude_vector)(?:\.(?!weight$|bias$)[\w-]{1,80})?(?P<leaf>\.weight|\.bias)?"
)
SAVED = re.compile(r"(?P<module>.+?)(?:\.modules_to_save(?:\.[\w-]{1,80})?|\.base_layer)?\.(?P<role>weight|bias)")
PREFIX = re.compile(r"(?:base_model\.)?(?:model\.)?")
MAX_DEPTH = 32  # components of a tensor's name
NAMED_MISFITS = 8
Factors = Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]


def is_adapter(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is an adapter by its tensors: low-rank factors, without the matrices that they belong to beside them."""
    if not any(".lora_" in name and ROLE.fullmatch(name) for name in checkpoint.tensors):
        return False
    linear = [parts for parts in parts_of(checkpoint).values() if "lora_A" in parts]
    return not linear or not all("weight" in parts for parts in linear)


def read_config(folder: Folder) -> Mapping[str, object]:
    """The adapter_config.json of a folder. Raises CannotRead where there is none."""
    if CONFIG not in folder.sizes:
        raise CannotFetch(f"{folder.ref}: holds no {CONFIG}, so the adapter's scale is not known", advice="commit it beside the weights")
    return json_object(read_small(folder.open(CONFIG), MAX_CONFIG_BYTES), f"{folder.ref}/{CONFIG}")


def fit(adapter: Checkpoint, base: Checkpoint) -> AdapterFit:
    """Holds the shapes of an adapter's factors against the matrices that they would be added to: B A must have the base's shape."""
    factors, homes = low_rank_factors(adapter), Homes(base)
    misfits = tuple(module for module, shapes in factors.items() if not _fits(module, *shapes, base, homes))
    return AdapterFit(
        base=base.ref,
        rank=max((a[0] for a, _ in factors.values()), default=0),
        modules=len(factors),
        fitting=len(factors) - len(misfits),
        misfits=misfits[:NAMED_MISFITS],
    )


def low_rank_factors(adapter: Checkpoint) -> Factors:
    """Shapes of (A, B) by module, for every module that has both: A is (rank, in), B is (out, rank)."""
    found: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for module, parts in sorted(parts_of(adapter).items()):
        for kind in ("lora_", "lora_embedding_"):
            a, b = (adapter.tensors.get(parts.get(kind + side, "")) for side in "AB")
            if a is not None and b is not None and len(a.shape) == len(b.shape) == 2:
                found[module] = (a.shape, b.shape)
    return found


def parts_of(adapter: Checkpoint) -> Mapping[str, Mapping[str, str]]:
    """The adapter's tensors by module (without PEFT's own prefix) and by what they are in it: `lora_A`, `lora_B.bias`, `weight`, …"""
    modules: dict[str, dict[str, str]] = {}
    for name in sorted(adapter.tensors):
        match = ROLE.fullmatch(name) or SAVED.fullmatch(name)
        module, role = (match["module"], match["role"]) if match else name.rpartition(".")[::2]
        if match and match.groupdict().get("leaf") == ".bias":
            role += ".bias"
        modules.setdefault(_without_prefix(module), {})[role] = name
    return modules


class Homes:
    """Which tensor of a base a module of an adapter belongs to: one of its name, behind whatever prefix either of them has."""

    def __init__(self, base: Checkpoint) -> None:
        self._names = base.tensors.keys()
        self._by_ending: dict[str, list[str]] = {}
        for name in sorted(self._names):
            for ending in _endings(name):
                self._by_ending.setdefault(ending, []).append(name)

    def find(self, module: str, leaf: str) -> str | None:
        """The one tensor that a module's `leaf` (weight or bias) is; None where there is none, or no telling which."""
        found = self.candidates(f"{module}.{leaf}")
        return found[0] if len(found) == 1 else None

    def candidates(self, name: str) -> list[str]:
        """Tensors that a name may stand for: itself, else those that end in it, else those that it ends in."""
        if name in self._names:
            return [name]
        return self._by_ending.get(name, []) or [ending for ending in _endings(name) if ending in self._names and "." in ending][:1]


def _endings(name: str) -> list[str]:
    """What follows each of the dots in a name. Names of hostile depth have none."""
    parts = name.split(".", MAX_DEPTH)
    return [] if len(parts) > MAX_DEPTH else [".".join(parts[count:]) for count in range(1, len(parts))]


def _without_prefix(module: str) -> str:
    """A module's name without what PEFT's wrappers put before it; `model.` of the model itself goes too, and candidates bring it back."""
    match = PREFIX.match(module)
    return module[match.end() :] if match else module


def _fits(module: str, a: tuple[int, ...], b: tuple[int, ...], base: Checkpoint, homes: Homes) -> bool:
    """Whether some matrix of the base with that module's name, behind whatever prefix, has the shape of B A (or its transpose)."""
    wanted = (b[0], a[1])
    shapes = [base.tensors[name].shape for name in homes.candidates(f"{module}.weight")]
    return a[0] == b[1] and any(shape in (wanted, wanted[::-1]) for shape in shapes)
