"""T4: a relation that every exact test is blind to, because units are permuted *and* the residual stream is rotated.

Token embeddings give the rotation (orthogonal Procrustes over shared tokens); then every unit is matched twice, by what it reads and
by what it writes. Two models of one origin agree on the partner; independent ones hardly ever do. The share of agreement has no exact
null (universal features match by themselves: independent models reach 0.02), so it accuses nobody and clears nobody: it only
withholds "unrelated".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.fingerprint.alignment import Alignment
from modelguard.fingerprint.blocks import Block
from modelguard.fingerprint.embeddings import embedding_pair, shared_rows
from modelguard.fingerprint.tiles import pieces, rows
from modelguard.fingerprint.weight_tests import directions

Matrix = NDArray[np.float32]

METHOD = "t4-procrustes-agreement-v2-n512"
VETO = 0.1  # independents of the published measurement reach 0.023, derivatives 0.9 and more
MOST_BLOCKS = 3
UNITS = 512
MAX_RANK = 1024  # directions in which the rotation is looked for; of a wider model, those that its first tokens span
MAX_FACTOR = 1 << 24  # entries of one of the rotation's two factors


@dataclass(frozen=True, slots=True)
class Turn:
    """The rotation `reads @ writes.T` of the residual stream as two factors (width, r) with orthonormal columns."""

    reads: Matrix
    writes: Matrix

    def of(self, things: Matrix) -> Matrix:
        """Rows (n, width) by direction, turned into the other model's frame."""
        return np.asarray(directions(things) @ self.reads @ self.writes.T)


def look(left: Checkpoint, right: Checkpoint, alignment: Alignment, blocks: Sequence[Block]) -> float | None:
    """T4 over some blocks; None where there are no token embeddings to find the rotation with, or no block shows both its sides."""
    names = embedding_pair(left, right, alignment)
    usable = [block for block in blocks if block.left_partner and block.right_partner]
    if names is None or not usable or left.tensors[names[0]].shape[1] != usable[0].width:
        return None
    turn = rotation(left, right, names)
    return max(_agreement(left, right, block, turn) for block in usable[:MOST_BLOCKS])


def rotation(left: Checkpoint, right: Checkpoint, names: tuple[str, str]) -> Turn:
    """The rotation that brings the left token embeddings closest to the right ones, by direction (orthogonal Procrustes).

    With E = Q R of either side's tokens, restricted to the span of these tokens where they are fewer than the width.
    """
    width = left.tensors[names[0]].shape[1]
    if width > MAX_RANK:
        return _rotation_in_span(left, right, names, min(MAX_RANK, MAX_FACTOR // width))
    product = np.zeros((width, width), dtype=np.float32)
    sides = (pieces(side, name, shared_rows(left, right, names)) for side, name in zip((left, right), names, strict=True))
    for (_, ours), (_, theirs) in zip(*sides, strict=True):
        product += directions(ours).T @ directions(theirs)
    u, _, vt = np.linalg.svd(product)
    return Turn(u, vt.T)


def _rotation_in_span(left: Checkpoint, right: Checkpoint, names: tuple[str, str], rank: int) -> Turn:
    tokens = shared_rows(left, right, names, rank)
    spans, cores = [], []
    for side, name in zip((left, right), names, strict=True):
        span, core = np.linalg.qr(directions(rows(side, name, 0, tokens)).T)  # (width, tokens), (tokens, tokens)
        spans.append(span)
        cores.append(core)
    u, _, vt = np.linalg.svd(cores[0] @ cores[1].T)
    return Turn(spans[0] @ (u @ vt), spans[1])


def _agreement(left: Checkpoint, right: Checkpoint, block: Block, turn: Turn) -> float:
    """The share of units whose partner by input and partner by output are the same."""
    count = min(UNITS, block.units)
    by_input = _nearest_rows(turn.of(rows(left, block.left, 0, count)), right, block)
    by_output = _nearest_columns(turn.of(_columns(left, block.left_partner, count)), right, block)
    return float(np.mean(by_input == by_output))


def _columns(checkpoint: Checkpoint, name: str, count: int) -> Matrix:
    """The first columns of a partner matrix (width, units) as rows (count, width)."""
    width = checkpoint.tensors[name].shape[0]
    columns = np.empty((count, width), dtype=np.float32)
    for axes, piece in pieces(checkpoint, name, width):
        columns[:, axes] = piece[:, :count].T
    return columns


def _nearest_rows(ours: Matrix, right: Checkpoint, block: Block) -> NDArray[np.intp]:
    """For every row of `ours` (n, width), the unit whose row has the largest |cosine|."""
    similarity = np.empty((len(ours), block.units), dtype=np.float32)
    for units, piece in pieces(right, block.right, block.units):
        similarity[:, units] = ours @ directions(piece).T
    return np.asarray(np.abs(similarity, out=similarity).argmax(axis=1))


def _nearest_columns(ours: Matrix, right: Checkpoint, block: Block) -> NDArray[np.intp]:
    """For every row of `ours` (n, width), the unit whose column in the partner matrix has the largest |cosine|."""
    similarity = np.zeros((len(ours), block.units), dtype=np.float32)
    squares = np.zeros(block.units, dtype=np.float32)
    for axes, piece in pieces(right, block.right_partner, block.width):
        finite = np.nan_to_num(piece[:, : block.units], nan=0.0, posinf=0.0, neginf=0.0)
        similarity += ours[:, axes] @ finite
        squares += np.einsum("ij,ij->j", finite, finite)
    similarity /= np.sqrt(np.where(squares > 0, squares, np.inf))
    return np.asarray(np.abs(similarity, out=similarity).argmax(axis=1))
