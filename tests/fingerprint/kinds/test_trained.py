"""Kinds on models of the zoo whose seeds no threshold was chosen on: every plain derivative, and nothing beside what it is."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from benchmarks.zoo.cells import PLAIN, Cell
from benchmarks.zoo.population import BERT, GPT2, LLAMAS
from benchmarks.zoo.training import Recipe, trained
from tests.fingerprint.kinds.pairs import details

LONG = (LLAMAS[11], GPT2[1], BERT[1])
SHORT = tuple(Recipe(recipe.family, recipe.seed) for recipe in LONG)  # 80 steps in place of 300
ELSEWHERE = ("adapter", "upcycled")  # kinds that are recognised from names and layouts
PAIRS = [(recipe, cell) for recipe in (*LONG, *SHORT) for cell in PLAIN if recipe.family in cell.families]


def judged(recipe: Recipe, cell: Cell) -> bool:
    return not set(cell.kinds or ()) & set(ELSEWHERE) and not (cell.stranger and recipe in SHORT)


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "cell"), [pair for pair in PAIRS if judged(*pair)], ids=lambda value: getattr(value, "name", ""))
def test_a_derivative_of_a_trained_model_is_what_it_is(recipe: Recipe, cell: Cell) -> None:
    if recipe in SHORT and cell.name.startswith("continued"):
        pytest.skip("80 steps of continued training move a model about as far as the zoo's fine-tunes do: a convention decides")
    found = details(cell.make(recipe), trained(recipe))
    assert set(cell.kinds or ()) <= set(found), {kind: detail.text for kind, detail in found.items()}
    assert not set(found) - set(cell.kinds or ()) - set(cell.allowed), {kind: detail.text for kind, detail in found.items()}
    if cell.coefficient is not None:
        assert found["merged"].numbers["coefficient"] == pytest.approx(cell.coefficient, abs=0.02)
    if cell.layers is not None:
        assert found["partial"].numbers["carrying"] == cell.layers
