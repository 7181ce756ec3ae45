"""In which order the lines of a fused matrix stand: stacked part by part, or interleaved by heads. Arithmetic on places, no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.intp]
MOST_HEAD = 512


@dataclass(frozen=True, slots=True)
class Order:
    """A way to fuse: line i of the parts, one after the other, stands at `places[i]` of the fused matrix."""

    text: str
    places: Places


def fusings(sizes: Sequence[int]) -> tuple[Order, ...]:
    """Ways to fuse parts of so many lines: stacked as named first, then interleaved, then stacked in another order.

    Three parts are queries, keys and values: interleaved, every group of heads holds its queries, its key head and its value head
    (GPT-NeoX, BLOOM, Falcon, Megatron). Two parts are gate and up: interleaved, their lines alternate.
    """
    whole = np.arange(sum(sizes), dtype=np.intp)
    orders = [Order("stacked", whole)]
    orders += [
        Order(f"interleaved by heads of {head}" if head > 1 else "line by line in turn", _interleaved(sizes, head))
        for head in _heads(sizes)
    ]
    if len(sizes) == 2:
        orders += [Order("stacked in reverse", _stacked(sizes, order)) for order in permutations(range(2)) if order != (0, 1)]
    return tuple(orders)


def rotary(lines: int) -> tuple[Order, ...]:
    """Ways in which the halves of a rotary head are stored otherwise: pairs side by side (GGUF, Meta), or taken apart again."""
    orders = []
    for head in _divisors(lines):
        if head % 2 == 0 and head >= 4:
            pairs = np.arange(lines, dtype=np.intp).reshape(-1, 2, head // 2).swapaxes(1, 2).reshape(-1)
            orders += [Order(f"rotary pairs side by side in heads of {head}", np.argsort(pairs))]
            orders += [Order(f"rotary pairs apart in heads of {head}", pairs)] if head > 4 else []
    return tuple(orders)


def inverse(places: Places) -> Places:
    """Which line of the stacked parts stands at each line of the fused matrix."""
    return np.argsort(places)


def _stacked(sizes: Sequence[int], order: Sequence[int]) -> Places:
    starts, offset = {}, 0
    for part in order:
        starts[part] = offset
        offset += sizes[part]
    return np.concatenate([np.arange(size, dtype=np.intp) + starts[part] for part, size in enumerate(sizes)])


def _interleaved(sizes: Sequence[int], head: int) -> Places:
    groups = min(sizes) // head
    blocks = [np.arange(size, dtype=np.intp).reshape(groups, size // groups) for size in sizes]
    stride, offset, places = sum(sizes) // groups, 0, []
    for block in blocks:
        places.append((np.arange(groups)[:, None] * stride + offset + np.arange(block.shape[1])).reshape(-1))
        offset += block.shape[1]
    return np.concatenate(places)


def _heads(sizes: Sequence[int]) -> tuple[int, ...]:
    """Sizes of heads by which these parts can be interleaved; as large as a whole part is stacked."""
    least = min(sizes, default=0)
    if len(sizes) == 2:
        return (1,) if sizes[0] == sizes[1] and least > 1 else ()
    if least == 0 or any(size % least for size in sizes):
        return ()
    return tuple(head for head in _divisors(least) if head < least)


def _divisors(number: int) -> tuple[int, ...]:
    return tuple(size for size in range(1, min(number, MOST_HEAD) + 1) if number % size == 0)
