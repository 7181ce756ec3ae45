"""Renamed: tensors stand under other names than on the right side."""

from __future__ import annotations

from modelguard.fingerprint.kinds.pair import Seen
from modelguard.types.weights import KindDetail


def shown(seen: Seen) -> KindDetail | None:
    """Other names of aligned tensors."""
    others = [(ours, theirs) for ours, theirs in seen.pair.alignment.pairs if ours != theirs]
    if not seen.pair.related or not others:
        return None
    ours, theirs = others[0]
    text = f"{len(others)} tensors have another name, such as {ours} for {theirs}"
    return KindDetail(kind="renamed", text=text, numbers={"tensors": len(others), "of": len(seen.pair.alignment.pairs)})
