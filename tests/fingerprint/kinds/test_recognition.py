"""Kinds on weights that are made in a moment: each recognised, none other said, and nothing hostile believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from modelguard.fingerprint.kinds.recognition import ORDER, recognise
from modelguard.types.weights import Relation
from tests.fingerprint.kinds.pairs import Weights, details, pair_of
from tests.fingerprint.zoo import LAYERS, TOKENS, Tensors, four_bit, merged, model, permuted, pruned, renamed, rotated, tuned

BASE, STRANGER = model(0), model(1)
Change = Callable[[Tensors], Weights]


def matrices(change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: change(value) if value.ndim == 2 else value for name, value in tensors.items()}


def trained(tensors: Tensors, size: float = 0.2) -> Tensors:
    """What training does: a few strong directions in every matrix, over a weak bulk, and gains that move."""
    rng, changed = np.random.default_rng(11), {}
    for name, value in tensors.items():
        if value.ndim == 2:
            strong = rng.standard_normal((len(value), 3)) @ rng.standard_normal((3, value.shape[1])) / np.sqrt(3)
            moved = 0.8 * strong + 0.6 * rng.standard_normal(value.shape)
        else:
            moved = rng.standard_normal(value.shape)
        changed[name] = (value + size * value.std() * moved).astype(np.float32)
    return changed


def low_rank(tensors: Tensors) -> Tensors:
    rng, changed = np.random.default_rng(12), dict(tensors)
    for name, value in tensors.items():
        if "q_proj" in name or "v_proj" in name:
            product = rng.standard_normal((len(value), 8)) @ rng.standard_normal((8, value.shape[1]))
            changed[name] = value + (0.005 * product).astype(np.float32)
    return changed


def two_of_four(value: NDArray[np.float32]) -> NDArray[np.float32]:
    ranks = np.argsort(np.argsort(np.abs(value).reshape(len(value), -1, 4), axis=2), axis=2)
    return np.where((ranks >= 2).reshape(value.shape), value, np.float32(0))


def rescaled(tensors: Tensors) -> Tensors:
    rng, changed = np.random.default_rng(13), dict(tensors)
    for layer in range(LAYERS):
        place = f"model.layers.{layer}.mlp."
        factor = np.exp(0.5 * rng.standard_normal(len(tensors[f"{place}up_proj.weight"]))).astype(np.float32)
        changed[f"{place}up_proj.weight"] = tensors[f"{place}up_proj.weight"] * factor[:, None]
        changed[f"{place}down_proj.weight"] = tensors[f"{place}down_proj.weight"] / factor
    return changed


def narrowed(tensors: Tensors) -> Weights:
    return {name: value.astype(ml_dtypes.bfloat16) for name, value in tensors.items()}


def truncated(tensors: Tensors) -> Tensors:
    """Cut off, not rounded, to bfloat16 and stored as before."""
    return {name: (value.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32) for name, value in tensors.items()}


def longer(tensors: Tensors) -> Tensors:
    return {name: np.concatenate([value, value[:8]]) if len(value) == TOKENS else value for name, value in tensors.items()}


def shorter(tensors: Tensors) -> Tensors:
    return {name: value for name, value in tensors.items() if ".layers.3." not in name}


def partly(tensors: Tensors) -> Tensors:
    return {name: STRANGER[name] if ".layers.3." in name else value for name, value in tensors.items()}


def over(*changes: Change) -> Change:
    def change(tensors: Tensors) -> Weights:
        for step in changes:
            tensors = step(tensors)  # type: ignore[assignment]
        return tensors

    return change


KINDS: Mapping[str, tuple[Change, set[str]]] = {
    "trained": (trained, {"finetune"}),
    "trained far": (lambda base: trained(base, 0.9), {"continued-pretraining"}),
    "low rank": (low_rank, {"lora-merged"}),
    "low rank, cast": (over(low_rank, narrowed), {"lora-merged", "cast"}),
    "4 bits": (four_bit, {"quantized"}),
    "4 bits, cast": (over(four_bit, narrowed), {"quantized", "cast"}),
    "trained, 4 bits, cast": (over(trained, four_bit, narrowed), {"finetune", "quantized", "cast"}),
    "cast": (narrowed, {"cast"}),
    "truncated": (truncated, {"cast"}),
    "trained, cast": (over(trained, narrowed), {"finetune", "cast"}),
    "pruned": (pruned, {"pruned"}),
    "2 of 4 pruned": (matrices(two_of_four), {"pruned"}),
    "trained, pruned": (over(trained, pruned), {"finetune", "pruned"}),
    "pruned, 4 bits": (over(pruned, four_bit), {"pruned", "quantized"}),
    "merged by half": (merged(0.5), {"merged"}),
    "merged by a fifth": (merged(0.2), {"merged"}),
    "merged, cast": (over(merged(0.5), narrowed), {"merged", "cast"}),
    "noise": (lambda base: tuned(base, 21, 0.05), {"noised"}),
    "little noise, cast": (over(lambda base: tuned(base, 21, 0.05), narrowed), {"noised", "cast"}),
    "rescaled": (rescaled, {"rescaled"}),
    "trained, rescaled": (over(trained, rescaled), {"finetune", "rescaled"}),
    "renamed": (renamed, {"renamed"}),
    "trained, renamed": (over(trained, renamed), {"finetune", "renamed"}),
    "permuted": (permuted, {"permuted"}),
    "trained, permuted": (over(trained, permuted), {"finetune", "permuted"}),
    "turned": (rotated, {"rotated"}),
    "longer": (longer, {"vocabulary-changed"}),
    "trained, longer": (over(trained, longer), {"finetune", "vocabulary-changed"}),
    "shorter": (shorter, {"layers-removed"}),
    "trained, shorter": (over(trained, shorter), {"finetune", "layers-removed"}),
    "partly": (over(trained, partly), {"finetune", "partial"}),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_recognised_and_no_other_is_said(name: str) -> None:
    change, kinds = KINDS[name]
    found = details(change(BASE), BASE)
    assert set(found) == kinds, {kind: detail.text for kind, detail in found.items()}
    assert all(detail.text and kind in ORDER for kind, detail in found.items())


def test_the_numbers_are_those_that_were_put_in() -> None:
    assert details(low_rank(BASE), BASE)["lora-merged"].numbers["rank"] == 8
    assert details(four_bit(BASE), BASE)["quantized"].numbers["bits"] == 4
    assert details(matrices(two_of_four)(BASE), BASE)["pruned"].numbers["pattern"] == "2:4"
    assert details(pruned(BASE), BASE)["pruned"].numbers["share_of_zeros"] == pytest.approx(0.5, abs=0.01)
    assert details(tuned(BASE, 21, 0.05), BASE)["noised"].numbers["median_size"] == pytest.approx(0.05, rel=0.05)
    assert details(longer(BASE), BASE)["vocabulary-changed"].numbers["rows"] == TOKENS + 8
    partial = details(partly(trained(BASE)), BASE)["partial"].numbers
    assert partial["layers_strange"] == "model.layers.3"
    assert partial["carrying"] == LAYERS - 1


@pytest.mark.parametrize("share", [0.15, 0.3, 0.5, 0.8])
def test_a_merge_tells_its_share(share: float) -> None:
    left = {name: np.float32(share) * value + np.float32(1 - share) * STRANGER[name] for name, value in BASE.items()}
    alone, both = (details(left, BASE, *others)["merged"].numbers for others in ((), (STRANGER,)))
    assert alone["coefficient"] == pytest.approx(share, abs=0.02)
    assert both["coefficient_0"] == pytest.approx(share, abs=1e-3)
    assert both["coefficient_1"] == pytest.approx(1 - share, abs=1e-3)
    assert both["residual_energy"] == pytest.approx(0, abs=1e-6)


def test_a_candidate_that_has_no_part_in_it_makes_no_merge() -> None:
    assert set(details(trained(BASE), BASE, STRANGER)) == {"finetune"}


def test_added_layers_are_no_strangers_among_the_parents() -> None:
    assert set(details(trained(BASE), shorter(BASE))) == {"finetune", "layers-added"}


@pytest.mark.parametrize("relation", [Relation.UNRELATED, Relation.SHARED_INITIALISATION, Relation.IDENTICAL])
def test_what_does_not_come_from_the_right_side_has_no_kind(relation: Relation) -> None:
    assert not details(four_bit(STRANGER), BASE, relation=relation)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 1.0, 1e30, 1e-40])
def test_weights_that_are_not_numbers_or_all_alike_show_nothing(value: float) -> None:
    broken = {name: np.full_like(array, value) for name, array in BASE.items()}
    for left, right in ((broken, BASE), (BASE, broken), (broken, broken)):
        assert not set(details(left, right, relation=Relation.DERIVED))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_few_entries_that_are_not_numbers_hide_no_kind(value: float) -> None:
    broken = four_bit(BASE)
    for name in broken:
        broken[name] = broken[name].copy()
        broken[name].flat[7] = value
    assert "quantized" in details(broken, BASE, relation=Relation.DERIVED)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 5), (1, 1), (1, 20_000), (20_000, 1), (3, 0, 2), (2, 3, 4, 5), (17, 16)])
@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int64])
def test_absurd_shapes_give_an_answer(shape: tuple[int, ...], kind: type) -> None:
    rng = np.random.default_rng(5)
    left: Weights = {"a.0.weight": np.asarray(8 * rng.standard_normal(shape)).astype(kind), "b": np.ones(shape, kind)}
    right: Weights = {"a.0.weight": np.asarray(8 * rng.standard_normal(shape)).astype(kind), "b": np.ones(shape, kind)}
    found = details(left, right, relation=Relation.DERIVED)
    assert not set(found) - {"finetune", "continued-pretraining", "noised", "rescaled"}


def test_the_answer_is_the_same_every_time_and_in_the_contracts_order() -> None:
    pair = pair_of(narrowed(four_bit(trained(BASE))), BASE)
    first = recognise(pair)
    assert recognise(pair) == first
    assert [detail.kind for detail in first] == ["finetune", "quantized", "cast"]


def test_factors_that_the_exact_difference_explains_are_said_without_reading_weights() -> None:
    pair = pair_of(rescaled(BASE), BASE, relation=Relation.SAME_WEIGHTS)
    known = replace(pair, differences=tuple(replace(item, explanation="rescaled") for item in pair.differences[:2]))
    assert [(detail.kind, detail.numbers["undone_elsewhere"]) for detail in recognise(known)] == [("rescaled", 2)]
