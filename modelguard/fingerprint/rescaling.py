"""Exact rescalings: factors that one tensor takes on and the next one undoes, which leaves the function alone.

Three places allow it in a gated transformer with RMS norms: a norm's gains against the columns of what reads behind it, the rows of `up`
against the columns of `down`, and the rows of `v` against the columns of `o`. A part of a layer is explained as a whole or not at all:
every entry of every changed tensor of it must be the other side's times the factors, up to the rounding of the storage types, and entries
whose factor is 1 must be equal (where most factors are not 1, one near it may be what rounding left of it). A factor without its inverse
is another function and stays `changed`, and so does a factor before an activation: rows of `up` need a gate beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import FLOATING, PRECISION
from modelguard.correspondence.roles import Place, Role, by_role
from modelguard.correspondence.tiles import pieces, rows
from modelguard.types.weights import TensorDifference

ROUNDINGS = 2.0  # half units in the last place by which a product may be off: its own rounding, and that of its fitted factor
GAIN_ROUNDINGS = 5.0  # where the factor is a quotient of two gains that were rounded too
NEAR_ONE = 16.0  # half units in the last place within which a factor is 1
MANY = 0.5  # share of factors near 1 from which those are taken for 1, and ask for equality: training may stay within rounding
SMALLEST = {"F16": 2.0**-24, "F8_E4M3": 2.0**-9, "F8_E5M2": 2.0**-16}  # steps between the smallest numbers of a type
MAX_LENGTH = 1 << 20
Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A part of a layer: a norm, matrices that only read behind it, and one whose rows may be rescaled if the last one undoes it."""

    norm: str
    readers: tuple[str, ...] = ()
    writer: str = ""
    undoes: str = ""


PARTS = (
    _Part(norm="norm before attention", readers=("q", "k", "qkv"), writer="v", undoes="o"),
    _Part(norm="norm before units", readers=("gate", "gate_up"), writer="up", undoes="down"),
    _Part(norm="last norm", readers=("head",)),
)


@dataclass(frozen=True, slots=True)
class _Sides:
    left: Checkpoint
    right: Checkpoint
    items: Mapping[str, TensorDifference]

    def half_unit(self, item: TensorDifference) -> float:
        """Half a unit in the last place of the narrower type, relative."""
        kinds = self.left.tensors[item.name].dtype, self.right.tensors[item.matched].dtype
        return float(2.0 ** -min(PRECISION.get(kind, 1) for kind in kinds))

    def smallest(self, item: TensorDifference) -> float:
        kinds = self.left.tensors[item.name].dtype, self.right.tensors[item.matched].dtype
        return max(SMALLEST.get(kind, 1e-37) for kind in kinds)


def explain_rescaled(left: Checkpoint, right: Checkpoint, differences: Sequence[TensorDifference]) -> tuple[TensorDifference, ...]:
    """The differences, with `rescaled` where the factors of a part of a layer undo one another exactly."""
    sides = _Sides(left, right, {item.name: item for item in differences})
    found: set[str] = set()
    for place, roles in sorted(by_role(sides.items).items()):
        found |= {name for part in PARTS for name in _explained(sides, place, roles, part)}
    return tuple(replace(item, explanation="rescaled") if item.name in found else item for item in differences)


def _explained(sides: _Sides, place: Place, roles: Mapping[Role, str], part: _Part) -> set[str]:
    """The changed tensors of one part if its factors explain them all."""
    items = {module: sides.items[name] for module in _modules(part) if (name := roles.get(Role(module, "weight"), ""))}
    if ("up" in items and "gate" not in items) or any("pre_feedforward" in name for name in roles.values()):
        return set()
    biased = any(roles.get(Role(module, "bias")) for module in (part.norm, part.writer) if module)
    changed = {item.name for item in items.values() if item.explanation == "changed"}
    if not changed or biased or part.norm not in items or not all(_usable(item) for item in items.values()):
        return set()
    gains = _gains(sides, items[part.norm])
    if gains is None or (part.norm == "last norm" and "head" not in items):
        return set()
    tolerance = ROUNDINGS if np.array_equal(gains, np.ones_like(gains)) else GAIN_ROUNDINGS
    readers = [items[module] for module in part.readers if module in items]
    if not all(_follows(sides, item, np.ones(item.shape[0]), gains, tolerance) for item in readers):
        return set()
    return changed if _undone(sides, items, part, gains, tolerance) else set()


