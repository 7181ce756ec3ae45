"""Rescaled: rows or columns of matrices are the parent's times constants, exactly or beside another change."""

from __future__ import annotations

from modelguard.fingerprint.kinds.pair import Seen
from modelguard.fingerprint.kinds.scaling import BEYOND_CHANGE, SPREAD
from modelguard.types.weights import KindDetail

MIN_MATRICES = 2
YIELDS_TO = ("lora-merged", "merged")


def shown(seen: Seen) -> KindDetail | None:
    """Factors in at least two matrices, or tensors that the exact difference explains by factors that another tensor undoes."""
    undone = sum(item.explanation == "rescaled" for item in seen.pair.differences) if seen.pair.related else 0
    found = [(trait, trait.scaling) for trait in seen.aligned if trait.scaling is not None and not trait.coded]
    if len(found) < MIN_MATRICES:
        return _undone(undone) if undone else None
    exact = sum(scaling.exact for _, scaling in found)
    smallest, largest = min(scaling.smallest for _, scaling in found), max(scaling.largest for _, scaling in found)
    how = "up to rounding" if exact == len(found) else f"{exact} of them up to rounding"
    text = f"rows or columns of {len(found)} matrices are the parent's times {smallest:.3g} to {largest:.3g}, {how}"
    numbers: dict[str, float | int | str] = {
        "matrices": len(found),
        "exact": exact,
        "undone_elsewhere": undone,
        "smallest_factor": smallest,
        "largest_factor": largest,
        "largest_spread": max(scaling.spread for _, scaling in found),
        "spread_limit": SPREAD,
        "over_turn_limit": BEYOND_CHANGE,
    }
    return KindDetail(kind="rescaled", text=text, numbers=numbers)


def _undone(tensors: int) -> KindDetail:
    text = f"{tensors} tensors are the parent's times factors that another tensor undoes"
    return KindDetail(kind="rescaled", text=text, numbers={"undone_elsewhere": tensors})
