"""Layers that stand at another number than in the parent: dropped, inserted, repeated or reordered ones.

A layer that is silent against the layer of its own number is held against every other layer of the right checkpoint, with the two
tests that need no more than a stretch of units. The choice among so many is paid for: the p-value of the best is multiplied by the
number of pairs here, and by the number of candidates wherever it is reported. Layers that have no counterpart of their own number (the left
side has more) are looked for in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log10

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.correspondence.tiles import rows
from modelguard.fingerprint.blocks import Block, layer_of, unit_matrices, units_of
from modelguard.fingerprint.matching import fixed_points, log10_tail
from modelguard.fingerprint.weight_tests import directions, window

Matrix = NDArray[np.float32]

MAX_LAYERS = 256
TESTED = 64
ANCHORS = 512  # as few as show an undiluted relation: a layer that was only moved is not diluted
COLUMNS = 1024


@dataclass(frozen=True, slots=True)
class _Units:
    """A layer's units by their weights (tested, columns), and by their cosines with other units (tested, anchors)."""

    weights: Matrix
    profiles: Matrix


def find_moved(left: Checkpoint, right: Checkpoint, silent: Sequence[Block], alpha: float) -> Mapping[str, Block]:
    """The silent blocks that belong to another layer of the right checkpoint, by their own layer, re-paired with it."""
    others = [info for info in unit_matrices(right).values() if silent and info.shape == left.tensors[silent[0].left].shape]
    if not others or (len(others) < 2 and silent[0].right) or len(others) > MAX_LAYERS or len(silent) > MAX_LAYERS:
        return {}
    candidates = {info.name: _units(right, info.name, silent[0]) for info in others}
    threshold = log10(alpha) - log10(2 * len(candidates) * len(silent))
    moved = {}
    for block in silent:
        ours = _units(left, block.left, block)
        scores = {name: _log10_p(ours, theirs) for name, theirs in candidates.items()}
        best = min(scores, key=lambda name: (scores[name], name))
        if scores[best] <= threshold and best != block.right:
            moved[block.layer] = replace(block, right=best, matched=layer_of(best), right_partner="", candidates=len(candidates))
    return moved


def find_added(left: Checkpoint, right: Checkpoint, blocks: Sequence[Block], alpha: float) -> Mapping[str, Block]:
    """The layers of the left checkpoint that no block has, by name, each paired with the layer of the right one that it repeats."""
    paired = {block.layer for block in blocks}
    shapes = {left.tensors[block.left].shape for block in blocks}
    alone = [info for layer, info in unit_matrices(left).items() if layer not in paired and (not shapes or info.shape in shapes)]
    unpaired = [
        Block(layer=layer_of(info.name), matched="", left=info.name, right="", units=units_of(info), width=info.shape[1])
        for info in alone
        if info.shape == alone[0].shape
    ]
    return find_moved(left, right, unpaired, alpha)


def _units(checkpoint: Checkpoint, name: str, block: Block) -> _Units:
    start, stop = window(block)
    units = rows(checkpoint, name, start, min(stop, start + TESTED + ANCHORS))
    tested = min(TESTED, len(units) // 2)
    unit = directions(units)
    return _Units(units[:tested, :COLUMNS].copy(), np.asarray(unit[:tested] @ unit[tested:].T))


def _log10_p(ours: _Units, theirs: _Units) -> float:
    """The smaller of the two tests' log10 p."""
    pairs = ((ours.weights, theirs.weights), (ours.profiles, theirs.profiles))
    return min(log10_tail(fixed_points(left, right)) for left, right in pairs)