def _modules(part: _Part) -> tuple[str, ...]:
    return tuple(module for module in (part.norm, *part.readers, part.writer, part.undoes) if module)


def _usable(item: TensorDifference) -> bool:
    return item.dtype in FLOATING and len(item.shape) in (1, 2) and not item.nonfinite and 0 < max(item.shape) <= MAX_LENGTH


def _gains(sides: _Sides, item: TensorDifference) -> Vector | None:
    """What the columns behind a norm must be multiplied by to undo what happened to its gains."""
    if len(item.shape) != 1:
        return None
    ours, theirs = (_vector(side, name) for side, name in ((sides.left, item.name), (sides.right, item.matched)))
    same = ours == theirs
    if ((ours == 0) | (theirs == 0))[~same].any():
        return None
    return np.divide(theirs, ours, out=np.ones_like(ours), where=~same)


def _vector(checkpoint: Checkpoint, name: str) -> Vector:
    return rows(checkpoint, name, 0, checkpoint.tensors[name].shape[0])[:, 0].astype(np.float64)


def _undone(sides: _Sides, items: Mapping[str, TensorDifference], part: _Part, gains: Vector, tolerance: float) -> bool:
    """Whether the rows of the writer have factors that the columns of what reads from it undo."""
    if part.writer not in items or part.undoes not in items:
        return part.writer not in items and all(items[module].explanation != "changed" for module in (part.undoes,) if module in items)
    writer, reader = items[part.writer], items[part.undoes]
    if len(writer.shape) != 2 or len(reader.shape) != 2:
        return False
    factors = _factors(sides, writer, gains)
    if factors is None or not _follows(sides, writer, factors, gains, tolerance):
        return False
    if len(factors) != reader.shape[1]:  # fewer value heads than query heads: nothing that may be undone
        return bool((factors == 1).all()) and reader.explanation != "changed"
    return _follows(sides, reader, np.ones(reader.shape[0]), 1 / factors, tolerance)


def _factors(sides: _Sides, item: TensorDifference, gains: Vector) -> Vector | None:
    """The factor of every row by least squares; 1 where it is 1 but for rounding. None where a row vanished or the shapes do not fit."""
    if item.shape[1] != len(gains):
        return None
    factors = np.ones(item.shape[0])
    for stretch, ours in pieces(sides.left, item.name, item.shape[0]):
        theirs = rows(sides.right, item.matched, stretch.start, stretch.stop) * gains
        size = np.einsum("ij,ij->i", theirs, theirs)
        product = np.einsum("ij,ij->i", ours.astype(np.float64), theirs)
        np.divide(product, size, out=factors[stretch], where=size > 0)
    near = np.abs(factors - 1) <= NEAR_ONE * sides.half_unit(item)
    factors[near & (near.mean() > MANY)] = 1.0
    return factors if np.isfinite(factors).all() and (factors != 0).all() else None


def _follows(sides: _Sides, item: TensorDifference, factors: Vector, columns: Vector, tolerance: float) -> bool:
    """Whether every entry is the other side's times the factors of its row and of its column, but for rounding."""
    if len(item.shape) != 2 or item.shape[1] != len(columns):
        return False
    unit, smallest = sides.half_unit(item), sides.smallest(item)
    for stretch, ours in pieces(sides.left, item.name, item.shape[0]):
        theirs = rows(sides.right, item.matched, stretch.start, stretch.stop).astype(np.float64)
        scale = factors[stretch, None] * columns
        wanted = theirs * scale
        near = np.abs(scale - 1) <= NEAR_ONE * unit
        near &= near.mean() > MANY
        if (near & (ours != theirs)).any() or (~near & (np.abs(ours - wanted) > tolerance * unit * np.abs(wanted) + smallest)).any():
            return False
    return True
