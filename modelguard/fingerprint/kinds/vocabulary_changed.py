"""Vocabulary changed: a token table with another number of rows, whose shared rows are the parent's in their order."""

from __future__ import annotations

import numpy as np

from modelguard.checkpoints.dtypes import FLOATING
from modelguard.correspondence.tiles import rows
from modelguard.fingerprint.kinds.pair import Pair, Seen, layers
from modelguard.fingerprint.matching import fixed_points, log10_tail
from modelguard.types.weights import KindDetail

TESTED = 64
MAX_WIDTH = 1 << 16
LOG10_P = -9.0


def shown(seen: Seen) -> KindDetail | None:
    """Tables of tokens of unequal length. That rows are shared is shown by fixed points: P(K >= k) <= 1 / k! under independence."""
    pair = seen.pair
    if not pair.related:
        return None
    for name in pair.alignment.only_left:
        for other in pair.alignment.only_right:
            if _same_table(name, other) and _resized(pair, name, other):
                return _detail(pair, name, other)
    return None


def _same_table(name: str, other: str) -> bool:
    """Whether two names end alike, so that only a prefix differs, and speak of no numbered layer."""
    shorter, longer = sorted((name, other), key=len)
    return not layers((name, other)) and (longer == shorter or longer.endswith(f".{shorter}") or _tail(name) == _tail(other))


def _tail(name: str) -> list[str]:
    return name.split(".")[-2:]


def _resized(pair: Pair, name: str, other: str) -> bool:
    ours, theirs = pair.left.tensors[name], pair.right.tensors[other]
    tables = len(ours.shape) == len(theirs.shape) == 2 and {ours.dtype, theirs.dtype} <= FLOATING
    return (
        tables
        and ours.shape[1] == theirs.shape[1] <= MAX_WIDTH
        and ours.shape[0] != theirs.shape[0]
        and min(*ours.shape, *theirs.shape) > 1
    )


def _detail(pair: Pair, name: str, other: str) -> KindDetail:
    ours, theirs = pair.left.tensors[name].shape[0], pair.right.tensors[other].shape[0]
    tested = min(TESTED, ours, theirs)
    start = (min(ours, theirs) - tested) // 2
    pair_of_rows = (rows(side, table, start, start + tested) for side, table in ((pair.left, name), (pair.right, other)))
    left, right = (np.where(np.isfinite(part), part, 0) for part in pair_of_rows)
    fixed = fixed_points(left, right)
    chance = log10_tail(fixed)
    shared = "shared rows are in their place" if chance <= LOG10_P else "it is not shown that rows are shared in their order"
    numbers: dict[str, float | int | str] = {
        "rows": ours,
        "rows_before": theirs,
        "rows_tested": tested,
        "in_place": fixed,
        "log10_p": chance,
    }
    return KindDetail(kind="vocabulary-changed", text=f"{name} has {ours} rows, {theirs} on the right; {shared}", numbers=numbers)
