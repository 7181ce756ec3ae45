"""Relations between whole checkpoints. What is made from a parent is never denied; what is independent is never called derived."""

from __future__ import annotations

import math
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from modelguard.fingerprint import disguise
from modelguard.fingerprint.compare import compare
from modelguard.types.weights import Basis, Comparison, Relation
from tests.fingerprint.zoo import DERIVATIVES, LAYERS, Arrays, Tensors, four_bit, merged, model, permuted, renamed, rotated, tuned

BASE = model(0)


def held(left: Tensors, right: Tensors = BASE, **options: str) -> Comparison:
    return compare(Arrays(left), Arrays(right), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DERIVATIVES)
def test_a_derivative_is_derived(name: str) -> None:
    result = held(DERIVATIVES[name](BASE))
    assert result.relation is Relation.DERIVED
    assert result.basis is Basis.EXACT
    assert result.log10_p < -20
    assert [layer.relation for layer in result.layers] == ["derived"] * LAYERS


@pytest.mark.parametrize("seed", range(1, 9))
def test_independent_weights_are_unrelated_and_the_controls_say_that_it_would_have_shown(seed: int) -> None:
    result = held(model(seed))
    assert result.relation is Relation.UNRELATED
    assert result.log10_p > -3
    assert result.share_explained == 0
    controls = [power for power in result.power if "copy of the base" in power.transformation]
    assert len(controls) == 3
    assert all(power.detectable for power in controls)


@pytest.mark.parametrize(
    "change", [lambda base: permuted(rotated(base)), lambda base: permuted(rotated(tuned(base)))], ids=["exact", "tuned"]
)
def test_a_full_disguise_is_seen_through_and_no_more_is_claimed_than_controls_allow(change: object) -> None:
    result = held(change(BASE))  # type: ignore[operator]
    assert (result.relation, result.basis) == (Relation.DERIVED, Basis.CONFORMAL)
    seen = next(test for test in result.evidence if test.method == disguise.METHOD)
    assert result.log10_p >= -math.log10(seen.n + 1) - 1e-9
    assert {"permuted", "rotated"} <= set(result.kinds)


def test_one_layer_less_leaves_too_few_controls_for_a_full_disguise() -> None:
    short = model(0, layers=2)
    result = held(permuted(rotated(tuned(short))), short)
    assert result.relation is Relation.INCONCLUSIVE
    assert result.unknown[0].why


def test_models_that_are_known_to_be_independent_are_the_controls() -> None:
    short = model(0, layers=2)
    others = [Arrays(model(seed, layers=2)) for seed in range(20, 39)]
    result = compare(Arrays(permuted(rotated(tuned(short)))), Arrays(short), controls=others)
    assert (result.relation, result.basis) == (Relation.DERIVED, Basis.CONFORMAL)
    assert result.log10_p == pytest.approx(math.log10(1 / 20))
    stranger = compare(Arrays(permuted(rotated(model(3, layers=2)))), Arrays(short), controls=others)
    assert stranger.relation is not Relation.DERIVED


def test_equal_bytes_are_identical() -> None:
    result = held(dict(BASE))
    assert (result.relation, result.basis, result.score, result.share_explained) == (Relation.IDENTICAL, Basis.BYTES, 1.0, 1.0)
    assert result.difference is not None
    assert result.difference.changed == 0


@pytest.mark.parametrize("change", [renamed, permuted], ids=["renamed", "permuted"])
def test_a_lossless_rewrite_has_the_same_weights(change: object) -> None:
    result = held(change(BASE))  # type: ignore[operator]
    assert result.relation is Relation.SAME_WEIGHTS
    assert result.kinds == (change.__name__,)  # type: ignore[attr-defined]


def test_a_cast_has_the_same_weights_and_shows_its_direction() -> None:
    narrow = Arrays({name: value.astype(ml_dtypes.bfloat16) for name, value in BASE.items()})
    result = compare(narrow, Arrays(BASE))
    assert (result.relation, result.kinds, result.direction) == (Relation.SAME_WEIGHTS, ("cast",), "left-from-right")
    assert compare(Arrays(BASE), narrow).direction == "right-from-left"


def test_rows_equal_as_a_set_but_in_inconsistent_orders_are_not_the_same_weights() -> None:
    broken = dict(BASE)
    for number, part in enumerate(("gate", "up")):
        name = f"model.layers.0.mlp.{part}_proj.weight"
        broken[name] = BASE[name][np.random.default_rng(number).permutation(len(BASE[name]))]
    assert held(broken).relation is not Relation.SAME_WEIGHTS


