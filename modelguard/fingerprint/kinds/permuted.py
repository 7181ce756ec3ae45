"""Permuted: the units of layers in another order, exactly, or by the one test that does not see their order."""

from __future__ import annotations

from modelguard.fingerprint.kinds.pair import Seen
from modelguard.fingerprint.weight_tests import T2
from modelguard.types.weights import KindDetail, Relation


def shown(seen: Seen) -> KindDetail | None:
    """A lossless permutation, blocks on which T2 alone speaks, or a full disguise, which no exact test sees through."""
    pair = seen.pair
    exact = sum(item.explanation == "permuted" for item in pair.differences)
    only = [item.block.layer for item in pair.carrying if pair.methods(item) == {T2}]
    full = pair.relation is Relation.DERIVED and bool(pair.examined) and not pair.carrying
    if not pair.related or not (exact or only or full):
        return None
    parts = [f"{exact} tensors are the parent's with units in another order"] if exact else []
    parts += [f"on {len(only)} layers the parent shows only in the axes of the residual stream, not in its units' order"] if only else []
    parts += ["no layer shows the parent in its units' order"] if full else []
    numbers: dict[str, float | int | str] = {"tensors": exact, "layers": len(only), "layers_examined": len(pair.examined)}
    return KindDetail(kind="permuted", text="; ".join(parts), numbers=numbers)
