"""Pruned: many more exact zeros than on the right side, anywhere or in every few neighbours."""

from __future__ import annotations

from statistics import mean

from modelguard.fingerprint.kinds.pair import Seen
from modelguard.fingerprint.kinds.traits import PRUNED
from modelguard.types.weights import KindDetail


def shown(seen: Seen) -> KindDetail | None:
    """Zeros in half of the changed matrices or more; zeros that a grid's rounding makes are no pruning."""
    matrices = [trait for trait in seen.traits if trait.matrix]
    pruned = [trait for trait in matrices if trait.pruned]
    if not pruned or 2 * len(pruned) < len(matrices):
        return None
    patterns = {trait.pattern for trait in pruned}
    pattern = patterns.pop() if len(patterns) == 1 else None
    share, before = mean(trait.zeros[0] for trait in pruned), mean(trait.zeros[1] for trait in pruned)
    shape = f", at least {pattern[0]} in every {pattern[1]}" if pattern else ""
    numbers: dict[str, float | int | str] = {
        "share_of_zeros": share,
        "share_before": before,
        "matrices": len(pruned),
        "pattern": f"{pattern[0]}:{pattern[1]}" if pattern else "unstructured",
        "least_excess": PRUNED,
        "kept_as_they_were": min(trait.kept for trait in pruned),
    }
    text = f"{share:.0%} of the entries of {len(pruned)} matrices are zero (right: {before:.0%}){shape}"
    return KindDetail(kind="pruned", text=text, numbers=numbers)