def test_a_tenth_of_the_parent_is_found_while_aligned() -> None:
    assert held(merged(0.2)(BASE)).relation is Relation.DERIVED


def test_layers_from_elsewhere_are_named() -> None:
    stranger = model(5)
    mixed = {name: stranger[name] if ".layers.3." in name else value for name, value in tuned(BASE).items()}
    result = held(mixed)
    assert result.relation is Relation.DERIVED
    assert "partial" in result.kinds
    assert [layer.relation for layer in result.layers] == ["derived", "derived", "derived", "unrelated"]
    assert result.share_explained < 0.9


def test_decoys_explain_nothing_of_the_model() -> None:
    decoyed = model(6) | {f"decoy.{name}": value for name, value in BASE.items()}
    assert held(decoyed).share_explained < 0.6


def kept_layers(tensors: Tensors, kept: tuple[int, ...]) -> Tensors:
    """Only these layers, numbered anew."""
    moved = {name: value for name, value in tensors.items() if ".layers." not in name}
    for new, old in enumerate(kept):
        place = f".layers.{old}."
        moved |= {name.replace(place, f".layers.{new}."): value for name, value in tensors.items() if place in name}
    return moved


@pytest.mark.parametrize("change", [tuned, lambda base: rotated(tuned(base))], ids=["tuned", "rotated"])
@pytest.mark.parametrize("kept", [(4, 5, 6, 7), (1, 3, 5, 7), (7, 6, 5, 4), (0, 1, 2, 1, 2, 3)], ids=str)
def test_layers_that_moved_are_found(kept: tuple[int, ...], change: object) -> None:
    deep = model(0, layers=8)
    result = held(kept_layers(change(deep), kept), deep)  # type: ignore[operator]
    assert result.relation is Relation.DERIVED
    assert [layer.matched for layer in result.layers] == [f"model.layers.{old}" for old in kept]


def test_layers_paired_by_order_alone_deny_nothing() -> None:
    other = {name.replace("mlp", "ffn").replace("layers", "blocks").replace("model.", "net."): value for name, value in model(1).items()}
    result = held(other)
    assert result.relation is Relation.INCONCLUSIVE
    assert "order alone" in result.unknown[0].why


def test_copied_embeddings_under_other_layers_withhold_the_denial() -> None:
    name = "model.embed_tokens.weight"
    result = held(model(7) | {name: BASE[name]})
    assert result.relation is Relation.INCONCLUSIVE
    assert "embed_tokens" in result.unknown[0].why


def test_removed_and_added_layers_are_said() -> None:
    short = {name: value for name, value in tuned(BASE).items() if ".layers.3." not in name}
    assert "layers-removed" in held(short).kinds
    assert "layers-added" in held(tuned(BASE), short).kinds


@pytest.mark.parametrize("tensors", [{"norm.weight": np.ones(8, dtype=np.float32)}, {}], ids=["no blocks", "nothing"])
def test_what_cannot_be_tested_is_inconclusive(tensors: Tensors) -> None:
    result = held(tensors, {"norm.weight": np.full(8, 2, dtype=np.float32)})
    assert result.relation is Relation.INCONCLUSIVE
    assert result.unknown


def test_too_few_blocks_deny_nothing() -> None:
    result = held(model(3, layers=2), model(0, layers=2))
    assert result.relation is Relation.INCONCLUSIVE
    assert "3" in result.unknown[0].why


def test_a_header_says_nothing_and_a_sample_reads_little() -> None:
    header = held(tuned(BASE), depth="header")
    assert (header.relation, header.cost.bytes_read) == (Relation.INCONCLUSIVE, 0)
    sample = held(tuned(BASE), depth="sample")
    assert sample.relation is Relation.DERIVED
    assert sample.cost.bytes_read < held(tuned(BASE)).cost.bytes_read
    assert sample.difference is None


def test_everything_but_the_cost_is_the_same_from_run_to_run() -> None:
    first, second = held(four_bit(BASE)), held(four_bit(BASE))
    assert replace(first, cost=second.cost) == second


def test_weights_that_are_not_numbers_decide_nothing() -> None:
    broken = {name: np.full_like(value, np.nan) for name, value in BASE.items()}
    result = held(broken)
    assert result.relation is Relation.INCONCLUSIVE
    assert result.difference is not None
    assert result.difference.largest[0].nonfinite > 0
