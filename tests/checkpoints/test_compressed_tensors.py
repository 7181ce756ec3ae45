"""compressed-tensors' packed integers: what the words stand for, against the definition and against the library itself."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from modelguard.errors import CannotRead
from tests.checkpoints.packing import Array, piecewise, stream, view, whole
from tests.requirement import require

STEM = "model.layers.0.mlp.up_proj"
NAME = f"{STEM}.weight"


def packed(
    bits: int, outputs: int, inputs: int, group: int, *, zeros: bool = False, ordered: bool = False
) -> tuple[dict[str, Array], NDArray[np.float32]]:
    """The tensors of one matrix, and the weights that they stand for."""
    rng = np.random.default_rng(bits)
    groups, top, middle = inputs // group, 1 << bits, 1 << (bits - 1)
    codes, points = rng.integers(0, top, (outputs, inputs)), rng.integers(0, top, (outputs, groups))
    index = (rng.permutation(inputs) if ordered else np.arange(inputs)) // group
    scales = rng.uniform(0.001, 0.1, (outputs, groups)).astype(np.float16)
    tensors: dict[str, Array] = {
        f"{STEM}.weight_packed": stream(codes, bits),
        f"{STEM}.weight_scale": scales,
        f"{STEM}.weight_shape": np.array([outputs, inputs]),
    }
    if zeros:
        tensors[f"{STEM}.weight_zero_point"] = np.ascontiguousarray(stream(points.T, bits).T)
    if ordered:
        tensors[f"{STEM}.weight_g_idx"] = index.astype(np.int32)
    return tensors, ((codes - (points[:, index] if zeros else middle)) * scales[:, index].astype(np.float32)).astype(np.float32)


@pytest.mark.parametrize("zeros", [False, True], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_every_width_stands_for_its_weights(bits: int, zeros: bool, tmp_path: Path) -> None:
    tensors, weights = packed(bits, 80, 192, 32, zeros=zeros)
    checkpoint = view(tmp_path, tensors)
    assert set(checkpoint.tensors) == {NAME}
    np.testing.assert_array_equal(whole(checkpoint, NAME), weights)
    np.testing.assert_array_equal(piecewise(checkpoint, NAME), weights)
    assert checkpoint.notes == (f"compressed-tensors, {bits} bits, groups of 32, dequantised: 1 matrix",)


def test_rows_that_end_within_a_word_and_ordered_groups(tmp_path: Path) -> None:
    tensors, weights = packed(4, 9, 90, 90)
    np.testing.assert_array_equal(whole(view(tmp_path, tensors), NAME), weights)
    tensors, weights = packed(4, 40, 96, 32, zeros=True, ordered=True)
    np.testing.assert_array_equal(whole(view(tmp_path, tensors), NAME), weights)
    unset, plain = packed(4, 40, 96, 32)
    unset[f"{STEM}.weight_g_idx"] = np.full(96, -1, np.int32)
    np.testing.assert_array_equal(whole(view(tmp_path, unset), NAME), plain)


def test_one_scale_for_the_whole_matrix(tmp_path: Path) -> None:
    tensors, _ = packed(8, 80, 192, 192)
    codes = whole(view(tmp_path, {**tensors, f"{STEM}.weight_scale": np.ones(1, np.float32)}), NAME)
    found = whole(view(tmp_path, {**tensors, f"{STEM}.weight_scale": np.full(1, 0.5, np.float32)}), NAME)
    np.testing.assert_array_equal(found, codes / 2)
    assert codes.min() >= -128
    assert codes.max() <= 127


def broken() -> dict[str, tuple[dict[str, Array], str]]:
    tensors, _ = packed(4, 80, 192, 32, zeros=True, ordered=True)

    def but(suffix: str, array: Array | None) -> dict[str, Array]:
        rest = {name: found for name, found in tensors.items() if name != f"{STEM}.{suffix}"}
        return rest if array is None else {**rest, f"{STEM}.{suffix}": array}

    return {
        "no-scale": (but("weight_scale", None), "is missing"),
        "no-shape": (but("weight_shape", None), "is missing"),
        "shape-of-floats": (but("weight_shape", np.ones(2, np.float32)), "two lengths"),
        "shape-too-wide": (but("weight_shape", np.array([80, 4096])), "do not fit together"),
        "shape-negative": (but("weight_shape", np.array([-80, -192])), "do not fit together"),
        "shape-huge": (but("weight_shape", np.array([80, 2**62])), "do not fit together"),
        "scales-too-few": (but("weight_scale", np.ones((79, 6), np.float16)), "do not fit together"),
        "zeros-too-few": (but("weight_zero_point", np.zeros((10, 5), np.int32)), "weight_zero_point"),
        "index-too-short": (but("weight_g_idx", np.zeros(5, np.int32)), "weight_g_idx"),
        "index-names-no-group": (but("weight_g_idx", np.full(192, 6, np.int32)), "names no group"),
        "experts": (but("weight_packed", np.zeros((2, 80, 24), np.int32)), "3 dimensions"),
        "bytes": (but("weight_packed", np.zeros((80, 96), np.uint8)), "NVFP4 or MXFP4"),
    }


@pytest.mark.parametrize("case", broken())
def test_nonsense_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    tensors, said = broken()[case]
    with pytest.raises(CannotRead, match=said) as caught:
        whole(view(tmp_path, tensors), NAME)
    assert caught.value.advice
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("bits", "group"), [(4, 32), (4, -1), (8, 64), (3, 32), (6, -1)])
def test_the_library_reads_the_same(bits: int, group: int, symmetric: bool, tmp_path: Path) -> None:
    require("compressed-tensors", importlib.util.find_spec("compressed_tensors"), "install it to hold its packing against it")
    import torch

    packing = importlib.import_module("compressed_tensors.compressors.pack_quantized.base").PackedQuantizationCompressor
    schemes = importlib.import_module("compressed_tensors.quantization")
    torch.manual_seed(bits)
    strategy = {"strategy": "group", "group_size": group} if group > 0 else {"strategy": "channel"}
    weights = schemes.QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric, **strategy)
    scheme = schemes.QuantizationScheme(targets=["Linear"], weights=weights)
    groups = 192 // group if group > 0 else 1
    state = {"weight": torch.randn(80, 192), "weight_scale": torch.rand(80, groups) * 0.1 + 0.2}
    if not symmetric:
        state["weight_zero_point"] = torch.randint(-2, 3, (80, groups), dtype=torch.int8)
    stored = packing.compress(state, scheme)
    expected = packing.decompress(stored, scheme)["weight"].numpy()
    checkpoint = view(tmp_path, {f"{STEM}.{name}": tensor.contiguous().numpy() for name, tensor in stored.items()})
    np.testing.assert_array_equal(whole(checkpoint, NAME), expected)
