"""A packed quantised model is compared by what it stands for: related to its own parent, and to no other model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.opening import open_checkpoint
from modelguard.fingerprint.compare import compare
from modelguard.types.weights import Relation
from tests.checkpoints.packing import Array, stream, view
from tests.checkpoints.test_awq import ordered
from tests.fingerprint.zoo import model
from tests.weights import encode, write

GROUP = 64
Packer = Callable[[str, Array], Mapping[str, Array]]


def grid(weight: Array) -> tuple[Array, Array]:
    """Symmetric 4-bit codes (outputs, inputs) around 8 and their scales (outputs, groups), rounded to nearest."""
    grouped = weight.reshape(len(weight), -1, GROUP)
    scales = (np.abs(grouped).max(axis=2) / 7).astype(np.float16)
    codes = np.clip(np.round(grouped / scales[:, :, None].astype(np.float32)) + 8, 0, 15).astype(np.int64)
    return codes.reshape(weight.shape), scales


def gptq(stem: str, weight: Array) -> Mapping[str, Array]:
    codes, scales = grid(weight)
    zeros = stream(np.full(scales.T.shape, 7), 4)
    return {f"{stem}.qweight": np.ascontiguousarray(stream(codes, 4).T), f"{stem}.qzeros": zeros, f"{stem}.scales": scales.T}


def awq(stem: str, weight: Array) -> Mapping[str, Array]:
    codes, scales = grid(weight)
    return {f"{stem}.qweight": ordered(codes.T), f"{stem}.qzeros": ordered(np.full(scales.T.shape, 8)), f"{stem}.scales": scales.T}


def compressed(stem: str, weight: Array) -> Mapping[str, Array]:
    codes, scales = grid(weight)
    shape = np.array(weight.shape)
    return {f"{stem}.weight_packed": stream(codes, 4), f"{stem}.weight_scale": scales, f"{stem}.weight_shape": shape}


def bitsandbytes(stem: str, weight: Array) -> Mapping[str, Array]:
    table = np.linspace(-1, 1, 16).astype(np.float32)
    blocks = weight.reshape(-1, GROUP)
    scales = np.abs(blocks).max(axis=1).astype(np.float32)
    codes = np.round((blocks / scales[:, None] + 1) * 7.5).astype(np.uint8).reshape(-1)
    told = json.dumps({"quant_type": "nf4", "blocksize": GROUP, "shape": list(weight.shape)}).encode()
    name = f"{stem}.weight"
    packed = {name: (codes[::2] << 4 | codes[1::2])[:, None], f"{name}.absmax": scales, f"{name}.quant_map": table}
    return {**packed, f"{name}.quant_state.bitsandbytes__nf4": np.frombuffer(told, dtype=np.uint8)}


def fp8(stem: str, weight: Array) -> Mapping[str, Array]:
    scale = np.abs(weight).max(axis=1, keepdims=True) / 448
    return {f"{stem}.weight": (weight / scale).astype(ml_dtypes.float8_e4m3fn), f"{stem}.weight_scale": scale.astype(np.float32)}


def packed(path: Path, tensors: Mapping[str, Array], packer: Packer) -> Checkpoint:
    """The model with every matrix of its layers packed."""
    made: dict[str, Array] = {}
    for name, weight in tensors.items():
        inside = ".layers." in name and weight.ndim == 2
        made |= packer(name.removesuffix(".weight"), weight) if inside else {name: weight}
    return view(path / "packed", made)


def plain(path: Path, tensors: Mapping[str, Array]) -> Checkpoint:
    write(path / "plain", {"model.safetensors": encode(tensors)})
    return open_checkpoint(LocalFolder(path / "plain", ref="plain"), "model.safetensors")


@pytest.mark.parametrize("packer", [gptq, awq, compressed, bitsandbytes, fp8])
def test_a_packed_model_comes_from_its_parent_and_from_no_other(packer: Packer, tmp_path: Path) -> None:
    parent = model(0)
    left = packed(tmp_path, parent, packer)
    right = plain(tmp_path, parent)
    assert left.tensors.keys() == right.tensors.keys()
    assert left.format == "packed safetensors"
    found = compare(left, right)
    assert found.relation is Relation.DERIVED
    assert found.share_explained > 0.5
    assert found.difference is not None
    assert all(0.99 < item.cosine <= 1.001 for item in found.difference.largest)
    stranger = compare(left, plain(tmp_path, model(1)))
    assert stranger.relation in (Relation.UNRELATED, Relation.INCONCLUSIVE)
    assert stranger.log10_p > -9
