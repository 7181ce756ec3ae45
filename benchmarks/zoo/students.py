"""Models for teacher evidence: students of known teachers, and who could be mistaken for a teacher. None of them is in the weight tables.

Two sets. The `chosen` one is that on which every floor of `modelguard.activations.behaviour` was chosen, before the other existed; the
`held out` one has other seeds, and a second architecture of teachers, and was measured once the floors stood.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.zoo import tuning
from benchmarks.zoo.cache import cached
from benchmarks.zoo.families import FAMILIES, LLAMA
from benchmarks.zoo.population import LLAMAS
from benchmarks.zoo.training import STEPS, Recipe, Tensors, loaded, saved, train, trained

SHARED, CROSSED, SHIFTED, INDEPENDENT = (
    "student, data of the domain",
    "student of another architecture",
    "student, data of another domain",
    "independent model",
)
OTHER = {LLAMA: "gpt2", "gpt2": LLAMA}


@dataclass(frozen=True, slots=True)
class Suspect:
    """A model in question. `teacher` is None where it has none, `own` is then the model itself; `kind` is its row in the table."""

    kind: str
    own: Recipe
    teacher: Recipe | None
    family: str
    data: str = "other"
    steps: int = STEPS // 2

    def tensors(self) -> Tensors:
        return trained(self.own) if self.teacher is None else student(self.teacher, self.family, self.data, self.steps)


def student(teacher: Recipe, family: str, data: str, steps: int = STEPS // 2) -> Tensors:
    """A model of a family, trained towards a teacher's answers (KL divergence) on some data, from an initialisation of its own."""
    if (family, data, steps) == (LLAMA, "other", STEPS // 2) and teacher in LLAMAS:
        return tuning.student(teacher)
    run = replace(teacher, family=family, data=data, steps=steps)

    def make() -> tuple[Tensors, dict[str, str]]:
        import torch

        torch.manual_seed(teacher.seed + 6000)
        network, told = FAMILIES[family](), loaded(teacher.family, trained(teacher)).requires_grad_(False)

        def loss(ours: Any, batch: dict[str, Any]) -> Any:
            goal = told(input_ids=batch["input_ids"]).logits.log_softmax(-1).flatten(0, 1)
            own = ours(input_ids=batch["input_ids"]).logits.log_softmax(-1).flatten(0, 1)
            return torch.nn.functional.kl_div(own, goal, log_target=True, reduction="batchmean")

        train(network, run, teacher.seed + 6000, loss=loss)
        return saved(network), {}

    return cached(f"behaviour student {teacher!r} {run!r}", make)[0]


def _fresh(family: str, seeds: range) -> tuple[Recipe, ...]:
    return tuple(Recipe(family, seed, "code" if seed % 2 else "other", None, STEPS) for seed in seeds)


CHOSEN = {LLAMA: tuple(recipe for recipe in LLAMAS if recipe.data != "chain")}
FIRST = {family: _fresh(family, range(200, 214)) for family in OTHER}  # measured once, and then used to choose the regression
HELD_OUT = {family: _fresh(family, range(300, 313)) for family in OTHER}


def chosen() -> Iterator[Suspect]:
    """The models on which the floors were chosen first."""
    known = CHOSEN[LLAMA]
    yield from (Suspect(SHARED, teacher, teacher, LLAMA) for teacher in known[:19])
    yield from (Suspect(CROSSED, teacher, teacher, "gpt2") for teacher in known[9:13])
    yield from (Suspect(SHIFTED, teacher, teacher, LLAMA, "chain") for teacher in known[:5])
    yield from (Suspect(INDEPENDENT, recipe, None, LLAMA) for recipe in known)


def first() -> Iterator[Suspect]:
    """Models of two architectures on which taking out the controls' mean alone failed: students that learn for half as long as teachers."""
    for family, known in FIRST.items():
        yield from (Suspect(SHARED, teacher, teacher, family) for teacher in known)
        yield from (Suspect(CROSSED, teacher, teacher, OTHER[family], "other", STEPS) for teacher in known[:6])
        yield from (Suspect(SHIFTED, teacher, teacher, family, "chain") for teacher in known[:6])
        yield from (Suspect(INDEPENDENT, recipe, None, family) for recipe in known)


def held_out() -> Iterator[Suspect]:
    """Other models, of two architectures; students learn for as long as their teachers did."""
    for family, known in HELD_OUT.items():
        yield from (Suspect(SHARED, teacher, teacher, family, "other", STEPS) for teacher in known[:2])
        yield from (Suspect(CROSSED, teacher, teacher, OTHER[family], "other", STEPS) for teacher in known[:1])
        yield from (Suspect(SHIFTED, teacher, teacher, family, "chain", STEPS) for teacher in known[:1])
        yield from (Suspect(INDEPENDENT, recipe, None, family) for recipe in known)
