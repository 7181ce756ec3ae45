"""Layers added: numbered layers of the left side that nothing on the right stands for."""

from __future__ import annotations

from modelguard.fingerprint.kinds.pair import Seen, layers, natural
from modelguard.types.weights import KindDetail

NAMED = 8


def shown(seen: Seen) -> KindDetail | None:
    """Layers whose tensors all found no partner; the tests may show further down that they are copies of others."""
    pair = seen.pair
    kept = layers(ours for ours, _ in pair.alignment.pairs)
    new = layers(pair.alignment.only_left) - kept
    if not pair.related or not new:
        return None
    strange = [item.block.layer for item in pair.strange][: len(new)]
    names = natural(strange or new)[:NAMED]
    numbers: dict[str, float | int | str] = {"added": len(new), "of": len(new | kept), "layers": " ".join(names)}
    return KindDetail(
        kind="layers-added", text=f"{len(new)} of {len(new | kept)} layers are not the parent's: {', '.join(names)}", numbers=numbers
    )
