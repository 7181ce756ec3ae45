"""The kinds of derivatives: how each is made of a base, and what is true of it. The rows of the zoo's tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.zoo import making, tuning
from benchmarks.zoo.families import LLAMA, PHI3
from benchmarks.zoo.making import Made
from benchmarks.zoo.population import STRANGER
from benchmarks.zoo.reparametrising import attention_rewritten, disguised, rescaled, turned
from benchmarks.zoo.rewriting import permuted
from benchmarks.zoo.training import Recipe, Tensors, trained
from modelguard.types.weights import Relation

Make = Callable[[Recipe], Made]
TEXTS = (LLAMA, "gpt2", "bert", PHI3)
SECRET = 77
DERIVED, SAME, OPEN = (Relation.DERIVED,), (Relation.SAME_WEIGHTS,), (Relation.INCONCLUSIVE,)
MISSED = (Relation.INCONCLUSIVE, Relation.UNRELATED)  # `unrelated` only with the limit named in `power`
TRAINED = ("finetune", "continued-pretraining")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One kind of derivative. `kinds` must all be told and nothing beyond `allowed`; None where kinds are not judged.

    `stranger`: whether another model of the zoo is in it, which then is no control. `coefficient`: the base's share of a merge.
    `layers`: how many of the first layers come from the base. `direction` is judged where it is not empty.
    """

    name: str
    group: str
    make: Make
    relations: tuple[Relation, ...]
    kinds: tuple[str, ...] | None = None
    allowed: tuple[str, ...] = ()
    families: tuple[str, ...] = TEXTS
    against: Make = trained
    stranger: bool = False
    coefficient: float | None = None
    layers: int | None = None
    direction: str = ""


def _of(change: Callable[[Tensors], Made]) -> Make:
    return lambda recipe: change(trained(recipe))


def _then(change: Callable[[Tensors], Tensors], make: Make) -> Make:
    return lambda recipe: dict(change(_floats(make(recipe))))


def _floats(made: Made) -> Tensors:
    return {name: np.asarray(value, dtype=np.float32) for name, value in made.items()}


def _merged(share: float) -> Make:
    return lambda recipe: dict(making.mixed(trained(recipe), trained(STRANGER[recipe]), share))


def _partial(layers: int) -> Make:
    return lambda recipe: dict(making.partly(tuning.fine_tuned(recipe), trained(STRANGER[recipe]), layers))


def _adapter(recipe: Recipe) -> Made:
    return dict(making.peft(tuning.adapter(recipe)))


def _second(recipe: Recipe) -> Made:
    return dict(tuning.fine_tuned(recipe, "chain"))


def _plain(name: str, make: Make, *kinds: str, relations: tuple[Relation, ...] = DERIVED, **more: object) -> Cell:
    return Cell(name=name, group="plain", make=make, relations=relations, kinds=kinds, **more)  # type: ignore[arg-type]


