"""Cast: values hold fewer significant bits than the right side's, by their storage type or in a wider one."""

from __future__ import annotations

from modelguard.checkpoints.dtypes import PRECISION
from modelguard.fingerprint.kinds.pair import Seen
from modelguard.types.weights import KindDetail, Relation

MOST_BITS = 11  # significant bits of float16, the widest type that a cast is read off values for


def shown(seen: Seen) -> KindDetail | None:
    """Narrower storage, values of a narrower type stored in a wider one, or nothing but a cast either way."""
    if not seen.pair.related:
        return None
    pairs = [(seen.pair.left.tensors[ours], seen.pair.right.tensors[theirs]) for ours, theirs in seen.pair.alignment.pairs]
    narrower = [(a.dtype, b.dtype) for a, b in pairs if PRECISION.get(a.dtype, 99) < PRECISION.get(b.dtype, 0)]
    if narrower:
        ours, theirs = max(set(narrower), key=lambda types: (narrower.count(types), types))
        numbers: dict[str, float | int | str] = {"tensors": len(narrower), "type": ours, "from_type": theirs}
        return KindDetail(kind="cast", text=f"{len(narrower)} tensors are stored as {ours}, in place of {theirs}", numbers=numbers)
    hidden = [trait for trait in seen.traits if trait.bits[0] < trait.bits[1] and trait.bits[0] in (8, MOST_BITS) and trait.matrix]
    if hidden and len(hidden) > sum(trait.matrix for trait in seen.traits) / 2:
        text = f"{len(hidden)} matrices hold values of {hidden[0].bits[0]} significant bits in a wider type"
        return KindDetail(kind="cast", text=text, numbers={"tensors": len(hidden), "significant_bits": hidden[0].bits[0]})
    only = sum(item.explanation == "cast" for item in seen.pair.differences)
    if only and seen.pair.relation is Relation.SAME_WEIGHTS:
        return KindDetail(kind="cast", text=f"{only} tensors are stored in another type", numbers={"tensors": only})
    return None
