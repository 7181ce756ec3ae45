"""The disguises of the zoo leave the function of a model alone; otherwise they would prove nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.zoo.families import PHI3, SMALL
from benchmarks.zoo.reparametrising import attention_rewritten, disguised, rescaled, turned
from benchmarks.zoo.rewriting import permuted, uneven
from benchmarks.zoo.text import VOCABULARY
from benchmarks.zoo.training import Recipe, Tensors, loaded, trained

pytest.importorskip("torch", reason="the zoo trains its models with torch")
pytest.importorskip("transformers", reason="the zoo takes its architectures from transformers")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # warnings of torch and transformers are not ours to forbid


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELGUARD_ZOO", str(tmp_path_factory.getbasetemp() / "zoo"))


def logits(recipe: Recipe, tensors: Tensors) -> NDArray[np.float32]:
    import torch

    ids = torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, (2, 32)))
    with torch.inference_mode():
        return np.asarray(loaded(recipe, tensors)(input_ids=ids).logits.numpy())


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", PHI3, SMALL])
@pytest.mark.parametrize("change", [lambda base: permuted(base, 77), turned, disguised], ids=["permuted", "turned", "all at once"])
def test_a_disguise_changes_weights_but_no_answer(family: str, change: Callable[[Tensors], Tensors]) -> None:
    recipe = Recipe(family, 0, steps=20)
    base = trained(recipe)
    changed = change(base)
    expected = logits(recipe, base)
    np.testing.assert_allclose(logits(recipe, changed), expected, atol=1e-4 * np.abs(expected).max())
    moved = sum(value.size for name, value in changed.items() if not np.array_equal(value, base[name]))
    assert moved > sum(value.size for value in base.values()) / 2


@pytest.mark.parametrize("change", [rescaled, attention_rewritten, lambda base: uneven(base, 1)], ids=["units", "attention", "gains"])
def test_what_one_matrix_gains_its_partner_loses(change: Callable[[Tensors], Tensors]) -> None:
    recipe = Recipe("llama", 0, steps=20)
    base = trained(recipe)
    changed = change(base)
    expected = logits(recipe, base)
    np.testing.assert_allclose(logits(recipe, changed), expected, atol=1e-4 * np.abs(expected).max())
    assert sum(not np.array_equal(value, base[name]) for name, value in changed.items()) >= 8
