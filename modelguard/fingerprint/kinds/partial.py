"""Partial: some layers carry the parent, and on others the tests would have seen it and do not."""

from __future__ import annotations

from modelguard.fingerprint.kinds.pair import Seen, layers, natural
from modelguard.types.weights import KindDetail, Relation

NAMED = 16


def shown(seen: Seen) -> KindDetail | None:
    """Layers that earn `unrelated` beside layers on which independence is refuted. Added layers are no strangers among the parent's."""
    pair = seen.pair
    carrying, strange = pair.carrying, pair.strange
    kept = layers(ours for ours, _ in pair.alignment.pairs)
    added = layers(pair.alignment.only_left) - kept
    if pair.relation not in (Relation.DERIVED, Relation.INCONCLUSIVE) or not carrying or len(strange) <= len(added):
        return None
    names = natural(item.block.layer for item in carrying)
    others = natural(item.block.layer for item in strange)
    unsaid = len(pair.examined) - len(carrying) - len(strange)
    text = f"{len(carrying)} layers carry the parent ({', '.join(names[:NAMED])}), {len(strange)} do not ({', '.join(others[:NAMED])})"
    numbers: dict[str, float | int | str] = {
        "carrying": len(carrying),
        "strange": len(strange),
        "undecided": unsaid,
        "layers_carrying": " ".join(names),
        "layers_strange": " ".join(others),
    }
    return KindDetail(kind="partial", text=text, numbers=numbers)
