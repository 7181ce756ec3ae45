"""Rotated: the residual stream in another frame, by the one test that no frame hides from."""

from __future__ import annotations

from modelguard.fingerprint.kinds.pair import Seen
from modelguard.fingerprint.weight_tests import T3
from modelguard.types.weights import KindDetail, Relation


def shown(seen: Seen) -> KindDetail | None:
    """Blocks on which T3 alone speaks, or a full disguise. A permutation of the axes is such a frame too, unless it is seen to be one."""
    pair = seen.pair
    only = [item.block.layer for item in pair.carrying if pair.methods(item) == {T3}]
    full = pair.relation is Relation.DERIVED and bool(pair.examined) and not pair.carrying
    exact = any(item.explanation == "permuted" for item in pair.differences)
    if not pair.related or not ((only and not exact) or full):
        return None
    text = f"on {len(only)} layers units are alike among each other, but not in the parent's frame (rotated axes, or their order)"
    if full:
        text = "no layer shows the parent in its own frame"
    return KindDetail(kind="rotated", text=text, numbers={"layers": len(only), "layers_examined": len(pair.examined)})
