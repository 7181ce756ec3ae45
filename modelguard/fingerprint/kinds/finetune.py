"""Finetune: tensors moved a little, by no rewriting and not by few directions, a mixture or noise."""

from __future__ import annotations

from modelguard.fingerprint.kinds.movement import BOUNDARY, movement
from modelguard.fingerprint.kinds.pair import Seen
from modelguard.types.weights import KindDetail

YIELDS_TO = ("lora-merged", "merged", "noised")


def shown(seen: Seen) -> KindDetail | None:
    """Training that moved the median matrix by less than the boundary."""
    moved = movement(seen)
    if moved is None or moved.far:
        return None
    text = f"{moved.tensors} tensors moved, the median one by {moved.median:.3g} of its size (below {BOUNDARY:g}, by convention)"
    return KindDetail(kind="finetune", text=text, numbers=moved.numbers)
