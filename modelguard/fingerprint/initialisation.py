"""Whether a checkpoint was made from a trained model, or only grew from the same random initialisation.

Two models of one initialisation keep their units and axes in order, so the exact tests refute independence for them as they do for
parent and child. What tells the two apart is what training made. In a trained matrix R = W + B the initialisation W is noise whose
singular values end at a known edge (Marchenko and Pastur); what training made, B, stands above that edge as a few strong
directions. A left matrix L is regressed on both parts of R on their own:

    top  = <L, R_top> / |R_top|^2        bulk = <L, R_bulk> / |R_bulk|^2

A child, a rounding, a pruned copy or a merge holds the same share of both. A sibling of the same initialisation holds the bulk,
but the strong directions only as far as they are noise. That part, 1 - f, is known from how far each singular value lies above the edge
(the spiked model of random matrices, Benaych-Georges and Nadakuditi 2012), and is taken out:

    kept = (top / bulk - (1 - f)) / f     1 when the left holds what training made in the right, near 0 when it does not

There is no null and no p-value here: `kept` is an estimate, its interval is over matrices, and its thresholds are calibrated on
models that were trained for it (docs/weight-tests.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import comb

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import FLOATING
from modelguard.correspondence.alignment import Alignment
from modelguard.correspondence.tiles import rows
from modelguard.fingerprint.blocks import Block, layer_of
from modelguard.types.weights import NullTest, Relation

Matrix = NDArray[np.floating]

METHOD = "training-kept-v1-r512"
NULL = "none: an estimate with calibrated thresholds"
DERIVED_FROM = 0.75  # a lower end of the interval from which one side holds the other's training
SHARED_TO = 0.5  # a median up to which it does not
MOST_ROWS = 512
MOST_ENTRIES = 1 << 23
MOST_MATRICES = 24
NEAR_ROWS = 64
LEAST_SIDE = 48  # of a matrix: fewer directions show no edge
LEAST_MATRICES = 4
LEAST_PRODUCT = 0.25  # of the energy above the edge: where training made less, a matrix does not speak
CLEAR = 1.1  # singular values count as made by training from this multiple of the edge
CERTAIN = 8.0  # standard deviations of chance that the bulk's share must exceed


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What the left matrix holds of the right one: `bulk` of its noise, and `kept` of what training made, relative to that.

    `product` is the share of the strong directions' energy that training made; where it is small, `kept` is uncertain.
    """

    tensor: str
    matched: str
    product: float
    bulk: float
    kept: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How much one side holds of what training made in the other: the median over `n` matrices with its 99 % interval."""

    middle: float
    low: float
    high: float
    n: int
    retentions: tuple[Retention, ...]

    @property
    def speaks(self) -> bool:
        return self.n >= LEAST_MATRICES

    @property
    def text(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f} to {self.high:.2f}, {self.n} matrices)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the agreement of two related checkpoints comes from: derived, shared-initialisation or inconclusive.

    `forward` says what the left holds of the right's training, `backward` what the right holds of the left's.
    """

    relation: Relation
    forward: Kept
    backward: Kept
    note: str

    @property
    def evidence(self) -> NullTest:
        """The estimate in the shape of the other evidence; its p-values are 1, as it tests no null hypothesis."""
        best = max(self.forward, self.backward, key=lambda kept: kept.low)
        return NullTest(
            method=METHOD,
            block="",
            statistic=best.middle,
            n=best.n,
            log10_p=0.0,
            log10_p_adjusted=0.0,
            null=NULL,
            note=self.note,
            share=True,
        )


def origin(left: Checkpoint, right: Checkpoint, alignment: Alignment, blocks: Sequence[Block]) -> Origin:
    """Judges two checkpoints whose exact tests refute independence, from the layers of `blocks` (those that fired) in plain sight."""
    pairs = _pairs(left, right, alignment, {block.layer: block.matched for block in blocks})
    chosen = [pairs[round(step)] for step in np.linspace(0, len(pairs) - 1, min(len(pairs), MOST_MATRICES))]
    return judged((names, *_stretches(left, right, *names)) for names in chosen)


def judged(matrices: Iterable[tuple[tuple[str, str], Matrix, Matrix]]) -> Origin:
    """The judgement on aligned matrices of equal shape: ((left name, right name), left, right)."""
    forward, backward = [], []
    for names, ours, theirs in matrices:
        sides = _finite(ours, theirs)
        forward.append(_named(names, retention(*sides)))
        backward.append(_named(names, retention(*sides[::-1])))
    both = _summed(forward), _summed(backward)
    relation = _relation(*both)
    note = f"of what training made, left holds {both[0].text} of the right's, right holds {both[1].text} of the left's"
    return Origin(relation=relation, forward=both[0], backward=both[1], note=note)


def _relation(forward: Kept, backward: Kept) -> Relation:
    """Either side that holds the other's training is derived from it, or shares it; neither does where only the initialisation is one."""
    speaking = [kept for kept in (forward, backward) if kept.speaks]
    if any(kept.low >= DERIVED_FROM for kept in speaking):
        return Relation.DERIVED
    apart = len(speaking) == 2 and all(kept.high < DERIVED_FROM and kept.middle <= SHARED_TO for kept in speaking)
    return Relation.SHARED_INITIALISATION if apart else Relation.INCONCLUSIVE


def _named(names: tuple[str, str], found: tuple[float, float, float] | None) -> Retention | None:
    return found and Retention(tensor=names[0], matched=names[1], product=found[0], bulk=found[1], kept=found[2])


