"""Who lives in the zoo: independently initialised models, and models that share an initialisation."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.zoo.families import CONVNEXT, LLAMA, MIXTRAL, OTHER_TOKENS, PHI3, RESNET
from benchmarks.zoo.training import STEPS, Recipe


def _recipe(family: str, seed: int, data: str = "code", order: int | None = None, rate: float = 2e-3) -> Recipe:
    return Recipe(family, seed, data, order, STEPS, rate)


LLAMAS = (  # models 4 and 5 are trained on the same data in the same order as 0 and 1; three texts; a higher rate
    *(_recipe(LLAMA, seed) for seed in range(4)),
    _recipe(LLAMA, 4, order=0),
    _recipe(LLAMA, 5, order=1),
    _recipe(LLAMA, 6, "other"),
    _recipe(LLAMA, 7, "other", rate=3e-3),
    _recipe(LLAMA, 8, "chain"),
    *(_recipe(LLAMA, seed) for seed in range(9, 18)),
    *(_recipe(LLAMA, seed, "other") for seed in range(18, 22)),
)
OTHER_TOKENISED = tuple(_recipe(OTHER_TOKENS, seed) for seed in range(6))
GPT2 = tuple(_recipe("gpt2", seed) for seed in range(5))
BERT = tuple(_recipe("bert", seed) for seed in range(4))
PHI = tuple(_recipe(PHI3, seed) for seed in range(3))
CONVOLUTIONS = tuple(_recipe(family, seed) for family in (RESNET, CONVNEXT) for seed in range(4))
SINGLE = (*(_recipe("t5", seed) for seed in range(2)), *(_recipe(MIXTRAL, seed) for seed in range(2)))
INDEPENDENT = (*LLAMAS, *OTHER_TOKENISED, *GPT2, *BERT, *PHI, *CONVOLUTIONS, *SINGLE)

BASES = LLAMAS[:20]  # every derivative is made of each of these
OTHER_BASES = (*GPT2[:2], BERT[0], PHI[0])  # and those that fit are made of these
STRANGER = {recipe: models[place - 1] for models in (LLAMAS, GPT2, BERT, PHI) for place, recipe in enumerate(models)}  # to merge with


def same_initialisation() -> tuple[tuple[str, Recipe, Recipe], ...]:
    """(what differs, one model, the other) for pairs that were initialised alike."""
    pairs = [("same initialisation, other data", replace(recipe, data="other", order=recipe.seed + 500), recipe) for recipe in LLAMAS[:4]]
    pairs += [
        ("same initialisation, other data", replace(recipe, data="other", order=recipe.seed + 500), recipe) for recipe in LLAMAS[9:15]
    ]
    pairs += [("same initialisation, other order", replace(recipe, order=recipe.seed + 500), recipe) for recipe in LLAMAS[9:17]]
    pairs += [("same initialisation, other order", replace(recipe, order=recipe.seed + 500), recipe) for recipe in (GPT2[0], BERT[0])]
    return tuple(pairs)
