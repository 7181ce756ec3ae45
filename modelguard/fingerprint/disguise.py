"""T4: a relation that every exact test is blind to, because units are permuted *and* the residual stream is rotated.

Token embeddings give the rotation (orthogonal Procrustes over shared tokens, each by its direction). Then every unit is matched twice,
by what it reads and by what it writes. Two models of one origin agree on the partner; independent ones hardly ever do. Cosines do not
see rescaled units, and gains of norms are folded into what reads behind them, on both sides.

The share of agreement has no exact null (universal features match by themselves), so it is held against controls: models that are
known to be independent of the right one, each put in the left one's place. If left is independent too, the n + 1 shares are
exchangeable given the right, and p = (1 + #{controls whose share is as large}) / (n + 1) (conformal prediction, Vovk et al. 2005).
Shared initialisation agrees as well: `Agreement.aligned` brings the matched units into one frame, for initialisation.py to tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import log10

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.correspondence.alignment import Alignment, align
from modelguard.fingerprint.embeddings import embedding_pair
from modelguard.fingerprint.unit_frames import UnitLayer, basis_of, read_side, seen, turn_of, unit_layers
from modelguard.types.weights import NullTest

Matrix = NDArray[np.float32]
Aligned = tuple[tuple[str, str], Matrix, Matrix]

METHOD = "t4-procrustes-agreement-v3-n512-r512"
NULL = "left is exchangeable with the controls, given the right"
OTHER_LAYERS = "other layers of the same two models"
ENOUGH = 9  # controls below which other layers of the same two models are added to them
MARGIN = 0.2  # independents reach 0.03 in the published measurement and 0.004 on the zoo, its derivatives 0.25 and more
VETO = 0.1  # from here on a relation is not denied
MOST_LAYERS = 3
MOST_OTHERS = 7  # other layers that a layer is held against where there are no controls
UNITS = 512
SEARCH_UNITS = 128  # units of the left that look for their layer,
SEARCHED = 8  # among an eighth of the right's units,
SEARCH_LEAST = 512  # or this many;
SEARCH_BEST = 8  # the best of them tell, and must
SEARCH_CLEAR = 2.0  # stand out from the layers' median by this factor
TIE = 1e-4


@dataclass(frozen=True, slots=True)
class LayerShare:
    """The share of a left layer's units whose partner by input and partner by output in a right layer are the same, each once."""

    layer: str
    matched: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """T4 over some layers, and over the controls. `share` is what two layers reach, never a mean."""

    share: float
    layers: tuple[LayerShare, ...]
    controls: tuple[float, ...]
    source: str
    aligned: tuple[Aligned, ...] = field(default=(), repr=False, compare=False)  # matched units of both sides in one frame

    @property
    def log10_p(self) -> float | None:
        """log10 of the conformal p; None without controls: unknown, not 1."""
        at_least = sum(share >= self.share for share in self.controls)
        return log10((1 + at_least) / (1 + len(self.controls))) if self.controls else None

    @property
    def agrees(self) -> bool:
        """Whether the share is beyond the margin and beyond every control. Without controls this is a hint and no more."""
        return self.share >= MARGIN and all(share < self.share for share in self.controls)

    @property
    def evidence(self) -> NullTest:
        p, n = self.log10_p or 0.0, len(self.controls)
        reached = f", controls ({self.source}) reach {max(self.controls):.1%}" if n else ", no controls: p is unknown"
        note = ", ".join(f"{item.layer}~{item.matched}: {item.share:.1%}" for item in self.layers) + reached
        return NullTest(method=METHOD, block="", statistic=self.share, n=n, log10_p=p, log10_p_adjusted=p, null=NULL, note=note, share=True)