PLAIN = (
    _plain("fine-tuned", tuning.fine_tuned, "finetune"),
    _plain("continued pretraining, equal length", tuning.continued, "continued-pretraining"),
    _plain("LoRA merged", tuning.adapter_merged, "lora-merged"),
    _plain("LoRA adapter alone", _adapter, "adapter", relations=OPEN, families=(LLAMA,)),
    _plain("cast to bfloat16", _of(making.cast(making.BFLOAT16)), "cast", relations=SAME),
    _plain("cast to float16", _of(making.cast(np.float16)), "cast", relations=SAME),
    _plain("8-bit", _of(making.rounded(8)), "quantized"),
    _plain("4-bit", _of(making.rounded(4)), "quantized"),
    _plain("50 % pruned", _of(making.pruned(0.5)), "pruned"),
    _plain("80 % pruned", _of(making.pruned(0.8)), "pruned"),
    _plain("layer removed", _of(making.layered((0, 2, 3))), "layers-removed"),
    _plain("layer added", _of(making.layered((0, 1, 2, 2, 3))), "layers-added"),
    _plain("vocabulary extended", _of(making.extended), "vocabulary-changed"),
    _plain("merge, 50 % of it", _merged(0.5), "merged", stranger=True, coefficient=0.5),
    _plain("merge, 30 % of it", _merged(0.3), "merged", stranger=True, coefficient=0.3),
    _plain("merge, 20 % of it", _merged(0.2), "merged", stranger=True, coefficient=0.2),
    _plain("noised by 1 %", _of(making.noised(0.01)), "noised"),
    _plain("noised by 5 %", _of(making.noised(0.05)), "noised"),
    *(
        _plain(
            f"partial, {k} of 4 layers",
            _partial(k),
            "partial",
            relations=OPEN if k == 1 else DERIVED,  # `derived` takes two layers; which layer it is, is told all the same
            stranger=True,
            layers=k,
            allowed=TRAINED,
            families=(LLAMA,),
        )
        for k in (1, 2, 3)
    ),
    _plain("upcycled to experts, trained", tuning.upcycled, "upcycled", allowed=TRAINED, families=(LLAMA,)),
    _plain("renamed", _of(making.renamed), "renamed", relations=SAME),
    _plain("units permuted", _of(lambda base: permuted(base, SECRET)), "permuted", relations=SAME),
    _plain("units permuted, fine-tuned", _then(lambda made: permuted(made, SECRET), tuning.fine_tuned), "permuted", allowed=TRAINED),
    _plain("stream rotated", _of(turned), "rotated", families=(LLAMA, PHI3)),
    _plain("stream rotated, fine-tuned", _then(turned, tuning.fine_tuned), "rotated", allowed=TRAINED, families=(LLAMA, PHI3)),
    _plain("units rescaled", _of(rescaled), "rescaled", relations=(*SAME, *DERIVED), families=(LLAMA,)),
    _plain("units rescaled, fine-tuned", _then(rescaled, tuning.fine_tuned), "rescaled", allowed=TRAINED, families=(LLAMA,)),
)
UNNAMED = tuple(  # the contract has no kind that is just this
    Cell(name=name, group="plain", make=make, relations=relations, families=families)
    for name, make, relations, families in (
        ("layers reordered", _of(making.layered((0, 2, 1, 3))), (*DERIVED, *SAME), TEXTS),
        ("MLP units halved", _of(making.narrowed), DERIVED, (LLAMA,)),
        ("QKV and gate/up fused", _of(making.fused), SAME, (LLAMA,)),
        ("QKV and gate/up split", _of(making.split), SAME, (PHI3,)),
        ("attention rewritten", _of(attention_rewritten), (*DERIVED, *SAME), (LLAMA,)),
    )
)
HIDDEN: Mapping[str, Make] = {
    "nothing else": lambda recipe: dict(trained(recipe)),
    "fine-tuned": tuning.fine_tuned,
    "continued pretraining, equal length": tuning.continued,
    "LoRA merged": tuning.adapter_merged,
    "cast to bfloat16": _of(making.there_and_back),
    "8-bit": _of(making.rounded(8)),
    "4-bit": _of(making.rounded(4)),
    "50 % pruned": _of(making.pruned(0.5)),
    "layer removed": _of(making.layered((0, 2, 3))),
    "vocabulary extended": _of(making.extended),
    "merge, 50 % of it": _merged(0.5),
}
DISGUISED = tuple(
    Cell(name=f"disguised: {name}", group="disguised", make=_then(disguised, make), relations=DERIVED, stranger="merge" in name)
    for name, make in HIDDEN.items()
)
BLIND = (
    Cell(
        name="disguised: merge, 30 % of it",
        group="blind",
        make=_then(disguised, _merged(0.3)),
        relations=(*MISSED, *DERIVED),
        stranger=True,
    ),
    Cell(
        name="disguised: merge, 20 % of it",
        group="blind",
        make=_then(disguised, _merged(0.2)),
        relations=(*MISSED, *DERIVED),
        stranger=True,
    ),
    Cell(name="distilled into another initialisation", group="blind", make=tuning.student, relations=MISSED, families=(LLAMA,)),
)
SIBLINGS = (
    Cell(
        name="siblings: two fine-tunes of one parent",
        group="siblings",
        make=tuning.fine_tuned,
        against=_second,
        relations=DERIVED,
        families=(LLAMA,),
        direction="common-ancestor",
    ),
)
CELLS = (*PLAIN, *UNNAMED, *DISGUISED, *BLIND, *SIBLINGS)
ON_STRANGERS: Mapping[str, Callable[[Tensors], Tensors]] = {  # what is done to a stranger makes it no relative
    "4-bit": making.rounded(4),
    "half pruned": making.pruned(0.5),
    "disguised": disguised,
    "layer removed": making.layered((0, 2, 3)),
    "vocabulary extended": making.extended,
}
