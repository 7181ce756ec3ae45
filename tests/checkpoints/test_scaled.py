"""8-bit matrices with scales beside them: what they stand for, where the block's size comes from, and scales that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from modelguard.errors import Malformed
from tests.checkpoints.packing import Array, piecewise, view, whole

NAME = "model.layers.0.mlp.up_proj.weight"
RNG = np.random.default_rng(0)
FP8 = RNG.normal(size=(200, 384)).astype(ml_dtypes.float8_e4m3fn)
INT8 = RNG.integers(-128, 128, (200, 384)).astype(np.int8)


def scales(*shape: int) -> Array:
    return RNG.uniform(0.01, 1, shape).astype(np.float32)


def spread(table: Array, block: tuple[int, int], shape: tuple[int, int] = (200, 384)) -> Array:
    """A scale for each entry."""
    return np.repeat(np.repeat(table, block[0], axis=0), block[1], axis=1)[: shape[0], : shape[1]]


@pytest.mark.parametrize("entries", [FP8, INT8], ids=["fp8", "int8"])
@pytest.mark.parametrize(
    ("suffix", "table", "block", "config"),
    [
        ("_scale_inv", scales(2, 3), (128, 128), {}),
        ("_scale_inv", scales(4, 6), (64, 64), {"weight_block_size": [64, 64]}),
        ("_scale", scales(200, 1), (1, 384), {}),
        ("_scale", scales(200, 3), (1, 128), {}),
        ("_scale", scales(200, 12), (1, 32), {}),
        ("_scale", scales(1, 1), (200, 384), {}),
        ("_scale", scales(5, 3), (40, 128), {"weight_block_size": "128"}),
        ("_scale", scales(2, 3).astype(ml_dtypes.bfloat16), (128, 128), {}),
    ],
    ids=str,
)
def test_entries_times_scales(
    entries: Array, suffix: str, table: Array, block: tuple[int, int], config: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint = view(tmp_path, {NAME: entries, NAME + suffix: table}, config)
    assert set(checkpoint.tensors) == {NAME}
    np.testing.assert_array_equal(whole(checkpoint, NAME), entries.astype(np.float32) * spread(table.astype(np.float32), block))
    np.testing.assert_array_equal(piecewise(checkpoint, NAME), whole(checkpoint, NAME))


@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_scale_and_the_activations_beside_it(shape: tuple[int, ...], tmp_path: Path) -> None:
    table, stem = np.full(shape, 0.25, np.float32), NAME.removesuffix(".weight")
    checkpoint = view(tmp_path, {NAME: FP8, f"{NAME}_scale": table, f"{stem}.input_scale": table})
    assert set(checkpoint.tensors) == {NAME}
    np.testing.assert_array_equal(whole(checkpoint, NAME), FP8.astype(np.float32) / 4)
    assert checkpoint.notes == ("FP8, one scale, dequantised: 1 matrix",)


def test_zero_points(tmp_path: Path) -> None:
    table, zeros = scales(200, 1), RNG.integers(-8, 8, (200, 1)).astype(np.int8)
    checkpoint = view(tmp_path, {NAME: INT8, f"{NAME}_scale": table, f"{NAME}_zero_point": zeros})
    np.testing.assert_array_equal(whole(checkpoint, NAME), (INT8.astype(np.float32) - zeros) * table)


def test_experts_have_scales_of_their_own(tmp_path: Path) -> None:
    name, entries, table = "model.layers.0.mlp.experts.gate_up_proj", RNG.normal(size=(3, 256, 128)), scales(3, 2, 1)
    stored = entries.astype(ml_dtypes.float8_e4m3fn)
    checkpoint = view(tmp_path, {name: stored, f"{name}_scale_inv": table})
    assert checkpoint.tensors[name].shape == (3, 256, 128)
    np.testing.assert_array_equal(whole(checkpoint, name), stored.astype(np.float32) * np.repeat(table, 128, axis=1))


def test_a_row_of_scales_for_each_row_however_large(tmp_path: Path) -> None:
    entries, table = RNG.integers(-128, 128, (3000, 1024)).astype(np.int8), scales(3000)
    checkpoint = view(tmp_path, {NAME: entries, f"{NAME}_scale": table})
    np.testing.assert_array_equal(piecewise(checkpoint, NAME, (1 << 18, 77)), entries * table[:, None])


def test_float8_without_scales_is_what_it_is(tmp_path: Path) -> None:
    checkpoint = view(tmp_path, {NAME: FP8})
    assert checkpoint.tensors[NAME].dtype == "F8_E4M3"
    assert checkpoint.format == "safetensors"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (scales(201), "do not fit"),
        (scales(3, 384), "do not say which blocks"),
        (scales(0, 0), "do not fit"),
        (scales(2, 3, 1), "do not fit"),
        (np.ones((200, 1), np.int32), "do not fit"),
        (scales(7, 3), "do not say which blocks"),
    ],
    ids=str,
)
def test_scales_that_do_not_fit_are_refused(table: Array, said: str, tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=said) as caught:
        view(tmp_path, {NAME: FP8, f"{NAME}_scale": table})
    assert caught.value.advice
    with pytest.raises(Malformed, match="zero points"):
        view(tmp_path, {NAME: INT8, f"{NAME}_scale": scales(200, 1), f"{NAME}_zero_point": np.zeros(7, np.int8)})
