"""Layers that were dropped, repeated or moved, and layers of another width."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelguard.correspondence.alignment import align
from modelguard.fingerprint.blocks import find_blocks
from modelguard.fingerprint.layers import find_added, find_moved
from modelguard.fingerprint.matching import growing, log10_growing_tail, nearest
from modelguard.fingerprint.widths import ORDERED_AXES, examine_widths, uneven_layers
from modelguard.types.weights import NullTest
from tests.fingerprint.zoo import LAYERS, UNITS, WIDTH, Arrays, Tensors, model, rotated, tuned

ALPHA = 1e-9
BASE = model(0)


def numbered(tensors: Tensors, kept: tuple[int, ...]) -> Tensors:
    """Only these layers, numbered anew; -1 is a layer of another model."""
    made = {name: value for name, value in tensors.items() if ".layers." not in name}
    other = model(50)
    for new, old in enumerate(kept):
        source, place = (other, 0) if old < 0 else (tensors, old)
        found = {name: value for name, value in source.items() if f".layers.{place}." in name}
        made |= {name.replace(f".layers.{place}.", f".layers.{new}."): value for name, value in found.items()}
    return made


@pytest.mark.parametrize(
    "kept",
    [
        (0, 1, 2),
        (0, 3),
        (0, 1, 1, 2, 2, 3),
        (0, 1, 2, 3, 0, 1, 2, 3),
        (0, -1, 1, 2, 3),
        (0, 1, 2, 3, -1),
        (3, 2, 1, 0),
        (0, 1, -1, 3),
        (0, 1, 2, 3),
    ],
    ids=str,
)
def test_every_layer_is_found_where_it_came_from(kept: tuple[int, ...]) -> None:
    """Removed, repeated, inserted, appended and reordered layers, fine-tuned; a layer of another model is found nowhere."""
    left, right = Arrays(tuned(numbered(BASE, kept))), Arrays(BASE)
    blocks = find_blocks(left, right, align(left, right, by_content=False))
    moved = find_moved(left, right, blocks, ALPHA)
    own = {block.layer: block.matched for number, block in enumerate(blocks) if kept[number] == number}
    found = own | {layer: block.matched for layer, block in (*moved.items(), *find_added(left, right, blocks, ALPHA).items())}
    assert found == {f"model.layers.{new}": f"model.layers.{old}" for new, old in enumerate(kept) if old >= 0}


def test_layers_that_a_stranger_has_more_are_not_found() -> None:
    left, right = Arrays(model(3, layers=6)), Arrays(BASE)
    blocks = find_blocks(left, right, align(left, right, by_content=False))
    assert find_added(left, right, blocks, ALPHA) == {}
    assert find_added(Arrays({}), right, (), ALPHA) == find_added(left, Arrays({}), (), ALPHA) == {}


def fewer_units(tensors: Tensors, count: int, *, ordered: bool = True, seed: int = 6) -> Tensors:
    """Structured pruning: some units of every MLP, picked at random."""
    rng, made = np.random.default_rng(seed), dict(tensors)
    for layer in range(LAYERS):
        kept = rng.permutation(UNITS)[:count]
        kept = np.sort(kept) if ordered else kept
        for part in ("gate", "up"):
            made[f"model.layers.{layer}.mlp.{part}_proj.weight"] = tensors[f"model.layers.{layer}.mlp.{part}_proj.weight"][kept]
        made[f"model.layers.{layer}.mlp.down_proj.weight"] = tensors[f"model.layers.{layer}.mlp.down_proj.weight"][:, kept]
    return made


def narrower(tensors: Tensors, width: int, seed: int = 7) -> Tensors:
    """Some axes of the residual stream, in their order, picked at random."""
    kept = np.sort(np.random.default_rng(seed).permutation(WIDTH)[:width])
    made = {}
    for key, value in tensors.items():
        value = value[kept] if value.ndim == 1 or key.endswith(("down_proj.weight", "o_proj.weight")) else value
        made[key] = value[:, kept] if value.ndim == 2 and not key.endswith("down_proj.weight") and value.shape[1] == WIDTH else value
    return made


def held(left: Tensors, right: Tensors = BASE) -> tuple[NullTest, ...]:
    ours, theirs = Arrays(left), Arrays(right)
    return examine_widths(ours, theirs, align(ours, theirs, by_content=False), uneven_layers(ours, theirs))


@pytest.mark.parametrize("count", [1000, 640, 160])
def test_units_in_order_are_found_after_pruning_and_tuning(count: int) -> None:
    small = tuned(fewer_units(BASE, count), size=0.3)
    for left, right in ((small, BASE), (BASE, small)):
        results = [result for result in held(left, right) if result.method.startswith("t1")]
        assert len(results) == LAYERS
        assert max(result.log10_p for result in results) < -30


def test_units_in_no_order_are_found_by_the_axes() -> None:
    results = held(tuned(fewer_units(BASE, 640, ordered=False)))
    assert min(result.log10_p for result in results if result.method.startswith("t1")) > -4
    assert max(result.log10_p for result in results if result.method.startswith("t2")) < -12


@pytest.mark.parametrize("units", [UNITS, 640])
def test_a_narrower_stream_is_found(units: int) -> None:
    small = tuned(narrower(fewer_units(BASE, units), 96))
    for results in (held(small), held(BASE, small)):
        assert results[0].method == ORDERED_AXES
        assert len(results) == 1 + LAYERS
        assert max(result.log10_p for result in results) < -20


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("change", [lambda base: fewer_units(base, 640), lambda base: narrower(base, 96)], ids=["units", "axes"])
def test_pruned_strangers_stay_strangers(seed: int, change: object) -> None:
    assert min(result.log10_p for result in held(change(model(seed)))) > -4  # type: ignore[operator]


def test_a_rotated_pruned_model_is_not_denied_by_silence() -> None:
    assert all(result.log10_p > -4 for result in held(rotated(fewer_units(BASE, 640))))


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan"), float("inf")])
def test_weights_without_content_show_nothing(value: float) -> None:
    empty = {key: np.full_like(tensor, value) for key, tensor in narrower(fewer_units(BASE, 640), 96).items()}
    assert all(result.log10_p == 0 for result in held(empty))
    empty = {key: np.full_like(tensor, value) for key, tensor in fewer_units(BASE, 640).items()}
    assert all(result.log10_p == 0 for result in held(empty))


def test_equal_widths_are_no_business_of_these_tests() -> None:
    assert held(model(1)) == held({}) == held(BASE, {}) == ()


@given(st.lists(st.integers(-1, 20), max_size=30))
def test_a_growing_run_is_one_and_no_longer_one_exists(values: list[int]) -> None:
    run = growing(np.array(values, dtype=np.intp))
    images = [values[place] for place in run]
    assert images == sorted(set(images))
    assert all(image >= 0 for image in images)
    assert list(run) == sorted(run)
    best = [0] * len(values)
    for place, value in enumerate(values):
        best[place] = 1 + max((best[other] for other in range(place) if 0 <= values[other] < value), default=0) if value >= 0 else 0
    assert len(run) == max(best, default=0)


def test_the_bound_on_growing_runs_holds_for_any_images() -> None:
    rng = np.random.default_rng(0)
    for images in (np.arange(24), np.repeat(np.arange(12), 2), np.arange(24) - 6):
        lengths = np.array([len(growing(rng.permutation(images))) for _ in range(2000)])
        for k in range(1, 16):
            assert (lengths >= k).mean() <= 10 ** log10_growing_tail(k, 24) + 3 * math.sqrt(0.25 / 2000) * (k > 9)


@given(seed=st.integers(0, 1000), n=st.integers(1, 12), m=st.integers(1, 30))
def test_the_nearest_is_the_nearest(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    right = rng.standard_normal((m, 5))
    picked = rng.integers(0, m, n)
    images = nearest(right[picked] * 2, right)
    assert images.shape == (n,)
    assert set(images.tolist()) <= set(range(-1, m))
    assert (nearest(np.zeros((n, 5)), right) == -1).all()
    assert (nearest(right, np.zeros((n, 5))) == -1).all()
