"""Quantized: values lie on few levels at equal distances, and the right side's do not."""

from __future__ import annotations

from collections import Counter

from modelguard.fingerprint.kinds.pair import Seen
from modelguard.types.weights import KindDetail

PACKED = "dequantised"  # what a reader of packed formats notes of its tensors


def shown(seen: Seen) -> KindDetail | None:
    """A grid in the values of matrices, or a packed format whose reader says that it dequantised."""
    found = [(trait, trait.grid) for trait in seen.traits if trait.grid is not None]
    packed = [note for note in seen.pair.left.notes if PACKED in note] if seen.pair.related else []
    if not found and not packed:
        return None
    if not found:
        return KindDetail(kind="quantized", text=packed[0])
    matrices = sum(trait.matrix for trait in seen.traits)
    bits = Counter(grid.bits for _, grid in found).most_common()
    widths = max(bits, key=lambda item: (item[1], item[0]))[0]
    along = max(Counter(grid.along for _, grid in found).items(), key=lambda item: (item[1], item[0]))[0]
    text = f"{len(found)} of {matrices} changed matrices lie on a grid of {widths} bits with one step a {along}"
    numbers: dict[str, float | int | str] = {
        "bits": widths,
        "along": along,
        "matrices": len(found),
        "changed_matrices": matrices,
        "log10_p_of_weakest_group": max(grid.log10_p for _, grid in found),
        "null": "phases of values against the grid's step uniform, corrected over the numbers of steps tried",
        "within_half_a_step": min(grid.within for _, grid in found),
    }
    return KindDetail(kind="quantized", text=text + (f"; {packed[0]}" if packed else ""), numbers=numbers)
