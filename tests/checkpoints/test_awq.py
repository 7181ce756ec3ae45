"""AWQ: what the packed words stand for, against the definition, AutoAWQ's own words, and files that make no sense."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from modelguard.errors import CannotRead
from tests.checkpoints.packing import Array, piecewise, stream, view, whole

STEM = "model.layers.0.mlp.up_proj"
NAME = f"{STEM}.weight"
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the output that a word's nibbles belong to, lowest first
AUTOAWQ_QWEIGHT = (
    (0x5F932C60, 0xD71BA4E8, 0x5F932C60, 0xD71BA4E8),
    (0xA4E871B5, 0x2C60F93D, 0xA4E871B5, 0x2C60F93D),
    (0xF93DC60A, 0x71B54E82, 0xF93DC60A, 0x71B54E82),
    (0x4E821B5F, 0xC60A93D7, 0x4E821B5F, 0xC60A93D7),
    (0x93D760A4, 0x1B5FE82C, 0x93D760A4, 0x1B5FE82C),
    (0xE82CB5F9, 0x60A43D71, 0xE82CB5F9, 0x60A43D71),
    (0x3D710A4E, 0xB5F982C6, 0x3D710A4E, 0xB5F982C6),
    (0x82C65F93, 0x0A4ED71B, 0x82C65F93, 0x0A4ED71B),
    (0xD71BA4E8, 0x5F932C60, 0xD71BA4E8, 0x5F932C60),
    (0x2C60F93D, 0xA4E871B5, 0x2C60F93D, 0xA4E871B5),
    (0x71B54E82, 0xF93DC60A, 0x71B54E82, 0xF93DC60A),
    (0xC60A93D7, 0x4E821B5F, 0xC60A93D7, 0x4E821B5F),
    (0x1B5FE82C, 0x93D760A4, 0x1B5FE82C, 0x93D760A4),
    (0x60A43D71, 0xE82CB5F9, 0x60A43D71, 0xE82CB5F9),
    (0xB5F982C6, 0x3D710A4E, 0xB5F982C6, 0x3D710A4E),
    (0x0A4ED71B, 0x82C65F93, 0x0A4ED71B, 0x82C65F93),
)
AUTOAWQ_QZEROS = ((0x75316420, 0x420931A8, 0x1A860975, 0x97538642),)


def ordered(codes: Array) -> Array:
    """Codes (n, outputs) as words: eight neighbours a word, in the packing's order."""
    return stream(codes.reshape(len(codes), -1, 8)[:, :, ORDER].reshape(codes.shape), 4)


def packed(inputs: int, outputs: int, group: int, seed: int = 0) -> tuple[dict[str, Array], NDArray[np.float32]]:
    """The tensors of one matrix, and the weights that they stand for."""
    rng = np.random.default_rng(seed)
    codes, zeros = rng.integers(0, 16, (inputs, outputs)), rng.integers(0, 16, (inputs // group, outputs))
    scales = rng.uniform(0.001, 0.1, zeros.shape).astype(np.float16)
    tensors = {f"{STEM}.qweight": ordered(codes), f"{STEM}.qzeros": ordered(zeros), f"{STEM}.scales": scales}
    index = np.arange(inputs) // group
    return tensors, np.ascontiguousarray(((codes - zeros[index]) * scales[index].astype(np.float32)).T.astype(np.float32))


@pytest.mark.parametrize(("inputs", "outputs", "group"), [(128, 64, 32), (64, 8, 64), (4096, 544, 128)])
def test_words_stand_for_their_weights(inputs: int, outputs: int, group: int, tmp_path: Path) -> None:
    tensors, weights = packed(inputs, outputs, group)
    checkpoint = view(tmp_path, tensors)
    assert set(checkpoint.tensors) == {NAME}
    np.testing.assert_array_equal(whole(checkpoint, NAME), weights)
    np.testing.assert_array_equal(piecewise(checkpoint, NAME, (1 << 18, 999)), weights)
    assert checkpoint.notes == (f"AWQ, 4 bits, groups of {group}, dequantised: 1 matrix",)


def test_words_that_autoawq_wrote(tmp_path: Path) -> None:
    """Words of AutoAWQ 0.2.9's own packing, for codes (5 i + 3 o) mod 16 and zero points o mod 11."""
    qweight, qzeros = (np.array(words, dtype=np.uint32).view(np.int32) for words in (AUTOAWQ_QWEIGHT, AUTOAWQ_QZEROS))
    scales = np.full((1, 32), 0.25, dtype=np.float16)
    tensors: dict[str, Array] = {f"{STEM}.qweight": np.tile(qweight, (2, 1)), f"{STEM}.qzeros": qzeros, f"{STEM}.scales": scales}
    codes = (5 * np.arange(32)[:, None] + 3 * np.arange(32)) % 16
    np.testing.assert_array_equal(whole(view(tmp_path, tensors), NAME), (codes - np.arange(32) % 11).T * 0.25)


def broken() -> dict[str, dict[str, Array]]:
    tensors, _ = packed(128, 64, 32)
    return {
        "scales-too-few": {**tensors, f"{STEM}.scales": tensors[f"{STEM}.scales"][:, :32]},
        "zeros-too-few": {**tensors, f"{STEM}.qzeros": tensors[f"{STEM}.qzeros"][:2]},
        "zeros-missing": {name: array for name, array in tensors.items() if not name.endswith("qzeros")},
        "groups-do-not-divide": {
            **tensors,
            f"{STEM}.qzeros": np.zeros((3, 8), np.int32),
            f"{STEM}.scales": np.ones((3, 64), np.float16),
        },
        "no-groups": {**tensors, f"{STEM}.qzeros": np.zeros((0, 8), np.int32), f"{STEM}.scales": np.ones((0, 64), np.float16)},
        "halves": {**tensors, f"{STEM}.qweight": tensors[f"{STEM}.qweight"].view(np.int16)},
    }


@pytest.mark.parametrize("case", broken())
def test_nonsense_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match=r"do not explain|GEMV-fast") as caught:
        view(tmp_path, broken()[case])
    assert caught.value.advice
    assert "\n" not in str(caught.value)
