"""What can be said of an adapter without applying it: its shapes against a base, its factors against another adapter's.

The rank indices of a module are exchangeable: the rows of A are initialised alike, B starts at zero, and training does not know their
order. So rows of A (and columns of B) that are nearest to their own place in another adapter refute independence, module by module
independently (matching.py: P(K >= k) <= L^k / k! over L modules). A common random seed has the same effect as a common history, which
is why agreement is a shared start and nothing more; and because any invertible mixing of ranks leaves B A as it is, silence denies nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log10

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.computed import Floats, floats, is_floating
from modelguard.checkpoints.peft import fit, is_adapter, parts_of
from modelguard.fingerprint.matching import fixed_points, log10_tail
from modelguard.types.weights import AdapterFit, NullTest, Relation

METHOD = "adapter-rank-fixed-points-v1-m64-c4096"
NULL = "independent initialisation; rank indices of a module exchangeable under training"
TESTED_RANKS = 64
COLUMNS = 4096
MAX_MODULES = 4096
Pair = tuple[Floats, Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRelation:
    """How two checkpoints stand to each other of which at least one is an adapter; `why` says what stays open."""

    relation: Relation
    why: str
    tests: tuple[NullTest, ...] = ()

    @property
    def log10_p(self) -> float:
        return min((test.log10_p_adjusted for test in self.tests), default=0.0)


def relation_of_adapters(left: Checkpoint, right: Checkpoint, alpha: float) -> AdapterRelation | None:
    """The relation where one side or both are adapters, None where neither is."""
    ours, theirs = is_adapter(left), is_adapter(right)
    if ours and theirs:
        return _of_two(left, right, alpha)
    if not ours and not theirs:
        return None
    found = fit(left, right) if ours else fit(right, left)
    return AdapterRelation(relation=Relation.INCONCLUSIVE, why=_alone(found))


def _alone(found: AdapterFit) -> str:
    """All that an adapter shows of its base."""
    if not found.modules:
        return "the adapter has no low-rank factors that are known here"
    if found.misfits:
        listed = ", ".join(found.misfits[:3])
        return f"{found.modules - found.fitting} of the adapter's {found.modules} modules do not fit {found.base} in shape: {listed}"
    return f"all {found.modules} modules of the adapter fit {found.base} in shape; an adapter alone cannot confirm its base beyond that"


def _of_two(left: Checkpoint, right: Checkpoint, alpha: float) -> AdapterRelation:
    pairs = {side: list(_pairs(left, right, side)) for side in "AB"}
    if not pairs["A"]:
        return AdapterRelation(relation=Relation.INCONCLUSIVE, why="the two adapters have no module of equal shape in common")
    tests = tuple(_test(side, pairs[side]) for side in "AB")
    if tests[0].log10_p_adjusted <= log10(alpha):
        both = tests[1].log10_p_adjusted <= log10(alpha)
        word = "their B factors agree as well" if both else "what training made of B does not agree"
        why = f"the A factors share their start and {word}; a common random seed and a common history look alike here"
        return AdapterRelation(relation=Relation.SHARED_INITIALISATION, why=why, tests=tests)
    why = "the factors show nothing in common, and a change of the ranks' basis would hide what they have"
    return AdapterRelation(relation=Relation.INCONCLUSIVE, why=why, tests=tests)


def _pairs(left: Checkpoint, right: Checkpoint, side: str) -> Iterator[Pair]:
    """The factors of every module that both adapters have in equal shape, ranks first, (tested ranks, columns)."""
    ours, theirs = parts_of(left), parts_of(right)
    for module in sorted(ours.keys() & theirs.keys())[:MAX_MODULES]:
        for role in (f"lora_{side}", f"lora_embedding_{side}"):
            names = ours[module].get(role), theirs[module].get(role)
            if names[0] is None or names[1] is None:
                continue
            info, other = left.tensors[names[0]], right.tensors[names[1]]
            if info.shape == other.shape and len(info.shape) == 2 and is_floating(info) and is_floating(other):
                yield _ranks(left, names[0], side), _ranks(right, names[1], side)


def _ranks(checkpoint: Checkpoint, name: str, side: str) -> Floats:
    rows, columns = checkpoint.tensors[name].shape
    if side == "A":
        return floats(checkpoint, name, range(min(rows, TESTED_RANKS)), range(min(columns, COLUMNS)))
    return floats(checkpoint, name, range(min(rows, COLUMNS)), range(min(columns, TESTED_RANKS))).T


def _test(side: str, pairs: list[Pair]) -> NullTest:
    """Fixed points over all modules; the two factors' tests are corrected for being two."""
    fixed, n = sum(fixed_points(*pair) for pair in pairs), sum(len(pair[0]) for pair in pairs)
    log10_p = min(0.0, log10_tail(fixed, max(1, len(pairs))))
    return NullTest(
        method=METHOD,
        block=f"{side} of {len(pairs)} modules",
        statistic=float(fixed),
        n=n,
        log10_p=log10_p,
        log10_p_adjusted=min(0.0, log10_p + log10(2)),
        null=NULL,
        note=f"{fixed} of {n} ranks at their own place, {len(pairs)} expected by chance",
    )
