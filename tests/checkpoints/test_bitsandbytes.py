"""bitsandbytes: 4-bit blocks and 8-bit rows, against their definition and against the library itself."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelguard.errors import CannotRead, Malformed, ModelguardError
from tests.checkpoints.packing import Array, piecewise, view, whole
from tests.requirement import require

NAME = "model.layers.0.mlp.up_proj.weight"
STATE = f"{NAME}.quant_state.bitsandbytes__nf4"


def state(told: Mapping[str, Any]) -> Array:
    """A quantisation state as the library stores it."""
    return np.frombuffer(json.dumps(told).encode(), dtype=np.uint8)


def packed(shape: tuple[int, ...], block: int = 64, nested: int = 0, seed: int = 0) -> tuple[dict[str, Array], NDArray[np.float32]]:
    """The tensors of one matrix of 4-bit codes, and the weights that they stand for."""
    rng = np.random.default_rng(seed)
    entries = int(np.prod(shape))
    codes, table = rng.integers(0, 16, entries), np.sort(rng.uniform(-1, 1, 16)).astype(np.float32)
    even = np.append(codes, 0)[: entries + entries % 2]
    count = -(-entries // block)
    told: dict[str, Any] = {"quant_type": "nf4", "blocksize": block, "dtype": "float32", "shape": list(shape)}
    tensors: dict[str, Array] = {NAME: (even[::2] << 4 | even[1::2]).astype(np.uint8)[:, None], f"{NAME}.quant_map": table}
    scales = rng.uniform(0.1, 2, count).astype(np.float32)
    tensors[f"{NAME}.absmax"] = scales
    if nested:
        told |= {"nested_blocksize": nested, "nested_dtype": "float32", "nested_offset": 0.75}
        outer, inner = rng.uniform(0.1, 1, -(-count // nested)).astype(np.float32), rng.uniform(-1, 1, 256).astype(np.float32)
        chosen = rng.integers(0, 256, count).astype(np.uint8)
        scales = (inner[chosen] * outer[np.arange(count) // nested] + np.float32(0.75)).astype(np.float32)
        tensors |= {f"{NAME}.absmax": chosen, f"{NAME}.nested_absmax": outer, f"{NAME}.nested_quant_map": inner}
    tensors[STATE] = state(told)
    return tensors, (table[codes] * scales[np.arange(entries) // block]).reshape(shape)


@pytest.mark.parametrize("shape", [(16, 64), (7, 9), (1, 1), (600, 2048)], ids=str)
@pytest.mark.parametrize("nested", [0, 3, 256])
def test_four_bits_stand_for_their_weights(shape: tuple[int, ...], nested: int, tmp_path: Path) -> None:
    tensors, weights = packed(shape, nested=nested)
    checkpoint = view(tmp_path, tensors)
    assert set(checkpoint.tensors) == {NAME}
    np.testing.assert_array_equal(whole(checkpoint, NAME), weights)
    np.testing.assert_array_equal(piecewise(checkpoint, NAME, (1, 1 << 19, 999)), weights)
    assert checkpoint.notes[0].startswith("bitsandbytes nf4, blocks of 64")


def test_codes_inside_of_floats_are_codes(tmp_path: Path) -> None:
    """Sharding code wants floats, so that the same bytes are also stored as 16-bit ones."""
    tensors, weights = packed((16, 64))
    tensors[NAME] = tensors[NAME].reshape(-1).view(np.float16)[:, None]
    np.testing.assert_array_equal(whole(view(tmp_path, tensors), NAME), weights)


def test_eight_bits_stand_for_their_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes, scales = rng.integers(-127, 128, (96, 64)).astype(np.int8), rng.uniform(0.1, 2, 96).astype(np.float32)
    stem = NAME.removesuffix(".weight")
    tensors: dict[str, Array] = {NAME: codes, f"{stem}.SCB": scales, f"{stem}.weight_format": np.zeros((), np.uint8)}
    checkpoint = view(tmp_path, tensors)
    assert set(checkpoint.tensors) == {NAME}
    np.testing.assert_allclose(whole(checkpoint, NAME), codes * scales[:, None] / 127.0, rtol=3e-7)
    np.testing.assert_array_equal(piecewise(checkpoint, NAME), whole(checkpoint, NAME))
    with pytest.raises(CannotRead, match="tile order"):
        view(tmp_path, {**tensors, f"{stem}.weight_format": np.array([2], np.uint8)})
    with pytest.raises(Malformed, match="one scale for each row"):
        view(tmp_path, {**tensors, f"{stem}.SCB": scales[:5]})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": [16, 65]}, "absmax is missing or not 17 entries"),
        ({"shape": [2**39, 2**39]}, "is missing or not"),
        ({"shape": []}, "no shape"),
        ({"shape": [-16, -64]}, "no shape"),
        ({"shape": [16, 64.0]}, "no shape"),
        ({"blocksize": 0}, "blocksize is not usable"),
        ({"blocksize": 2**40}, "blocksize is not usable"),
        ({"blocksize": 63}, "absmax is missing or not 17 entries"),
        ({"nested_blocksize": 256}, "absmax is missing or not 16 entries of U8"),
        ({"nested_offset": 1e300}, "offset is no number"),
        ({"nested_offset": 10**400}, "offset is no number"),
        ({"nested_offset": "0"}, "offset is no number"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    tensors, _ = packed((16, 64))
    tensors[STATE] = state({"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [16, 64], **change})
    with pytest.raises(Malformed, match=said) as caught:
        view(tmp_path, tensors)
    assert "\n" not in str(caught.value)


def test_tensors_that_are_missing_or_short_are_refused(tmp_path: Path) -> None:
    tensors, _ = packed((16, 64), nested=16)
    for suffix in ("absmax", "quant_map", "nested_absmax", "nested_quant_map"):
        with pytest.raises(Malformed, match=f"{suffix} is missing"):
            view(tmp_path, {name: array for name, array in tensors.items() if name != f"{NAME}.{suffix}"})
    with pytest.raises(Malformed, match="do not hold 1024 codes"):
        view(tmp_path, {**tensors, NAME: tensors[NAME][:-1]})
    with pytest.raises(Malformed, match="does not belong"):
        view(tmp_path, {name: array for name, array in tensors.items() if name != NAME})
    with pytest.raises(Malformed, match="does not belong"):
        view(tmp_path, {**tensors, STATE: np.zeros(5000, np.uint8)})
    with pytest.raises(CannotRead, match="do not explain"):
        view(tmp_path, {NAME: tensors[NAME]})


@settings(max_examples=60, deadline=None)
@given(
    noise=st.binary(max_size=80), told=st.dictionaries(st.sampled_from(["shape", "blocksize", "nested_offset"]), st.integers() | st.none())
)
def test_any_state_is_read_or_refused(noise: bytes, told: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    tensors, _ = packed((4, 16))
    for content in (np.frombuffer(noise, dtype=np.uint8), state({"blocksize": 64, "shape": [4, 16], **told})):
        said = ""
        try:
            assert whole(view(tmp_path_factory.mktemp("any"), {**tensors, STATE: content}), NAME).shape == (4, 16)
        except ModelguardError as error:
            said = str(error)
        assert "\n" not in said


@pytest.mark.slow
@pytest.mark.parametrize("nested", [False, True], ids=["plain", "nested"])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_the_library_reads_the_same(kind: str, nested: bool, tmp_path: Path) -> None:
    require("bitsandbytes", importlib.util.find_spec("bitsandbytes"), "install it to hold its packing against it")
    import torch

    functional = importlib.import_module("bitsandbytes.functional")
    torch.manual_seed(0)
    weight = torch.randn(96, 192)  # rows of whole blocks: of others the library's own CPU code (0.50.2) reads wrong scales
    quantised, told = functional.quantize_4bit(weight, blocksize=64, quant_type=kind, compress_statistics=nested)
    tensors = {f"{NAME}.{key}": value.numpy() for key, value in told.as_dict(packed=True).items()}
    found = whole(view(tmp_path, {**tensors, NAME: quantised.numpy()}), NAME)
    np.testing.assert_allclose(found, functional.dequantize_4bit(quantised, told).numpy(), rtol=1e-6, atol=1e-7)
    assert np.corrcoef(found.ravel(), weight.numpy().ravel())[0, 1] > 0.98


@pytest.mark.slow
def test_the_library_reads_the_same_rows(tmp_path: Path) -> None:
    require("bitsandbytes", importlib.util.find_spec("bitsandbytes"), "install it to hold its packing against it")
    import torch

    functional = importlib.import_module("bitsandbytes.functional")
    weight = torch.randn(96, 160, generator=torch.Generator().manual_seed(0)).half()
    codes, scales, _ = functional.int8_vectorwise_quant(weight)
    tensors = {NAME: codes.numpy(), f"{NAME.removesuffix('weight')}SCB": scales.numpy()}
    found = whole(view(tmp_path, tensors), NAME)
    np.testing.assert_allclose(found, functional.int8_vectorwise_dequant(codes, scales).numpy(), rtol=1e-6)
    np.testing.assert_allclose(found, weight.float().numpy(), atol=0.02)
