"""Weights in pieces: cache-sized tiles for a scan, rows for a test. Never a whole model, seldom a whole tensor."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import itemsize, to_float32

TILE_BYTES = 1 << 18  # two tiles and their float32 copies stay in the second-level cache; four times as much halves the speed

PIECE_ENTRIES = 1 << 20  # what a test that walks over a matrix holds of it at a time


def rows(checkpoint: Checkpoint, name: str, start: int, stop: int) -> NDArray[np.float32]:
    """Rows [start, stop) of a tensor as float32 (stop - start, p), where p is the product of the other dimensions."""
    info = checkpoint.tensors[name]
    width = prod(info.shape[1:])
    size = itemsize(info.dtype)
    raw = np.empty((stop - start) * width * size, dtype=np.uint8)
    checkpoint.readinto(name, start * width * size, raw.data)
    return to_float32(raw, info.dtype).reshape(stop - start, -1)


def pieces(checkpoint: Checkpoint, name: str, count: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """The first `count` rows of a tensor in stretches of at most PIECE_ENTRIES entries: (which rows, (rows, p) float32)."""
    step = max(1, PIECE_ENTRIES // max(1, prod(checkpoint.tensors[name].shape[1:])))
    for start in range(0, count, step):
        stop = min(count, start + step)
        yield slice(start, stop), rows(checkpoint, name, start, stop)