class _Right:
    """The right checkpoint's units in the axes of its own token table, read once for the left and for all controls."""

    def __init__(self, checkpoint: Checkpoint, table: str) -> None:
        self.checkpoint, self.table = checkpoint, table
        self.layers = unit_layers(checkpoint)
        self.basis = basis_of(checkpoint, table)
        self._units: dict[str, tuple[Matrix, Matrix]] = {}
        self._glimpses: dict[str, Matrix] = {}

    def units(self, layer: UnitLayer) -> tuple[Matrix, Matrix]:
        """All units by what they read and by what they write, (units, r) each."""
        if layer.name not in self._units:
            self._units[layer.name] = seen(self.checkpoint, layer, layer.units, self.basis)
        return self._units[layer.name]

    def glimpse(self, layer: UnitLayer) -> Matrix:
        """Some units by what they read, (m, r), by which a layer is recognised."""
        if layer.name not in self._glimpses:
            count = min(layer.units, max(SEARCH_LEAST, layer.units // SEARCHED))
            self._glimpses[layer.name] = read_side(self.checkpoint, layer, count, self.basis)
        return self._glimpses[layer.name]


def examine(
    left: Checkpoint, right: Checkpoint, alignment: Alignment, controls: Sequence[Checkpoint] = (), *, source: str = "policy"
) -> Agreement | None:
    """T4 of the left checkpoint and of every control against the right one.

    None where there are no token embeddings to find the rotation with, or no layer shows both sides of its units.
    """
    names = embedding_pair(left, right, alignment)
    if names is None:
        return None
    theirs = _Right(right, names[1])
    aligned: list[Aligned] = []
    found = _shares(left, names[0], theirs, aligned)
    if not found:
        return None
    others = [share for control in controls if (share := _control(control, theirs)) is not None]
    if len(others) < ENOUGH and _second(found) >= MARGIN:
        source = f"{len(others)} of {source}, and {OTHER_LAYERS}" if others else OTHER_LAYERS
        others += _other_layers(left, names[0], theirs, found)
    return Agreement(share=_second(found), layers=found, controls=tuple(others), source=source, aligned=tuple(aligned))


def _control(control: Checkpoint, right: _Right) -> float | None:
    """What a control reaches in the left's place; None where its shapes or its tokens do not pair up."""
    pair = embedding_pair(control, right.checkpoint, align(control, right.checkpoint, by_content=False))
    shares = _shares(control, pair[0], right, []) if pair and pair[1] == right.table else ()
    return _second(shares) if shares else None


def _other_layers(left: Checkpoint, table: str, right: _Right, found: Sequence[LayerShare]) -> list[float]:
    """The shares of the same left layers with layers of the right that they do not belong to.

    On the zoo these are distributed as the shares of independent models, and a little above where the two models are related
    (docs/weight-tests.md), so that they may stand in for controls.
    """
    turn = turn_of(left, right.checkpoint, (table, right.table), right.basis)
    ours, matched = {layer.name: layer for layer in unit_layers(left)}, {item.matched for item in found}
    shares = []
    for item in found:
        units = seen(left, ours[item.layer], min(UNITS, ours[item.layer].units), turn)
        others = [other for other in right.layers if other.units == ours[item.layer].units and other.name != item.matched]
        others.sort(key=lambda other: other.name not in matched)  # those that are in memory first
        shares += [len(_agreeing(units, right.units(other))) / len(units[0]) for other in others[:MOST_OTHERS]]
    return shares


def _second(shares: Sequence[LayerShare]) -> float:
    """The share that two layers reach; of a single layer, its own."""
    return sorted(item.share for item in shares)[-2:][0]


def _shares(left: Checkpoint, table: str, right: _Right, aligned: list[Aligned]) -> tuple[LayerShare, ...]:
    """T4 of first, middle and last layer, each against the layer of its name, and where that is silent against the likeliest other."""
    layers = unit_layers(left)
    own = {layer.name: layer for layer in right.layers}
    usable = [layer for layer in layers if any(layer.units == other.units for other in right.layers)]
    chosen = [usable[round(place)] for place in np.linspace(0, len(usable) - 1, min(len(usable), MOST_LAYERS))]
    turn = turn_of(left, right.checkpoint, (table, right.table), right.basis) if chosen else np.empty((0, 0), dtype=np.float32)
    found = []
    for layer in chosen:
        units = seen(left, layer, min(UNITS, layer.units), turn)
        tried = [other for other in _candidates(layer, own, layers, right.layers) if other.units == layer.units]
        results = [(_agreeing(units, right.units(other)), other) for other in tried]
        if all(len(pairs) < MARGIN * len(units[0]) for pairs, _ in results):
            likely = _likeliest(units[0][:SEARCH_UNITS], layer, right)
            results += [(_agreeing(units, right.units(other)), other) for other in likely if other not in tried]
        if results:
            pairs, other = max(results, key=lambda result: len(result[0]))
            found.append(LayerShare(layer.name, other.name, len(pairs) / len(units[0])))
            if len(pairs) >= MARGIN * len(units[0]):
                aligned += _aligned(layer, other, pairs, units, right.units(other))
    return tuple(found)


def _candidates(layer: UnitLayer, own: dict[str, UnitLayer], ours: Sequence[UnitLayer], theirs: Sequence[UnitLayer]) -> list[UnitLayer]:
    """The layer of the same name on the right; where the two sides are named otherwise, the layer of the same number."""
    if layer.name in own:
        return [own[layer.name]]
    return [theirs[ours.index(layer)]] if len(ours) == len(theirs) else []


def _likeliest(units: Matrix, layer: UnitLayer, right: _Right) -> list[UnitLayer]:
    """The layer of the right in which some units find much better partners than in the layers' middle, if there is one."""
    others = [other for other in right.layers if other.units == layer.units]
    scores = [_lead(units @ right.glimpse(other).T) for other in others]
    best = int(np.argmax(scores))
    return [others[best]] if scores[best] > SEARCH_CLEAR * np.median(scores) else []


def _lead(similarity: Matrix) -> float:
    """By how much the largest |entry| of the best few rows exceeds the second largest: common directions raise both."""
    top = np.partition(np.abs(similarity), -2, axis=1)[:, -2:]
    return float(np.sort(top[:, 1] - top[:, 0])[-SEARCH_BEST:].mean())


def _agreeing(ours: tuple[Matrix, Matrix], theirs: tuple[Matrix, Matrix]) -> NDArray[np.intp]:
    """The pairs (unit of the left, unit of the right) that are strictly nearest by input and by output, (k, 2), right units once."""
    by_input, by_output = (_nearest(mine @ other.T) for mine, other in zip(ours, theirs, strict=True))
    same = np.flatnonzero((by_input == by_output) & (by_input >= 0))
    _, first = np.unique(by_input[same], return_index=True)
    return np.stack([same[first], by_input[same[first]]], axis=1)


def _nearest(similarity: Matrix) -> NDArray[np.intp]:
    """For every row the column with the largest |entry|; -1 where none stands out."""
    size = np.abs(similarity)
    best = size.argmax(axis=1)
    top = np.take_along_axis(size, best[:, None], axis=1)[:, 0].copy()
    np.put_along_axis(size, best[:, None], -1.0, axis=1)
    return np.where(top > size.max(axis=1, initial=0.0) + TIE, best, -1)


def _aligned(
    layer: UnitLayer, other: UnitLayer, pairs: NDArray[np.intp], ours: tuple[Matrix, Matrix], theirs: tuple[Matrix, Matrix]
) -> Iterator[Aligned]:
    names = ((layer.by_rows, other.by_rows), (layer.by_columns, other.by_columns))
    for name, mine, its in zip(names, ours, theirs, strict=True):
        left, right = mine[pairs[:, 0]], its[pairs[:, 1]]
        yield name, left * np.where(np.einsum("ij,ij->i", left, right) < 0, np.float32(-1), np.float32(1))[:, None], right
