"""Layers of another width: units (or axes of the residual stream) that were dropped, as structured pruning does, or added.

No unit has a place of its own where the two sides have not equally many. What was cut out or picked keeps its order, though: the partners
of the smaller side's units grow along the larger side (matching.py has the bound). Where the order is lost too, T2 still speaks: cosines
between axes over all units change little with some of the units gone. Both nulls are those of T1 and T2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log10

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import FLOATING
from modelguard.correspondence.alignment import Alignment
from modelguard.correspondence.roles import located, paired_places
from modelguard.correspondence.tiles import pieces, rows
from modelguard.fingerprint import weight_tests as tests
from modelguard.fingerprint.blocks import Block, layer_of, unit_matrices, units_of
from modelguard.fingerprint.matching import growing, log10_growing_tail, log10_tail, nearest
from modelguard.types.weights import NullTest

ORDERED_UNITS = "t1-unit-order-v1-m128"
ORDERED_AXES = "t2-embedding-axis-order-v1-t4096"
TESTED_UNITS = 128
CANDIDATES = 1 << 24  # entries held of the larger side's units
TOKENS = 4096
TABLE_ENTRIES = 1 << 23  # held of a token table

Matrix = NDArray[np.float32]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Uneven:
    """The unit matrices of one layer on both sides, which differ in their number of units, their width or both."""

    layer: str
    left: str
    right: str
    units: tuple[int, int]
    widths: tuple[int, int]


def uneven_layers(left: Checkpoint, right: Checkpoint) -> tuple[Uneven, ...]:
    """Layers of equal number whose unit matrices differ in shape, in layer order."""
    ours, theirs = ({located(info.name)[0]: info for info in unit_matrices(side).values()} for side in (left, right))
    pairs = {other: place for place, other in paired_places(ours, theirs).items()}
    found = []
    for place, info in ours.items():
        other = theirs.get(pairs[place]) if place in pairs else None
        if other is not None and other.shape != info.shape:
            units, widths = (units_of(info), units_of(other)), (info.shape[1], other.shape[1])
            found.append(Uneven(layer_of(info.name), info.name, other.name, units, widths))
    return tuple(found)


def examine_widths(left: Checkpoint, right: Checkpoint, alignment: Alignment, layers: Sequence[Uneven]) -> tuple[NullTest, ...]:
    """The tests of every layer of another shape, uncorrected; the token table first where the residual stream differs in width."""
    if not layers:
        return ()
    if layers[0].widths[0] == layers[0].widths[1]:
        return tuple(result for layer in layers if layer.widths[0] == layer.widths[1] for result in _examine(left, right, layer, None))
    found = _axes(left, right)
    if found is None:
        return ()
    kept, result = found
    fitting = [layer for layer in layers if layer.widths == layers[0].widths and len(kept[0]) >= 2]
    return (result, *(item for layer in fitting for item in _examine(left, right, layer, kept)))


def _examine(left: Checkpoint, right: Checkpoint, layer: Uneven, kept: tuple[Places, Places] | None) -> Iterator[NullTest]:
    """The order of units; and T2, where the streams have one width."""
    ours, theirs = tested_and_candidates(left, right, layer)
    if kept is not None:
        few, many = kept if layer.units[0] <= layer.units[1] else kept[::-1]
        ours, theirs = ours[:, few], theirs[:, many]
    yield ordered(layer.layer, ours, theirs)
    if kept is None:
        yield axes_alike(left, right, layer)


def ordered(layer: str, few: Matrix, many: Matrix, choices: int = 1) -> NullTest:
    """Whether the partners of some units grow along the other side's units; `choices` is what the best of so many costs."""
    images = nearest(few, many)
    count = len(growing(images))
    tail = min(0.0, log10_growing_tail(count, len(few)) + log10(choices))
    note = f"the partners of {count} of {len(few)} units stand in the same order, about {round(2 * len(few) ** 0.5)} at most by chance"
    return NullTest(
        method=ORDERED_UNITS,
        block=layer,
        statistic=float(count),
        n=len(few),
        log10_p=tail,
        log10_p_adjusted=tail,
        null=tests.ASSUMPTION[tests.T1],
        note=note + (f"; the best of {choices}" if choices > 1 else ""),
    )


