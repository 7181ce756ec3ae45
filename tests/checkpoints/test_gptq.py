"""GPTQ: what the packed words stand for, against the definition, AutoGPTQ's own words, and files that make no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelguard.errors import CannotRead, Malformed, ModelguardError
from tests.checkpoints.packing import Array, piecewise, stream, view, whole

STEM = "model.layers.0.mlp.up_proj"
NAME = f"{STEM}.weight"
AUTOGPTQ_QWEIGHT = (  # the words of eight outputs, which repeat
    (0xB829CBB8, 0x53977053, 0x2EE0A72E, 0xC14E5DC1, 0x9CBB829C, 0x77053977, 0x0A72EE0A, 0xE5DC14E5),
    (0xCBB829CB, 0x70539770, 0xA72EE0A7, 0x5DC14E5D, 0x829CBB82, 0x39770539, 0xEE0A72EE, 0x14E5DC14),
    (0x29CBB829, 0x97705397, 0xE0A72EE0, 0x4E5DC14E, 0xBB829CBB, 0x05397705, 0x72EE0A72, 0xDC14E5DC),
)
AUTOGPTQ_QZEROS = (0xD11AC688, 0x6B1A2358, 0x688D6344)


def packed(
    bits: int, inputs: int, outputs: int, group: int, *, ordered: bool = False, lacking: int = 1, symmetric: bool = False, seed: int = 0
) -> tuple[dict[str, Array], NDArray[np.float32]]:
    """The tensors of one matrix, and the weights that they stand for. `lacking` is what the stored zero points lack."""
    rng = np.random.default_rng(seed)
    groups, top = inputs // group, (1 << bits) - 1
    zeros = np.full((groups, outputs), (top + 1) // 2) if symmetric else rng.integers(1, top + 1, (groups, outputs))
    index = (rng.permutation(inputs) if ordered else np.arange(inputs)) // group
    spread = rng.normal(size=(inputs, outputs)) * top / 5 + zeros[index]
    codes = np.clip(np.round(spread), 0, top).astype(np.int64)
    scales = rng.uniform(0.001, 0.1, (groups, outputs)).astype(np.float16)
    tensors = {
        f"{STEM}.qweight": np.ascontiguousarray(stream(codes.T, bits).T),
        f"{STEM}.qzeros": stream(zeros - lacking, bits),
        f"{STEM}.scales": scales,
        f"{STEM}.g_idx": index.astype(np.int32),
    }
    weights = (codes - zeros[index]).astype(np.float32) * scales[index].astype(np.float32)
    return tensors, np.ascontiguousarray(weights.T)


@pytest.mark.parametrize("ordered", [False, True], ids=["plain", "act-order"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_every_width_stands_for_its_weights(bits: int, ordered: bool, tmp_path: Path) -> None:
    tensors, weights = packed(bits, 128, 96, 32, ordered=ordered)
    checkpoint = view(tmp_path, tensors)
    assert set(checkpoint.tensors) == {NAME}
    np.testing.assert_array_equal(whole(checkpoint, NAME), weights)
    np.testing.assert_array_equal(piecewise(checkpoint, NAME), weights)
    assert checkpoint.format == "packed safetensors"
    assert checkpoint.notes == (f"GPTQ, {bits} bits, groups of 32, dequantised: 1 matrix",)


def test_a_matrix_of_many_blocks_reads_the_same_in_pieces(tmp_path: Path) -> None:
    tensors, weights = packed(4, 4096, 544, 128)  # three blocks, and a packed part too large to be read in whole rows
    checkpoint = view(tmp_path, tensors)
    np.testing.assert_array_equal(piecewise(checkpoint, NAME, (1 << 18, 999)), weights)
    row = bytearray(4096 * 4)
    checkpoint.readinto(NAME, 300 * 4096 * 4, memoryview(row))
    assert bytes(row) == weights[300].tobytes()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("lacking", [0, 1], ids=["v2", "v1"])
@pytest.mark.parametrize("claim", [None, "gptq", "gptq_v2"])
def test_the_version_shows_in_the_codes_whatever_the_configuration_says(
    lacking: int, symmetric: bool, claim: str | None, tmp_path: Path
) -> None:
    tensors, weights = packed(4, 256, 64, 64, lacking=lacking, symmetric=symmetric)
    config = None if claim is None else {"quant_method": "gptq", "checkpoint_format": claim}
    np.testing.assert_array_equal(whole(view(tmp_path, tensors, config), NAME), weights)


@pytest.mark.parametrize(("claim", "lacking"), [("gptq", 1), ("gptq_v2", 0)])
def test_where_the_codes_do_not_tell_the_configuration_does(claim: str, lacking: int, tmp_path: Path) -> None:
    tensors, _ = packed(4, 256, 64, 64)
    tensors[f"{STEM}.qweight"] = np.full_like(tensors[f"{STEM}.qweight"], -1)  # every code 15
    found = whole(view(tmp_path, tensors, {"checkpoint_format": claim}), NAME)
    zeros = 15 - found / np.repeat(tensors[f"{STEM}.scales"], 64, axis=0).T.astype(np.float32)
    stored = (tensors[f"{STEM}.qzeros"].view(np.uint32)[:, 0] & 15).astype(int)
    np.testing.assert_allclose(zeros[0, ::64], (stored + lacking) % 16, atol=1e-3)


def test_without_an_index_the_groups_follow_the_inputs(tmp_path: Path) -> None:
    tensors, weights = packed(4, 128, 64, 32)
    del tensors[f"{STEM}.g_idx"]
    np.testing.assert_array_equal(whole(view(tmp_path, tensors), NAME), weights)


def test_words_that_autogptq_wrote(tmp_path: Path) -> None:
    """Words of AutoGPTQ 0.7.1's own `pack`, for codes (7 i + 3 o) mod 8 of three bits and zero points 1 + o mod 7."""
    inputs, outputs = 32, 32
    codes = (7 * np.arange(inputs)[:, None] + 3 * np.arange(outputs)) % 8
    zeros = 1 + np.arange(outputs)[None] % 7
    qweight = np.tile(np.array(AUTOGPTQ_QWEIGHT, dtype=np.uint32).view(np.int32), outputs // 8)
    qzeros = np.array(AUTOGPTQ_QZEROS, dtype=np.uint32).view(np.int32).reshape(1, 3)
    scales = np.full((1, outputs), 0.5, dtype=np.float16)
    tensors: dict[str, Array] = {f"{STEM}.qweight": qweight, f"{STEM}.qzeros": qzeros, f"{STEM}.scales": scales}
    expected = ((codes - zeros) * 0.5).T
    np.testing.assert_array_equal(whole(view(tmp_path, tensors, {"checkpoint_format": "gptq"}), NAME), expected)


def test_other_tensors_are_passed_on_as_they_are(tmp_path: Path) -> None:
    tensors, _ = packed(4, 128, 64, 32)
    norm = np.arange(7, dtype=np.float16)
    checkpoint = view(tmp_path, {**tensors, "model.norm.weight": norm})
    buffer = bytearray(14)
    checkpoint.readinto("model.norm.weight", 0, memoryview(buffer))
    assert bytes(buffer) == norm.tobytes()
    assert checkpoint.tensors["model.norm.weight"].dtype == "F16"


def broken() -> dict[str, tuple[dict[str, Array], str]]:
    """Files that make no sense, with what is said of them."""
    tensors, _ = packed(4, 128, 64, 32)
    short = {**tensors, f"{STEM}.scales": tensors[f"{STEM}.scales"][:, :32]}
    without = {name: array for name, array in tensors.items() if not name.endswith("scales")}
    integers = {**tensors, f"{STEM}.scales": np.ones((4, 64), dtype=np.int32)}
    twice = {**tensors, NAME: np.zeros((64, 128), dtype=np.float32)}
    many = {**tensors, f"{STEM}.scales": np.ones((200, 64), np.float16), f"{STEM}.qzeros": np.zeros((200, 8), np.int32)}
    odd = {**tensors, f"{STEM}.scales": np.ones((3, 64), np.float16), f"{STEM}.qzeros": np.zeros((3, 8), np.int32)}
    del odd[f"{STEM}.g_idx"]
    return {
        "scales-too-few": (short, "do not explain"),
        "scales-missing": (without, "do not explain"),
        "scales-are-integers": (integers, "do not explain"),
        "packed-and-unpacked": (twice, "packed and unpacked"),
        "more-groups-than-inputs": (many, "200 groups of 128 inputs"),
        "groups-do-not-divide": (odd, "g_idx is missing"),
    }


@pytest.mark.parametrize("case", broken())
def test_nonsense_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    tensors, said = broken()[case]
    with pytest.raises(CannotRead, match=said) as caught:
        view(tmp_path, tensors)
    assert "\n" not in str(caught.value)
    assert caught.value.advice


@pytest.mark.parametrize("group", [-1, 4, 2**31 - 1])
def test_an_index_that_names_no_group_is_refused(group: int, tmp_path: Path) -> None:
    tensors, _ = packed(4, 128, 64, 32)
    tensors[f"{STEM}.g_idx"][7] = group
    with pytest.raises(Malformed, match="names a group that has no scale"):
        whole(view(tmp_path, tensors), NAME)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_the_tensors_hold_it_is_read_or_refused(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any words and scales, and shapes that are a little off: float32 of the right shape, or one line."""
    length = st.integers(0, 9)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))

    def matrix(dtype: Any) -> Array:
        shape = (data.draw(length), data.draw(length) * 8)
        drawn: Array = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), dtype=np.uint8).view(dtype)
        return drawn[:, :, 0]

    tensors = {f"{STEM}.qweight": matrix(np.int32), f"{STEM}.qzeros": matrix(np.int32), f"{STEM}.scales": matrix(np.float16)}
    if data.draw(st.booleans()):
        tensors[f"{STEM}.g_idx"] = matrix(np.int32)[:, :1].reshape(-1)
    said = ""
    try:
        checkpoint = view(tmp_path_factory.mktemp("any"), tensors)
        assert whole(checkpoint, NAME).shape == checkpoint.tensors[NAME].shape
    except ModelguardError as error:
        said = str(error)
    assert "\n" not in said
