"""PEFT adapters: low-rank factors beside a base. Alone they show which shapes they fit, and nothing more about their base."""

from __future__ import annotations

import re
from collections.abc import Mapping

from modelguard.checkpoints.base import Checkpoint
from modelguard.types.weights import AdapterFit

FACTOR = re.compile(r"^(?:base_model\.)?(?:model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.[\w-]+)?(?:\.weight)?$")
NAMED_MISFITS = 8
Factors = Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]


def fit(adapter: Checkpoint, base: Checkpoint) -> AdapterFit:
    """Holds the shapes of an adapter's factors against the matrices that they would be added to: B A must have the base's shape."""
    factors = low_rank_factors(adapter)
    misfits = tuple(module for module, shapes in factors.items() if not _fits(module, *shapes, base))
    return AdapterFit(
        base=base.ref,
        rank=max((a[0] for a, _ in factors.values()), default=0),
        modules=len(factors),
        fitting=len(factors) - len(misfits),
        misfits=misfits[:NAMED_MISFITS],
    )


def low_rank_factors(adapter: Checkpoint) -> Factors:
    """Shapes of (A, B) by module, for every module that has both: A is (rank, in), B is (out, rank)."""
    sides: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, info in adapter.tensors.items():
        match = FACTOR.fullmatch(name)
        if match and len(info.shape) == 2:
            sides.setdefault(match["module"], {})[match["side"]] = info.shape
    return {module: (shapes["A"], shapes["B"]) for module, shapes in sorted(sides.items()) if len(shapes) == 2}


def _fits(module: str, a: tuple[int, ...], b: tuple[int, ...], base: Checkpoint) -> bool:
    """Whether some matrix of the base with that module's name, behind whatever prefix, has the shape of B A (or its transpose)."""
    wanted = (b[0], a[1])
    suffix = f"{module}.weight"
    shapes = [info.shape for name, info in base.tensors.items() if _ends(name, suffix) or _ends(suffix, name)]
    return a[0] == b[1] and any(shape in (wanted, wanted[::-1]) for shape in shapes)


def _ends(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith(f".{suffix}")
