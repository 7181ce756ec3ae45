"""Continued pretraining: training moved matrices by about their own size, and the tests still see the parent."""

from __future__ import annotations

from modelguard.fingerprint.kinds.movement import BOUNDARY, movement
from modelguard.fingerprint.kinds.pair import Seen
from modelguard.types.weights import KindDetail

YIELDS_TO = ("lora-merged", "merged", "noised")


def shown(seen: Seen) -> KindDetail | None:
    """Training that moved the median matrix by the boundary or more."""
    moved = movement(seen)
    if moved is None or not moved.far:
        return None
    text = f"{moved.tensors} tensors moved, the median one by {moved.median:.3g} of its size ({BOUNDARY:g} or more, by convention)"
    return KindDetail(kind="continued-pretraining", text=text, numbers=moved.numbers)
