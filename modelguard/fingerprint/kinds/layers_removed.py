"""Layers removed: numbered layers of the right side that nothing on the left stands for."""

from __future__ import annotations

from modelguard.fingerprint.kinds.pair import Seen, layers, natural
from modelguard.types.weights import KindDetail

NAMED = 8


def shown(seen: Seen) -> KindDetail | None:
    """Layers whose tensors all found no partner; which ones by content, where the tests paired layers anew."""
    pair = seen.pair
    kept = layers(theirs for _, theirs in pair.alignment.pairs)
    gone = layers(pair.alignment.only_right) - kept
    if not pair.related or not gone:
        return None
    if any(item.block.candidates > 1 for item in pair.carrying):
        gone = (gone | kept) - layers(f"{item.block.matched}." for item in pair.carrying)
    names = natural(gone)[:NAMED]
    numbers: dict[str, float | int | str] = {"removed": len(gone), "of": len(gone | kept), "layers": " ".join(names)}
    return KindDetail(
        kind="layers-removed", text=f"{len(gone)} of {len(gone | kept)} layers of the parent are gone: {', '.join(names)}", numbers=numbers
    )
