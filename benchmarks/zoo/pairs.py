"""Every pair of the zoo with what is true of it, in one fixed order: a pair is named by its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import combinations

from benchmarks.zoo.cells import CELLS, MISSED, ON_STRANGERS, Cell
from benchmarks.zoo.families import tokenizer_of
from benchmarks.zoo.making import Made
from benchmarks.zoo.population import (
    BASES,
    CONVOLUTIONS,
    GPT2,
    INDEPENDENT,
    LLAMAS,
    OTHER_BASES,
    OTHER_TOKENISED,
    STRANGER,
    same_initialisation,
)
from benchmarks.zoo.training import Recipe, Tensors, trained
from modelguard.types.weights import Relation

PARTS = ("smoke", "all")
LIKE_INITIALISED = (Relation.SHARED_INITIALISATION, Relation.INCONCLUSIVE)
SMOKE_MODELS = frozenset({*LLAMAS[:4], *GPT2[:2], *CONVOLUTIONS[:2]})
SMOKE_CELLS = frozenset(
    {
        *("fine-tuned", "LoRA merged", "LoRA adapter alone", "cast to bfloat16", "4-bit", "50 % pruned", "layer removed", "layer added"),
        *("vocabulary extended", "merge, 50 % of it", "merge, 20 % of it", "noised by 5 %", "partial, 2 of 4 layers", "renamed"),
        *("units permuted", "stream rotated", "units rescaled, fine-tuned", "QKV and gate/up fused", "layers reordered"),
        *("disguised: nothing else", "disguised: fine-tuned", "disguised: 4-bit", "disguised: merge, 20 % of it"),
    }
)
CONTROLS_OF = 24  # controls of one pair at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One comparison, and its truth. `models`: the independent models in it, for the bootstrap; none of them may be a control."""

    truth: str
    group: str
    family: str
    names: tuple[str, str]
    left: Callable[[], Made]
    right: Callable[[], Made]
    relations: tuple[Relation, ...]
    models: tuple[Recipe, ...]
    cell: Cell | None = None


@cache
def pairs(part: str = "all") -> tuple[Pair, ...]:
    """The pairs of that part: all, or the same small selection every time."""
    whole = (*_independent(), *_maltreated(), *_like_initialised(), *_derived())
    return whole if part == "all" else tuple(pair for pair in whole if _in_smoke(pair))


def controls(pair: Pair, part: str) -> tuple[Recipe, ...]:
    """Models of the right side's architecture and tokenizer that have nothing to do with either side."""
    mine = next(recipe for recipe in reversed(pair.models) if recipe.family == pair.family)
    known = INDEPENDENT if part == "all" else tuple(recipe for recipe in INDEPENDENT if recipe in SMOKE_MODELS)
    return tuple(recipe for recipe in known if recipe.family == mine.family and recipe not in pair.models)[:CONTROLS_OF]


def _independent() -> Iterator[Pair]:
    """All pairs of one architecture, and each llama against every llama of the other tokenizer."""
    for ours, theirs in combinations(INDEPENDENT, 2):
        if ours.family == theirs.family:
            same = (ours.data, _order(ours)) == (theirs.data, _order(theirs))
            yield _unrelated("same data in the same order" if same else "independent", ours, theirs)
    for ours in LLAMAS:
        yield from (_unrelated("another tokenizer", ours, theirs) for theirs in OTHER_TOKENISED)


def _maltreated() -> Iterator[Pair]:
    for kind, change in ON_STRANGERS.items():
        for recipe in (*BASES, *OTHER_BASES):
            stranger = STRANGER[recipe]
            yield Pair(
                truth=f"independent, {kind}",
                group="unrelated",
                family=recipe.family,
                names=(f"{stranger.name}, {kind}", recipe.name),
                left=partial(_changed, change, stranger),
                right=partial(trained, recipe),
                relations=MISSED,
                models=(stranger, recipe),
            )


def _changed(change: Callable[[Tensors], Tensors], recipe: Recipe) -> Made:
    return change(trained(recipe))


def _unrelated(truth: str, ours: Recipe, theirs: Recipe) -> Pair:
    return Pair(
        truth=truth,
        group="unrelated",
        family=theirs.family,
        names=(ours.name, theirs.name),
        left=partial(trained, ours),
        right=partial(trained, theirs),
        relations=MISSED,
        models=(ours, theirs),
    )


def _like_initialised() -> Iterator[Pair]:
    for truth, ours, theirs in same_initialisation():
        yield Pair(
            truth=truth,
            group="same initialisation",
            family=theirs.family,
            names=(ours.name, theirs.name),
            left=partial(trained, ours),
            right=partial(trained, theirs),
            relations=LIKE_INITIALISED,
            models=(theirs,),
        )


def _derived() -> Iterator[Pair]:
    for cell in CELLS:
        for recipe in (*BASES, *OTHER_BASES):
            if recipe.family in cell.families:
                yield Pair(
                    truth=cell.name,
                    group=cell.group,
                    family=recipe.family,
                    names=(f"{recipe.name}, {cell.name}", recipe.name),
                    left=partial(cell.make, recipe),
                    right=partial(cell.against, recipe),
                    relations=cell.relations,
                    models=(STRANGER[recipe], recipe) if cell.stranger else (recipe,),
                    cell=cell,
                )


def _order(recipe: Recipe) -> tuple[str, int]:
    return tokenizer_of(recipe.family), recipe.seed if recipe.order is None else recipe.order


def _in_smoke(pair: Pair) -> bool:
    """Few models, and few derivatives of two of them."""
    if not SMOKE_MODELS.issuperset(pair.models):
        return False
    if pair.group == "same initialisation":
        return pair.models[0] == LLAMAS[1] and "data" in pair.truth
    return pair.cell is None or (pair.truth in SMOKE_CELLS and pair.models[-1] in (LLAMAS[1], LLAMAS[2]))
