"""T4: a relation that every exact test is blind to, because units are permuted *and* the residual stream is rotated.

Token embeddings give the rotation (orthogonal Procrustes over shared tokens); then every unit is matched twice, by what it reads and
by what it writes. Two models of one origin agree on the partner; independent ones hardly ever do. The share of agreement has no exact
null (universal features match by themselves: independent models reach 0.02), so it accuses nobody and clears nobody: it only
withholds "unrelated".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.fingerprint.alignment import Alignment
from modelguard.fingerprint.blocks import Block
from modelguard.fingerprint.embeddings import embedding_pair, shared_rows
from modelguard.fingerprint.tiles import whole
from modelguard.fingerprint.weight_tests import all_units, directions

Matrix = NDArray[np.float32]

METHOD = "t4-procrustes-agreement-v1-n512"
VETO = 0.1  # independents of the published measurement reach 0.023, derivatives 0.9 and more
MOST_BLOCKS = 3
UNITS = 512
MAX_WIDTH = 4096  # the singular value decomposition of a wider matrix takes minutes


def look(left: Checkpoint, right: Checkpoint, alignment: Alignment, blocks: Sequence[Block]) -> float | None:
    """T4 over some blocks; None where there are no token embeddings to find the rotation with, or they are too wide."""
    names = embedding_pair(left, alignment)
    if names is None or not blocks or left.tensors[names[0]].shape[1] != blocks[0].width or blocks[0].width > MAX_WIDTH:
        return None
    return agreement(left, right, blocks[:MOST_BLOCKS], rotation(*shared_rows(left, right, names)))


def rotation(ours: Matrix, theirs: Matrix) -> Matrix:
    """The orthogonal R (width, width) that brings `ours` closest to `theirs`, rows of (tokens, width), by direction."""
    u, _, vt = np.linalg.svd(directions(ours).T @ directions(theirs))
    return np.asarray(u @ vt, dtype=np.float32)


def agreement(left: Checkpoint, right: Checkpoint, blocks: Sequence[Block], turn: Matrix) -> float:
    """The largest share, over blocks, of units whose partner by input and partner by output are the same."""
    shares = [_agreement(left, right, block, turn) for block in blocks if block.left_partner and block.right_partner]
    return max(shares, default=0.0)


def _agreement(left: Checkpoint, right: Checkpoint, block: Block, turn: Matrix) -> float:
    count = min(UNITS, block.units)
    reads = (all_units(left, block.left, block)[:count] @ turn, all_units(right, block.right, block))
    writes = (_columns(left, block.left_partner)[:count] @ turn, _columns(right, block.right_partner))
    by_input, by_output = (_nearest(ours, theirs[: block.units]) for ours, theirs in (reads, writes))
    return float(np.mean(by_input == by_output))


def _columns(checkpoint: Checkpoint, name: str) -> Matrix:
    """The columns of a partner matrix (width, units) as rows (units, width)."""
    return np.ascontiguousarray(whole(checkpoint, name).T)


def _nearest(ours: Matrix, theirs: Matrix) -> NDArray[np.intp]:
    """For every row of `ours` (n, d), the row of `theirs` (m, d) with the largest |cosine|."""
    return np.asarray(np.abs(directions(ours) @ directions(theirs).T).argmax(axis=1))
