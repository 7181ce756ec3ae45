"""The populations of models, and every pair of them with what is true of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from modelguard.fingerprint.compare import compare
from modelguard.types.weights import Comparison
from tests.fingerprint.zoo import Arrays
from tests.zoo.derivatives import KINDS, OF_LLAMAS, Made, half_pruned, reordered, rounded, turned
from tests.zoo.training import FAMILIES, Recipe, trained

LLAMAS = (
    *(Recipe("llama", seed) for seed in range(4)),
    Recipe("llama", 4, order=0),  # another initialisation, the same data in the same order as model 0
    Recipe("llama", 5, order=1),
    Recipe("llama", 6, "other"),
    Recipe("llama", 7, "other", rate=4e-3),
    Recipe("llama", 8, "chain"),
)
MAIN = ("gpt2", "bert", "phi3 (fused gate and up)", "llama, 64 wide, 256 units")
BASES = (*LLAMAS, *(Recipe(family, seed) for family in MAIN for seed in range(3)))
OTHERS = tuple(Recipe(family, seed) for family in FAMILIES if family not in ("llama", *MAIN) for seed in range(2))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `compare` says of one pair."""

    kind: str
    family: str
    names: tuple[str, str]
    result: Comparison

    @property
    def share(self) -> float | None:
        """T4's share of units that agree, where it was looked at."""
        found = (re.search(r"T4: ([0-9.]+)%", power.how) for power in self.result.power)
        return next((float(match[1]) / 100 for match in found if match), None)


def held(made: Made, kind: str, family: str, names: tuple[str, str]) -> Outcome:
    left, right = made
    return Outcome(kind, family, names, compare(Arrays(left, names[0]), Arrays(right, names[1])))


def independents(models: tuple[Recipe, ...] = (*BASES, *OTHERS)) -> Iterator[Outcome]:
    """All ordered pairs of independently initialised models of one family."""
    for ours, theirs in permutations(models, 2):
        if ours.family == theirs.family:
            kind = "same data in the same order" if _order(ours) == _order(theirs) else "independent"
            yield held((dict(trained(ours)), dict(trained(theirs))), kind, ours.family, (_name(ours), _name(theirs)))


def maltreated(models: tuple[Recipe, ...] = BASES) -> Iterator[Outcome]:
    """A maltreated model against another model: nothing that is done to a stranger makes it a relative."""
    for number, ours in enumerate(models):
        theirs = next(other for other in (*models[number + 1 :], *models) if other.family == ours.family and other != ours)
        for kind, change in {"4-bit": rounded(4), "half pruned": half_pruned, "both": lambda tensors: reordered(turned(tensors))}.items():
            made: Made = (dict(change(trained(ours))), dict(trained(theirs)))
            yield held(made, f"independent, {kind}", ours.family, (f"{_name(ours)}, {kind}", _name(theirs)))


def derivatives(models: tuple[Recipe, ...] = BASES) -> Iterator[Outcome]:
    """Every derivative of every model against the model it was made from."""
    for recipe in models:
        kinds = KINDS | (OF_LLAMAS if recipe.family.startswith("llama") else {})
        for kind, make in kinds.items():
            yield held(make(recipe), kind, recipe.family, (f"{_name(recipe)}, {kind}", _name(recipe)))


def siblings() -> Iterator[Outcome]:
    """Models of one initialisation and different data."""
    for family in ("llama", *MAIN):
        ours, theirs = Recipe(family, 0, "other", order=500), Recipe(family, 0)
        yield held((dict(trained(ours)), dict(trained(theirs))), "same initialisation, other data", family, (_name(ours), _name(theirs)))


def others_derived() -> Iterator[Outcome]:
    """Fine-tunes of the families that are there for their layout."""
    for recipe in OTHERS[::2]:
        for kind in ("fine-tuned", "4-bit"):
            yield held(KINDS[kind](recipe), kind, recipe.family, (f"{_name(recipe)}, {kind}", _name(recipe)))


def wider() -> Iterator[Outcome]:
    """Models of different width: nothing in them pairs up."""
    ours, theirs = trained(Recipe("llama", 0)), trained(Recipe("llama, 96 wide", 0))
    yield held((dict(ours), dict(theirs)), "another width", "llama", ("llama 0", "llama, 96 wide 0"))


def _order(recipe: Recipe) -> tuple[str, int]:
    return recipe.data, recipe.seed if recipe.order is None else recipe.order


def _name(recipe: Recipe) -> str:
    return f"{recipe.family} {recipe.seed} ({recipe.data})"


def statistics(outcomes: list[Outcome]) -> dict[str, NDArray[np.float64]]:
    """Fixed points K of every block of these pairs, by test."""
    values: dict[str, list[float]] = {}
    for outcome in outcomes:
        for result in outcome.result.evidence:
            values.setdefault(result.method, []).append(result.statistic)
    return {method: np.array(counts) for method, counts in sorted(values.items())}
