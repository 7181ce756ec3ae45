"""What a network did on the probes, reduced layer by layer to arrays that fit into memory whatever the network's size.

Kept in half precision, of evenly spread axes, units and entries: 32 layers of a 7B network take about 100 MB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_AXES = 1024  # evenly spaced axes of a wider residual stream: 1/1024! is small enough
MOST_UNITS = 512  # and of an MLP's units
MOST_ENTRIES = 8192  # and entries of a head's patterns

Array = NDArray[np.floating]
Half = NDArray[np.float16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a network did on the probes.

    `states` (layers, tokens, axes): hidden states behind each layer, without their mean over tokens, each token scaled to length 1
    so that the few tokens with huge states do not speak for all. `patterns` (layers, heads, entries): attention of each head in
    every text, without the head's mean over texts, which is what it does by position alone. `units` (layers, tokens, units): what
    goes into the last matrix of each MLP, treated like the states; no units where there is no one MLP a layer. `groups`: how many
    groups of heads share keys and values (as many as heads where none do). Only where it was asked for: `statistics` (layers, heads,
    measures), see `heads`; and `last` (tokens, width), the hidden states behind the last norm, of decoders that were run to their end.
    """

    states: Array
    patterns: Array
    units: Array
    groups: int
    statistics: Array | None = None
    last: NDArray[np.float32] | None = None

    @property
    def finite(self) -> bool:
        arrays = (self.states, self.patterns, self.units, self.statistics, self.last)
        return all(bool(np.isfinite(array).all()) for array in arrays if array is not None)


def states(hidden: NDArray[np.float32], most: int = MOST_AXES) -> Half:
    """Hidden states (texts, tokens, width) as (texts * tokens, axes), centred over tokens, each token of length 1."""
    every = hidden.reshape(-1, hidden.shape[-1])
    axes = np.linspace(0, every.shape[1] - 1, min(every.shape[1], most)).astype(int)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is said once, of the whole trace
        centred = every[:, axes] - every[:, axes].mean(axis=0)
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        return np.asarray(centred / np.where(length > 0, length, 1), dtype=np.float16)


def content(attention: NDArray[np.float32]) -> Half:
    """Attention (texts, heads, from, to) as (heads, entries), without each head's mean over texts."""
    texts, heads, _, tokens = attention.shape
    entries = spread(texts * attention.shape[2] * tokens)
    with np.errstate(over="ignore", invalid="ignore"):
        centred = (attention - attention.mean(axis=0)).swapaxes(0, 1).reshape(heads, -1)
    return np.asarray(centred[:, entries], dtype=np.float16)


def spread(count: int) -> NDArray[np.int64]:
    """At most MOST_ENTRIES of `count` places, scattered so that no row or column of a pattern is preferred, in order."""
    if count <= MOST_ENTRIES:
        return np.arange(count)
    scattered = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing, Knuth 6.4
    return np.sort(np.argsort(scattered, kind="stable")[:MOST_ENTRIES])
