"""T4 sees through permuted units and a turned stream at once, and never takes an independent model for a relative."""

from __future__ import annotations

from math import log10

import numpy as np
import pytest

from modelguard.correspondence.alignment import align
from modelguard.fingerprint.disguise import ENOUGH, MARGIN, OTHER_LAYERS, Agreement, examine
from modelguard.fingerprint.initialisation import judged
from modelguard.types.weights import Relation
from tests.fingerprint import zoo
from tests.fingerprint.zoo import Arrays, Tensors

LAYERS = 4


def model(seed: int) -> Tensors:
    """A model whose matrices hold a few strong directions, as trained ones do."""
    rng, tensors = np.random.default_rng(100 + seed), zoo.model(seed, layers=LAYERS)
    for name, value in tensors.items():
        if value.ndim == 2:
            product = rng.standard_normal((value.shape[0], 3)) @ rng.standard_normal((3, value.shape[1]))
            tensors[name] = (value + 0.7 * value.std() * product).astype(np.float32)
    return tensors


def hidden(tensors: Tensors) -> Tensors:
    return zoo.permuted(zoo.rotated(tensors))


def without(tensors: Tensors, layer: int) -> Tensors:
    """One layer removed, and those behind it renumbered."""
    kept = {}
    for name, value in tensors.items():
        number = int(name.split("layers.")[1].split(".")[0]) if "layers." in name else -1
        if number != layer:
            kept[name.replace(f"layers.{number}.", f"layers.{number - (number > layer)}.")] = value
    return kept


def extended(tensors: Tensors) -> Tensors:
    return tensors | {name: np.concatenate([value, value[:8]]) for name, value in tensors.items() if "embed" in name}


def rescaled(tensors: Tensors) -> Tensors:
    """Every unit reads larger and is read smaller, or the other way round, with signs."""
    rng, changed = np.random.default_rng(3), dict(tensors)
    for layer in range(LAYERS):
        place = f"model.layers.{layer}.mlp."
        up, down = f"{place}up_proj.weight", f"{place}down_proj.weight"
        factor = (np.exp(rng.standard_normal(len(tensors[up]))) * rng.choice([-1, 1], len(tensors[up]))).astype(np.float32)
        changed |= {up: tensors[up] * factor[:, None], down: tensors[down] / factor}
    return changed


def examined(left: Tensors, right: Tensors, controls: tuple[Tensors, ...] = ()) -> Agreement | None:
    ours, theirs = Arrays(left, "left"), Arrays(right, "right")
    return examine(ours, theirs, align(ours, theirs, by_content=False), [Arrays(control, "control") for control in controls])


BASE = {name: np.ones_like(value) if value.ndim == 1 else value for name, value in model(0).items()}
DERIVED = {
    "fine-tuned": hidden(zoo.tuned(BASE)),
    "4-bit": zoo.four_bit(hidden(BASE)),
    "half pruned": hidden(zoo.pruned(BASE)),
    "merged": hidden(zoo.merged(0.5)(BASE)),
    "a layer removed": hidden(without(zoo.tuned(BASE), 1)),
    "vocabulary extended": hidden(extended(zoo.tuned(BASE))),
    "rescaled": hidden(rescaled(zoo.tuned(BASE))),
}


@pytest.mark.parametrize("kind", DERIVED)
def test_every_derivative_in_full_disguise_agrees(kind: str) -> None:
    found = examined(DERIVED[kind], BASE, (model(5), model(6)))
    assert found is not None
    assert found.agrees
    assert found.share >= 2 * MARGIN
    assert len(found.controls) >= ENOUGH  # the two models, and other layers beside them
    assert found.log10_p == pytest.approx(log10(1 / (1 + len(found.controls))))


@pytest.mark.parametrize("seed", [1, 2])
def test_independent_models_do_not_agree(seed: int) -> None:
    for left in (model(seed), hidden(model(seed)), zoo.four_bit(hidden(model(seed)))):
        found = examined(left, BASE, (model(5),))
        assert found is not None
        assert not found.agrees
        assert found.share < MARGIN / 3


def test_a_removed_layer_moves_the_others() -> None:
    found = examined(DERIVED["a layer removed"], BASE)
    assert found is not None
    assert [item.matched.split(".")[-1] for item in found.layers] == ["0", "2", "3"]


def test_without_controls_other_layers_stand_in_or_nothing_is_known() -> None:
    related, stranger = examined(DERIVED["fine-tuned"], BASE), examined(model(1), BASE)
    assert related is not None
    assert stranger is not None
    assert (related.source, len(related.controls)) == (OTHER_LAYERS, 9)
    assert related.log10_p == pytest.approx(-1)
    assert stranger.log10_p is None
    assert "p is unknown" in stranger.evidence.note


def test_gains_of_norms_are_folded_on_both_sides() -> None:
    rng, gained = np.random.default_rng(8), dict(BASE)
    for layer in range(LAYERS):
        place = f"model.layers.{layer}."
        factor = np.exp(rng.standard_normal(len(BASE["model.norm.weight"]))).astype(np.float32)
        gained[f"{place}post_attention_layernorm.weight"] = factor
        gained |= {f"{place}mlp.{part}_proj.weight": BASE[f"{place}mlp.{part}_proj.weight"] / factor for part in ("gate", "up")}
    found = examined(DERIVED["fine-tuned"], gained)
    assert found is not None
    assert found.share > 0.9


def test_matched_units_tell_a_derivative_from_a_sibling() -> None:
    found = examined(DERIVED["fine-tuned"], BASE)
    assert found is not None
    assert judged(found.aligned).relation is Relation.DERIVED


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan, np.inf, 3e38])
def test_constant_and_broken_weights_agree_with_nothing(value: float) -> None:
    constant = {name: np.full_like(tensor, value) for name, tensor in BASE.items()}
    for left, right in ((constant, BASE), (BASE, constant), (constant, constant)):
        found = examined(left, right)
        assert found is None or found.share < 0.01


def test_without_token_embeddings_nothing_is_looked_for() -> None:
    headless = {name: value for name, value in BASE.items() if "embed" not in name}
    assert examined(headless, headless) is None
