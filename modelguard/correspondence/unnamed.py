"""Tensors whose names tell nothing: paired by their shape where it is the only one in their layer, else by a few lines that agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from math import prod

from modelguard.checkpoints.base import Checkpoint
from modelguard.correspondence.layouts import Made, Part
from modelguard.correspondence.roles import Place, located, paired_places

SAME = 0.5  # mean cosine of lines from which two tensors of one shape and unknown names are taken for each other
MOST_UNNAMED = 24  # tensors of one shape in one layer that are told apart by their lines
MOST_COMPARED = 1 << 14  # pairs of such tensors in a whole model
Agreement = Callable[[str, Made, str], float]


def leftovers(left: Checkpoint, right: Checkpoint, ours: Sequence[str], theirs: Sequence[str], agreement: Agreement) -> dict[str, Made]:
    """Pairs of tensors whose names tell nothing: the only ones of a shape in their layer, or those whose lines agree."""
    sides = _by_place(ours), _by_place(theirs)
    budget = [MOST_COMPARED]
    found: dict[str, Made] = {}
    for place, other in sorted(paired_places(*sides).items()):
        made: dict[str, Made] = {}
        for flip in (False, True):
            made |= _matched(left, right, (sides[0][other], sides[1][place]), made, flip, agreement, budget)
        found |= made
    return found


def _by_place(names: Sequence[str]) -> Mapping[Place, list[str]]:
    found: dict[Place, list[str]] = defaultdict(list)
    for name in names:
        found[located(name)[0]].append(name)
    return dict(found)


def _matched(
    left: Checkpoint,
    right: Checkpoint,
    sides: tuple[list[str], list[str]],
    made: Mapping[str, Made],
    flip: bool,
    agreement: Agreement,
    budget: list[int],
) -> dict[str, Made]:
    """Pairs of one layer, of equal shapes or of transposed ones; `budget` holds how many pairs of tensors may still be looked into."""
    used = {part.source for item in made.values() for part in item.parts}
    groups: dict[tuple[int, ...], tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for name in sides[0]:
        shape = left.tensors[name].shape
        if name not in used and (not flip or (len(shape) == 2 and shape[0] != shape[1])):
            groups[shape[::-1] if flip else shape][0].append(name)
    for name in sides[1]:
        if name not in made:
            groups[right.tensors[name].shape][1].append(name)
    found: dict[str, Made] = {}
    for shape, (ours, theirs) in sorted(groups.items()):
        items = {name: Made(parts=(Part(source=name, turned=flip),), shape=shape) for name in ours}
        if not ours or not theirs or not prod(shape):
            continue
        if len(ours) == len(theirs) == 1:
            found[theirs[0]] = items[ours[0]]
        elif len(shape) > 1 and len(ours) * len(theirs) <= min(MOST_UNNAMED**2, budget[0]):
            budget[0] -= len(ours) * len(theirs)
            found |= _by_lines(items, theirs, agreement)
    return found


def _by_lines(items: Mapping[str, Made], theirs: Sequence[str], agreement: Agreement) -> dict[str, Made]:
    """Pairs that agree best of all, one after the other."""
    scores = sorted(((-agreement(name, item, other), name, other) for name, item in items.items() for other in theirs))
    found: dict[str, Made] = {}
    used: set[str] = set()
    for score, name, other in scores:
        if -score >= SAME and name not in used and other not in found:
            found[other] = items[name]
            used.add(name)
    return found
