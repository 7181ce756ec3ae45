"""The units of two models in one frame: axes of the residual stream that shared tokens line up, blind to rotations of it.

A unit is a direction by what it reads and one by what it writes, so that rescaled units look the same; gains of norms are folded into
what reads behind them. Of a wide model the frame holds the axes that some of its tokens span: enough to tell units apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.correspondence.tiles import pieces, rows
from modelguard.fingerprint.blocks import ATTENTION, FUSED, PREFERENCE, layer_of, unit_matrices, units_of
from modelguard.fingerprint.embeddings import shared_rows
from modelguard.fingerprint.weight_tests import directions

Matrix = NDArray[np.float32]

MAX_RANK = 512  # axes in which units are compared
GAINS = ("pre_feedforward_layernorm", "post_attention_layernorm", "post_attention_norm", "ffn_norm", "mlp_norm", "ln_2", "norm2")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitLayer:
    """Where a layer's units read and write: (units, width) by rows, and the partner (width, units) by columns."""

    name: str
    by_rows: str
    by_columns: str
    gain: str  # the norm's gain that the rows read behind, "" where none is known
    units: int


def unit_layers(checkpoint: Checkpoint) -> list[UnitLayer]:
    """The layers whose units show both what they read and what they write."""
    found = []
    for name, info in unit_matrices(checkpoint).items():
        partner = _partner(checkpoint, info.name)
        if partner:
            gain = _gain(checkpoint, info.name)
            found.append(UnitLayer(name=name, by_rows=info.name, by_columns=partner, gain=gain, units=units_of(info)))
    return found


def _partner(checkpoint: Checkpoint, name: str) -> str:
    """The matrix (width, units) of the same layer."""
    info, layer = checkpoint.tensors[name], layer_of(name)
    wanted = (info.shape[1], units_of(info))
    fits = (other.name for other in checkpoint.tensors.values() if other.shape == wanted and other.name != name)
    return min((other for other in fits if layer_of(other) == layer and not ATTENTION.search(other)), default="")


def _gain(checkpoint: Checkpoint, name: str) -> str:
    """The gain of the norm that a matrix reads behind, if its name says that it reads at all."""
    width, layer = checkpoint.tensors[name].shape[1], layer_of(name)
    if not FUSED.search(name) and not any(part in name for part in PREFERENCE):
        return ""
    near = [f"{layer}.{gain}.weight" for gain in GAINS]
    return next((gain for gain in near if gain in checkpoint.tensors and checkpoint.tensors[gain].shape == (width,)), "")


def basis_of(checkpoint: Checkpoint, table: str) -> Matrix:
    """Orthonormal axes (width, r) in which units are compared: all of them, or those that evenly chosen tokens span."""
    count, width = checkpoint.tensors[table].shape
    if width <= MAX_RANK:
        return np.eye(width, dtype=np.float32)
    return np.asarray(np.linalg.qr(directions(rows(checkpoint, table, 0, min(count, MAX_RANK))).T)[0], dtype=np.float32)


def turn_of(left: Checkpoint, right: Checkpoint, tables: tuple[str, str], axes: Matrix) -> Matrix:
    """The axes of the left (width, r) in which its tokens lie closest to the right's tokens in the right's axes (Procrustes)."""
    product, count = np.zeros(axes.shape, dtype=np.float32), shared_rows(left, right, tables)
    for tokens, piece in pieces(left, tables[0], count):
        product += directions(piece).T @ (directions(rows(right, tables[1], tokens.start, tokens.stop)) @ axes)
    u, _, vt = np.linalg.svd(product, full_matrices=False)
    return np.asarray(u @ vt)


def seen(checkpoint: Checkpoint, layer: UnitLayer, count: int, axes: Matrix) -> tuple[Matrix, Matrix]:
    """The first units by what they read and by what they write, each (count, r) by direction."""
    return read_side(checkpoint, layer, count, axes), write_side(checkpoint, layer, count, axes)


def read_side(checkpoint: Checkpoint, layer: UnitLayer, count: int, axes: Matrix) -> Matrix:
    found = np.empty((count, axes.shape[1]), dtype=np.float32)
    gain = np.nan_to_num(rows(checkpoint, layer.gain, 0, len(axes)).reshape(-1), posinf=0.0, neginf=0.0) if layer.gain else np.float32(1)
    for units, piece in pieces(checkpoint, layer.by_rows, count):
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows counts as not finite, and as nothing
            folded = piece * gain
        found[units] = directions(folded) @ axes
    return found


def write_side(checkpoint: Checkpoint, layer: UnitLayer, count: int, axes: Matrix) -> Matrix:
    seen, squares = np.zeros((axes.shape[1], count), dtype=np.float32), np.zeros(count)
    for places, piece in pieces(checkpoint, layer.by_columns, len(axes)):
        finite = np.nan_to_num(piece[:, :count], nan=0.0, posinf=0.0, neginf=0.0)
        finite[np.abs(finite) > 1e15] = 0  # its square would overflow
        seen += axes[places].T @ finite
        squares += np.einsum("ij,ij->j", finite, finite, dtype=np.float64)
    length = np.sqrt(squares).astype(np.float32)
    return np.asarray(np.divide(seen, length, out=np.zeros_like(seen), where=length > 0).T)
