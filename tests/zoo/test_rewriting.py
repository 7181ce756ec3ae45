"""The disguises of the zoo leave the function of a model alone; otherwise they would prove nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.zoo.derivatives import reordered, turned
from tests.zoo.rewriting import uneven
from tests.zoo.training import VOCABULARY, Recipe, Tensors, loaded, trained

pytest.importorskip("torch", reason="the zoo trains its models with torch")
pytest.importorskip("transformers", reason="the zoo takes its architectures from transformers")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # warnings of torch and transformers are not ours to forbid

FAMILIES = ("llama", "gpt2", "bert", "phi3 (fused gate and up)", "llama, 64 wide, 256 units")


def logits(recipe: Recipe, tensors: Tensors) -> np.ndarray:
    import torch

    ids = torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, (2, 32)))
    with torch.inference_mode():
        return np.asarray(loaded(recipe, tensors).eval()(input_ids=ids).logits.numpy())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("change", [reordered, turned, lambda tensors: reordered(turned(tensors))], ids=["permuted", "turned", "both"])
def test_a_disguise_changes_weights_but_no_answer(family: str, change: Callable[[Tensors], Tensors]) -> None:
    recipe = Recipe(family, 0, steps=20)
    base = trained(recipe)
    disguised = change(base)
    expected = logits(recipe, base)
    np.testing.assert_allclose(logits(recipe, disguised), expected, atol=1e-4 * np.abs(expected).max())
    changed = sum(value.size for name, value in disguised.items() if not np.array_equal(value, base[name]))
    assert changed > sum(value.size for value in base.values()) / 2


def test_uneven_gains_change_no_answer() -> None:
    recipe = Recipe("llama", 0, steps=20)
    base = trained(recipe)
    expected = logits(recipe, base)
    np.testing.assert_allclose(logits(recipe, uneven(base, 1)), expected, atol=1e-4 * np.abs(expected).max())
