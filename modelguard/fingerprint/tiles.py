"""Weights in pieces: cache-sized tiles for a scan, rows for a test. Never a whole model, seldom a whole tensor."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import itemsize, to_float32

TILE_BYTES = 1 << 19  # two tiles and their float32 copies stay in the second-level cache; twice as much halves the speed


def rows(checkpoint: Checkpoint, name: str, start: int, stop: int) -> NDArray[np.float32]:
    """Rows [start, stop) of a tensor as float32 (stop - start, p), where p is the product of the other dimensions."""
    info = checkpoint.tensors[name]
    width = prod(info.shape[1:])
    size = itemsize(info.dtype)
    raw = np.empty((stop - start) * width * size, dtype=np.uint8)
    checkpoint.readinto(name, start * width * size, raw.data)
    return to_float32(raw, info.dtype).reshape(stop - start, -1)


def whole(checkpoint: Checkpoint, name: str) -> NDArray[np.float32]:
    """A tensor as float32 (n, p), one-dimensional tensors as (n, 1). For tensors that a test needs entirely."""
    return rows(checkpoint, name, 0, checkpoint.tensors[name].shape[0])
