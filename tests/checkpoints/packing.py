"""Packed checkpoints for tests: codes put into words by Python's own integers, and views read whole or in pieces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.opening import open_checkpoint
from tests.weights import Arrays, encode, write

Array = NDArray[Any]


def view(path: Path, arrays: Arrays, config: Mapping[str, Any] | None = None) -> Checkpoint:
    """What the door makes of these tensors, with this quantization_config beside them."""
    files = {"model.safetensors": encode(arrays)}
    if config is not None:
        files["config.json"] = json.dumps({"quantization_config": config}).encode()
    return open_checkpoint(LocalFolder(write(path, files), ref="here"), "model.safetensors")


def whole(checkpoint: Checkpoint, name: str) -> NDArray[np.float32]:
    """A float32 tensor, read at once."""
    info = checkpoint.tensors[name]
    assert info.dtype == "F32"
    assert info.nbytes == 4 * info.entries
    buffer = bytearray(info.nbytes)
    checkpoint.readinto(name, 0, memoryview(buffer))
    return np.frombuffer(buffer, dtype=np.float32).reshape(info.shape)


def piecewise(checkpoint: Checkpoint, name: str, sizes: tuple[int, ...] = (1, 7, 4096, 65_537)) -> NDArray[np.float32]:
    """The same, in pieces whose borders keep to no entry, no row and no block."""
    info = checkpoint.tensors[name]
    buffer, place, turn = bytearray(info.nbytes), 0, 0
    while place < info.nbytes:
        stop = min(info.nbytes, place + sizes[turn % len(sizes)])
        checkpoint.readinto(name, place, memoryview(buffer)[place:stop])
        place, turn = stop, turn + 1
    return np.frombuffer(buffer, dtype=np.float32).reshape(info.shape)


def stream(codes: Array, bits: int) -> Array:
    """Codes (n, k) as a stream of bits in 32-bit words, (n, ceil(k bits / 32)): code i of a row at bit i · bits of one long number."""
    words = -(-codes.shape[1] * bits // 32)
    numbers = [sum(int(code) << (bits * place) for place, code in enumerate(row)) for row in codes]
    return np.stack([np.frombuffer(number.to_bytes(4 * words, "little"), dtype=np.int32) for number in numbers])
