"""Ranks of models that were trained for real: what the published table is made of, on a part of it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
from benchmarks import across
from benchmarks.zoo import tuning
from benchmarks.zoo.families import LLAMA, OTHER_TOKENS
from benchmarks.zoo.population import OTHER_TOKENISED
from benchmarks.zoo.training import trained

pytestmark = pytest.mark.slow


def test_a_fine_tune_is_first_beside_its_base_and_beside_no_other() -> None:
    base = across.PYTHON[0]
    suspect = across.Suspect("fine-tune", LLAMA, tuning.fine_tuned(base), base, across.PYTHON)
    first = [(true, all(one.rank == 1 for one in found)) for true, found in across.ranked(suspect, 0)]
    assert first == [(True, True), (False, False), (False, False)]
    rows = across.table([suspect])
    assert [len(found) for found in rows.values()] == [1, 2]
    assert across.markdown(rows).splitlines()[2].startswith("| fine-tune | the true one | 1 | 1 | 1 | 1 | 1 | 0.")


def test_a_stranger_of_another_tokenizer_is_measured_like_its_controls() -> None:
    recipe = OTHER_TOKENISED[0]
    suspect = across.Suspect("independent", OTHER_TOKENS, trained(recipe), None, OTHER_TOKENISED)
    measured = [found for _, found in across.ranked(suspect, 3)]
    assert len(measured) == across.CANDIDATES
    for found in measured:
        assert [len(one.controls) for one in found] == [across.CONTROLS] * 2
        assert found[0].value < 0.2
