"""What the zoo says that it does to a model is what it does."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.zoo import making
from benchmarks.zoo.reparametrising import rescaled
from tests.fingerprint.zoo import LAYERS, UNITS, model

BASE = model(1)
UP = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize("bits", [4, 8])
def test_a_rounding_leaves_no_more_levels_than_its_bits_allow(bits: int) -> None:
    rows = making.rounded(bits)(BASE)[UP]
    assert max(len(np.unique(row)) for row in rows) <= 2**bits
    assert np.abs(rows - BASE[UP]).max() > 0


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_pruning_sets_its_share_to_zero(share: float) -> None:
    assert (making.pruned(share)(BASE)[UP] == 0).mean() == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize("size", [0.01, 0.05])
def test_noise_has_its_size_in_every_tensor(size: float) -> None:
    for name, value in making.noised(size)(BASE).items():
        assert (value - BASE[name]).std() == pytest.approx(size * BASE[name].std(), rel=0.2), name


def test_layers_go_where_the_order_says() -> None:
    made = making.layered((0, 2, 2))(BASE)
    np.testing.assert_array_equal(made["model.layers.1.mlp.up_proj.weight"], BASE["model.layers.2.mlp.up_proj.weight"])
    np.testing.assert_array_equal(made["model.layers.2.mlp.up_proj.weight"], BASE["model.layers.2.mlp.up_proj.weight"])
    assert "model.layers.3.mlp.up_proj.weight" not in made
    assert len(made) == len(BASE) * 3 // LAYERS + (2 * (LAYERS - 3) + LAYERS - 1) // LAYERS


def test_a_merge_holds_its_share() -> None:
    other = model(2)
    np.testing.assert_allclose(making.mixed(BASE, other, 0.2)[UP], 0.2 * BASE[UP] + 0.8 * other[UP], atol=1e-7)


def test_a_partial_model_has_the_first_layers_of_its_parent_and_nothing_else() -> None:
    other = model(2)
    made = making.partly(BASE, other, 2)
    own = {name for name, value in made.items() if np.array_equal(value, BASE[name])}
    assert own == {name for name in BASE if ".layers.0." in name or ".layers.1." in name}


def test_more_tokens_leave_the_others_alone() -> None:
    made = making.extended(BASE)["model.embed_tokens.weight"]
    np.testing.assert_array_equal(made[:-8], BASE["model.embed_tokens.weight"])


def test_a_narrowed_model_keeps_whole_units() -> None:
    made = making.narrowed(BASE)
    kept = [int(np.flatnonzero((BASE[UP] == row).all(axis=1))[0]) for row in made[UP]]
    assert kept == sorted(kept)
    assert len(kept) == UNITS // 2
    np.testing.assert_array_equal(made[UP.replace("up", "down")], BASE[UP.replace("up", "down")][:, kept])


def test_what_is_fused_holds_its_parts_in_order() -> None:
    made = making.fused(BASE)
    parts = np.concatenate([BASE[f"model.layers.0.self_attn.{part}_proj.weight"] for part in "qkv"])
    np.testing.assert_array_equal(made["model.layers.0.self_attn.qkv_proj.weight"], parts)
    whole = making.split(made)
    assert set(whole) == set(BASE)
    assert all(np.array_equal(whole[name], value) for name, value in BASE.items())


def test_a_rescaled_unit_is_scaled_back_behind_it() -> None:
    made = rescaled(BASE)
    factor = made[UP][:, 0] / BASE[UP][:, 0]
    np.testing.assert_allclose(made[UP.replace("up", "down")] * factor, BASE[UP.replace("up", "down")], rtol=1e-4)
    assert factor.std() > 0.2