def _summed(found: Iterable[Retention | None]) -> Kept:
    retentions = tuple(item for item in found if item is not None)
    values = np.sort([item.kept for item in retentions])
    if not len(values):
        return Kept(middle=0.0, low=0.0, high=0.0, n=0, retentions=())
    outer = _outer(len(values))
    low, high = float(values[outer]), float(values[-1 - outer])
    return Kept(middle=float(np.median(values)), low=low, high=high, n=len(values), retentions=retentions)


def retention(left: NDArray[np.float64], right: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """(product, bulk, kept) of two aligned matrices of one shape, or None where there is nothing to judge by."""
    ours, theirs = (side.T if len(side) > side.shape[1] else side for side in (left, right))
    if len(theirs) < LEAST_SIDE:
        return None
    gram = theirs @ theirs.T
    values, vectors = np.linalg.eigh(gram)
    above = _above_edge(values, theirs.shape[1])
    strength = values[len(values) - len(above) :]
    if not len(above) or (above @ strength) < LEAST_PRODUCT * strength.sum():
        return None
    vectors = vectors[:, len(values) - len(above) :]
    inner, energy = ours @ theirs.T, strength.sum()
    held = np.einsum("ik,ij,jk->", vectors, inner, vectors, optimize=True)
    rest, rest_energy = np.trace(inner) - held, np.trace(gram) - energy
    noise = np.sqrt(np.einsum("ij,ij->", ours, ours) * rest_energy / ours.size)
    if not rest_energy > 0 or not rest > CERTAIN * noise:
        return None
    bulk, product = rest / rest_energy, (above @ strength) / energy
    return float(product), float(bulk), float((held / energy / bulk - (1 - product)) / product)


def _stretches(left: Checkpoint, right: Checkpoint, ours: str, theirs: str) -> tuple[Matrix, Matrix]:
    """The first rows of both."""
    rows_left, rows_right = left.tensors[ours].shape[0], right.tensors[theirs].shape[0]
    count = min(rows_left, rows_right, MOST_ROWS, max(1, MOST_ENTRIES // right.tensors[theirs].shape[1]))
    return rows(left, ours, 0, count), rows(right, theirs, 0, count)


def _pairs(left: Checkpoint, right: Checkpoint, alignment: Alignment, layers: dict[str, str]) -> list[tuple[str, str]]:
    """The matrices of the related layers and of no layer, paired by their layers' pairing."""
    names, pairs = dict(alignment.pairs), []
    for name, info in sorted(left.tensors.items()):
        layer = layer_of(name)
        if layer != name and layer not in layers:
            continue
        moved = layers[layer] + name.removeprefix(layer) if layer in layers else name
        partner = names.get(name, moved) if layer == name or layer_of(names.get(name, "")) == layers[layer] else moved
        other = right.tensors.get(partner)
        if other and info.shape[1:] == other.shape[1:] and len(info.shape) == 2 and {info.dtype, other.dtype} <= FLOATING:
            pairs.append((name, partner))
    return [(ours, theirs) for ours, theirs in pairs if min(left.tensors[ours].shape + right.tensors[theirs].shape) >= LEAST_SIDE]


def _finite(left: Matrix, right: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both sides in float64, each with a largest entry of 1; a row that is not finite on either side is zero on both."""
    usable = np.isfinite(left).all(axis=1, keepdims=True) & np.isfinite(right).all(axis=1, keepdims=True)
    ours, theirs = (np.where(usable, side, 0).astype(np.float64) for side in (left, right))
    ours /= max(np.abs(ours).max(initial=0.0), np.finfo(np.float32).tiny)
    theirs /= max(np.abs(theirs).max(initial=0.0), np.finfo(np.float32).tiny)
    return ours, theirs


def _above_edge(values: NDArray[np.float64], columns: int) -> NDArray[np.float64]:
    """For each eigenvalue of a Gram matrix clearly above the edge of noise (ascending), the share of it that is no noise."""
    ratio = len(values) / columns
    middle = float(np.median(values))
    if not middle > 1e-9 * values[-1]:
        return np.empty(0)
    scaled = values[-max(1, len(values) // 4) :] * (_median(ratio) / middle)
    scaled = scaled[scaled > CLEAR**2 * (1 + np.sqrt(ratio)) ** 2]
    return np.asarray(np.sqrt((scaled - ratio - 1) ** 2 - 4 * ratio) / scaled)


@cache
def _median(ratio: float) -> float:
    """The median eigenvalue of noise of that ratio of sides, in units of its variance times the longer side."""
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2
    angles = (np.arange(4096) + 0.5) * (np.pi / 4096)
    x = (low + high) / 2 - (high - low) / 2 * np.cos(angles)  # dense at both ends, where the density has its corners
    mass = np.cumsum(np.sin(angles) ** 2 / x)
    return float(x[np.searchsorted(mass, mass[-1] / 2)])


@cache
def _outer(count: int) -> int:
    """How many of that many sorted values lie outside a 99 % interval of the median, at either end (binomial; 0: none can)."""
    chances = np.cumsum([comb(count, k) / 2**count for k in range(count // 2)])
    return int(np.searchsorted(chances, 0.005))


def distance(left: Checkpoint, right: Checkpoint, blocks: Sequence[Block]) -> float:
    """The median over blocks of |left - right| / |right| on a sample of units; infinite without blocks."""
    found = []
    for block in blocks[:MOST_MATRICES]:
        count = min(block.units, NEAR_ROWS)
        ours, theirs = (rows(side, name, 0, count).astype(np.float64) for side, name in ((left, block.left), (right, block.right)))
        size = float(np.linalg.norm(theirs))
        found.append(float(np.linalg.norm(ours - theirs)) / size if np.isfinite(size) and size else np.inf)
    return float(np.median(np.nan_to_num(found, nan=np.inf))) if found else float("inf")
