"""Which kinds a pair shows. Each kind is one file here that judges the same traits; those that exclude one another name who goes first."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import modelguard.fingerprint.kinds
from modelguard.discover import modules
from modelguard.fingerprint.kinds.pair import Pair, Seen, partners
from modelguard.fingerprint.kinds.traits import Trait, trait
from modelguard.types.weights import KindDetail, Relation

ORDER = (  # of the contract
    *("finetune", "continued-pretraining", "adapter", "lora-merged", "quantized", "cast", "pruned", "merged", "layers-removed"),
    *("layers-added", "vocabulary-changed", "renamed", "permuted", "rotated", "rescaled", "upcycled", "noised", "partial"),
)


def recognise(pair: Pair) -> tuple[KindDetail, ...]:
    """The kinds that a pair shows, each with its numbers, in the contract's order.

    Weights are read where something changed between related checkpoints, and there a sample of rows only. A kind whose file names
    others in YIELDS_TO is not said beside them: those explain what it would explain.
    """
    seen = Seen(pair=pair, traits=_traits(pair))
    details = {module: detail for module in _kinds() if (detail := module.shown(seen)) is not None}
    names = {detail.kind for detail in details.values()}
    kept = [detail for module, detail in details.items() if not names & set(getattr(module, "YIELDS_TO", ()))]
    return tuple(sorted(kept, key=lambda detail: (ORDER.index(detail.kind), detail.text)))


def _traits(pair: Pair) -> tuple[Trait, ...]:
    if pair.relation is not Relation.DERIVED:
        return ()
    found = (trait(pair.left, pair.right, *names) for names in partners(pair))
    return tuple(item for item in found if item is not None)


@cache
def _kinds() -> tuple[ModuleType, ...]:
    return modules(modelguard.fingerprint.kinds, having="shown")
