"""What recognising kinds starts from: two checkpoints with what the exact difference and the tests gave, tensor by tensor."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import log10

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import FLOATING
from modelguard.correspondence.alignment import Alignment
from modelguard.fingerprint.blocks import layer_of
from modelguard.fingerprint.kinds.traits import Trait
from modelguard.fingerprint.relation import BlockTests, control_threshold
from modelguard.fingerprint.weight_tests import T1
from modelguard.types.weights import Relation, TensorDifference

RELATED = (Relation.IDENTICAL, Relation.SAME_WEIGHTS, Relation.DERIVED)
ALIGNED = 0.05  # cosine between matrices; 128 x 128 entries of independent models stay below 0.03
IN_PLACE = 0.25  # of the changed matrices must still be aligned, or nothing is known of how training moved them
LOSSLESS = ("identical", "cast", "permuted", "rescaled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The left checkpoint, its alleged parent on the right, and what is known of the two. `candidates` are further alleged parents.

    `differences` is empty where nothing but samples was read.
    """

    left: Checkpoint
    right: Checkpoint
    alignment: Alignment
    differences: tuple[TensorDifference, ...]
    relation: Relation
    examined: tuple[BlockTests, ...]
    alpha: float
    candidates: tuple[Checkpoint, ...] = ()

    @property
    def related(self) -> bool:
        return self.relation in RELATED

    @property
    def carrying(self) -> tuple[BlockTests, ...]:
        """The blocks on which a test refutes independence."""
        return tuple(item for item in self.examined if item.fired(self.alpha))

    @property
    def silent(self) -> tuple[BlockTests, ...]:
        return tuple(item for item in self.examined if not item.fired(self.alpha))

    @property
    def strange(self) -> tuple[BlockTests, ...]:
        """The silent blocks on which the tests would have spoken: layers that earn `unrelated`.

        Where T1 shows the parent on all other layers, nothing is disguised there, and it is enough that T1 would have spoken.
        """
        threshold, plain = control_threshold(self.examined, self.alpha), all(T1 in self.methods(item) for item in self.carrying)
        return tuple(item for item in self.silent if item.could_speak(threshold) or (plain and _t1_speaks(item, threshold)))

    def methods(self, item: BlockTests) -> frozenset[str]:
        """The tests that refute independence on a block."""
        return frozenset(result.method for result in item.results if result.log10_p_adjusted <= log10(self.alpha))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A pair with the traits of its tensors that changed."""

    pair: Pair
    traits: tuple[Trait, ...]

    @property
    def aligned(self) -> tuple[Trait, ...]:
        """The traits of tensors that still stand for one another entry by entry: not those of permuted units or a turned stream."""
        return tuple(trait for trait in self.traits if not trait.matrix or trait.cosine >= ALIGNED)

    @property
    def matrices(self) -> tuple[Trait, ...]:
        """Aligned matrices inside numbered layers: tables of tokens and vectors have means and scales of their own."""
        return tuple(trait for trait in self.aligned if trait.matrix and trait.layered)

    @property
    def moved(self) -> tuple[Trait, ...]:
        """Those of them whose change no rewriting of the same values explains."""
        return tuple(trait for trait in self.matrices if not trait.explained)

    @property
    def trained(self) -> tuple[Trait, ...]:
        """Tensors whose change nothing but training is known to make; none where compensation may have made all of it.

        Methods that quantise or prune move the entries that they keep to compensate for others, but leave other tensors alone.
        Exact factors between matrices are undone in vectors of gains, and what reorders matrices reorders vectors.
        """
        open_ones = [trait for trait in self.aligned if not trait.explained and not trait.small]
        layered = sum(trait.matrix and trait.layered for trait in self.traits)
        if len(self.matrices) < IN_PLACE * layered:
            return ()
        strays = len(self.matrices) < layered
        rewritten = strays or any(item.explanation == "permuted" for item in self.pair.differences)
        rescaled = any(trait.scaling is not None and trait.scaling.exact for trait in self.matrices)
        kept = [trait for trait in open_ones if trait.matrix or not (rescaled or rewritten)]
        return tuple(kept) if any(not trait.coded for trait in kept) else ()


def partners(pair: Pair) -> tuple[tuple[str, str], ...]:
    """The tensors of floating point that stand for one another and differ, with the layers that moved paired anew.

    Layers that carry nothing of the parent, and tensors that are equal or re-encoded, are left out.
    """
    lossless = {item.name for item in pair.differences if item.explanation in LOSSLESS}
    silent = {item.block.layer for item in pair.silent} if pair.carrying else set()
    moved = {item.block.layer: item.block.matched for item in pair.carrying if item.block.candidates > 1}
    chosen = []
    for name, other in pair.alignment.pairs:
        layer = layer_of(name)
        theirs = moved[layer] + name.removeprefix(layer) if layer in moved else other
        if layer in silent or (name in lossless and layer not in moved) or not _comparable(pair, name, theirs):
            continue
        chosen.append((name, theirs))
    return tuple(chosen)


def layers(names: Iterable[str]) -> frozenset[str]:
    """The numbered layers that these names speak of: a name up to its first number."""
    return frozenset(match[0] for name in names if (match := re.match(r"^.*?\.\d+(?=\.)", name)))


def natural(names: Iterable[str]) -> list[str]:
    """Names in order, `layer.10` behind `layer.9`."""
    return sorted(names, key=lambda name: [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)])


def _t1_speaks(item: BlockTests, threshold: float) -> bool:
    return bool(item.controls) and max(control[T1] for control in item.controls.values()) <= threshold


def _comparable(pair: Pair, name: str, other: str) -> bool:
    ours, theirs = pair.left.tensors[name], pair.right.tensors.get(other)
    floating = theirs is not None and {ours.dtype, theirs.dtype} <= FLOATING
    return floating and theirs is not None and ours.shape == theirs.shape and ours.entries > 1