def tested_and_candidates(left: Checkpoint, right: Checkpoint, layer: Uneven) -> tuple[Matrix, Matrix]:
    """Some units of the side that has fewer, evenly spread, and the units of the other side, as many as may be held."""
    sides = [(left, layer.left, layer.units[0], layer.widths[0]), (right, layer.right, layer.units[1], layer.widths[1])]
    (few, few_name, count, _), (many, many_name, total, width) = sides if layer.units[0] <= layer.units[1] else sides[::-1]
    held = min(total, max(1, CANDIDATES // max(1, width)))
    places = sorted({int(place) for place in np.linspace(0, count - 1, TESTED_UNITS)}) if held == total else range(min(count, TESTED_UNITS))
    tested = np.concatenate([rows(few, few_name, place, place + 1) for place in places])
    return tested, rows(many, many_name, 0, held)


def axes_alike(left: Checkpoint, right: Checkpoint, layer: Uneven) -> NullTest:
    """T2 over all units of either side, however many they are."""
    sides = ((left, layer.left, layer.units[0]), (right, layer.right, layer.units[1]))
    profiles = [tests.axis_profiles(side, name, _block(layer, units)) for side, name, units in sides]
    fixed, count = tests.t2(*profiles)
    tail = log10_tail(fixed)
    return NullTest(
        method=tests.T2,
        block=layer.layer,
        statistic=float(fixed),
        n=count,
        log10_p=tail,
        log10_p_adjusted=tail,
        null=tests.ASSUMPTION[tests.T2],
        note=f"{fixed} of {count} at their own place, 1 expected by chance; {layer.units[0]} units against {layer.units[1]}",
    )


def _block(layer: Uneven, units: int) -> Block:
    return Block(layer=layer.layer, matched=layer_of(layer.right), left=layer.left, right=layer.right, units=units, width=layer.widths[0])


def _axes(left: Checkpoint, right: Checkpoint) -> tuple[tuple[Places, Places], NullTest] | None:
    """Which axes of the residual stream are which, by their values over the first tokens: (places on both sides), and the test of it."""
    names = _token_table(left), _token_table(right)
    if not all(names):
        return None
    widest = max(left.tensors[names[0]].shape[1], right.tensors[names[1]].shape[1])
    tokens = min(TOKENS, left.tensors[names[0]].shape[0], right.tensors[names[1]].shape[0], max(1, TABLE_ENTRIES // max(1, widest)))
    ours, theirs = (_transposed(side, name, tokens) for side, name in zip((left, right), names, strict=True))
    few, many = (ours, theirs) if len(ours) <= len(theirs) else (theirs, ours)
    images = nearest(few, many)
    run = growing(images)
    kept = (run, images[run]) if len(ours) <= len(theirs) else (images[run], run)
    tail = log10_growing_tail(len(run), len(few))
    result = NullTest(
        method=ORDERED_AXES,
        block=names[0],
        statistic=float(len(run)),
        n=len(few),
        log10_p=tail,
        log10_p_adjusted=tail,
        null=tests.ASSUMPTION[tests.T2],
        note=f"the partners of {len(run)} of {len(few)} axes stand in the same order, about {round(2 * len(few) ** 0.5)} at most by chance",
    )
    return kept, result


def _token_table(checkpoint: Checkpoint) -> str:
    """The matrix that holds one row a token, by its role; "" without one."""
    for name in sorted(checkpoint.tensors):
        place, role = located(name)
        info = checkpoint.tensors[name]
        if place.number < 0 and (role.module, role.kind) == ("tokens", "weight") and len(info.shape) == 2 and info.dtype in FLOATING:
            return name
    return ""


def _transposed(checkpoint: Checkpoint, name: str, tokens: int) -> Matrix:
    """The axes' values over the first tokens, (width, tokens)."""
    axes = np.empty((checkpoint.tensors[name].shape[1], tokens), dtype=np.float32)
    for stretch, piece in pieces(checkpoint, name, tokens):
        axes[:, stretch] = piece.T
    return axes
