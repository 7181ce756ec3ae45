"""What has to be trained before pairs are compared: models from scratch first, then what is trained on from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.zoo import tuning
from benchmarks.zoo.pairs import pairs
from benchmarks.zoo.population import BASES, INDEPENDENT, OTHER_BASES, same_initialisation
from benchmarks.zoo.training import Recipe, trained

MAKERS: Mapping[str, Callable[[Recipe], object]] = {
    "from scratch": trained,
    "fine-tuned": tuning.fine_tuned,
    "adapter": tuning.adapter,
    "continued": tuning.continued,
    "sibling": partial(tuning.fine_tuned, data="chain"),
    "upcycled": tuning.upcycled,
    "student": tuning.student,
}
Job = tuple[str, Recipe]  # a maker's name, and what it makes something of


def stages(part: str) -> tuple[tuple[Job, ...], ...]:
    """The jobs of a part; those of a stage need nothing but the stages before it."""
    used = {recipe for pair in pairs(part) for recipe in pair.models}
    alike = [ours for _, ours, theirs in same_initialisation() if any(pair.names == (ours.name, theirs.name) for pair in pairs(part))]
    bases = [recipe for recipe in (*BASES, *OTHER_BASES) if any(pair.cell and pair.models[-1] == recipe for pair in pairs(part))]
    scratch = tuple(("from scratch", recipe) for recipe in (*(recipe for recipe in INDEPENDENT if recipe in used), *alike))
    names = ("fine-tuned", "adapter") if part == "smoke" else ("fine-tuned", "adapter", "continued")
    tuned = tuple((name, recipe) for name in names for recipe in bases)
    rest = () if part == "smoke" else tuple((name, recipe) for name in ("sibling", "upcycled", "student") for recipe in BASES)
    return scratch, (*tuned, *rest)


def prepare(job: Job) -> None:
    """Trains one thing, unless it is kept already."""
    name, recipe = job
    MAKERS[name](recipe)
