"""Puts one checkpoint into the names and the layout of another: fused, split, transposed, reordered, tied or otherwise named tensors.

A rearrangement is a candidate and proves nothing. Which layout is taken is chosen by how well a few lines agree with the other
side; the exact difference or the tests then decide on the view, and a wrong choice can only hide a relation, never make one: the number of
layouts that were tried stands in `choices`, for the tests to pay for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import FLOATING
from modelguard.correspondence.alignment import align, digest
from modelguard.correspondence.layout_options import Job, jobs_of
from modelguard.correspondence.layouts import Made, Part, View
from modelguard.correspondence.roles import located
from modelguard.correspondence.tiles import rows
from modelguard.correspondence.unnamed import leftovers

SAMPLED_LINES = 32
RELATED = 0.3  # mean cosine of lines from which a layout is taken for its agreement; unrelated lines stay below it but for very narrow ones
BETTER = 0.2  # by how much a reordering must beat leaving a tensor as it is
MAX_LINE = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Rearranged:
    """The left checkpoint in the right one's names and layout, what was done to it as text, and how many layouts were tried by tensor.

    `guessed` says that some tensors were paired by what their names mean or by their shapes, rather than by equal names.
    """

    view: Checkpoint
    steps: tuple[str, ...] = ()
    choices: Mapping[str, int] = field(default_factory=dict)
    guessed: bool = False


def rearranged(left: Checkpoint, right: Checkpoint, *, thorough: bool = True) -> Rearranged:
    """`left` in the names and layout of `right`, as far as names, shapes and a few lines tell how; `left` itself where nothing helps.

    `thorough` also looks for other orders in tensors whose names and shapes agree, which reads a few thousand lines of unlike models.
    """
    alignment = align(left, right, by_content=False)
    made: dict[str, Made] = {}
    notes: Counter[str] = Counter()
    choices: dict[str, int] = {}
    for job, option in _chosen(left, right, [job for job in jobs_of(left, right, alignment) if thorough or not job.optional]):
        made |= job.options[option].made
        notes[job.options[option].text] += len(job.options[option].made)
        if len(job.options) > 1:
            choices |= dict.fromkeys(job.options[option].made, len(job.options))
    used = {part.source for item in made.values() for part in item.parts}
    strays = [name for name in alignment.only_left if name not in used], [name for name in alignment.only_right if name not in made]
    by_shape = leftovers(left, right, *strays, lambda name, item, other: _agreement(left, {other: item}, right))
    notes["paired by shape"] += len(by_shape)
    made |= by_shape
    dropped = _tied(left, right, made, notes)
    if not made and not dropped:
        return Rearranged(view=left)
    names = _kept(left, right, dict(alignment.pairs), made, dropped)
    guessed = any(_renames(item, name) for name, item in made.items())
    return Rearranged(view=View(left, names, made), steps=_told(notes), choices=choices, guessed=guessed)


def _chosen(left: Checkpoint, right: Checkpoint, jobs: Sequence[Job]) -> list[tuple[Job, int]]:
    """Every job with its option: one for all jobs of a kind, so that a model has one layout. Option -1 of an optional job drops out."""
    kinds: dict[tuple[str, tuple[str, ...]], list[Job]] = defaultdict(list)
    for job in jobs:
        kinds[job.kind, tuple(option.text for option in job.options)].append(job)
    chosen = []
    for kind in sorted(kinds):
        option = _best(left, right, kinds[kind])
        chosen += [(job, option) for job in kinds[kind] if not (job.optional and option == 0)]
    return chosen


def _best(left: Checkpoint, right: Checkpoint, jobs: Sequence[Job]) -> int:
    """The option whose worst matrix agrees best. What may stay as it is is reordered only where every matrix gains by it."""
    if len(jobs[0].options) == 1:
        return 0
    sampled = [jobs[place] for place in sorted({0, len(jobs) // 2, len(jobs) - 1})]
    table = [
        np.mean([_agreements(left, job.options[place].made, right) for job in sampled], axis=0) for place in range(len(jobs[0].options))
    ]
    worst = [float(agreements.min(initial=1.0)) if agreements.size else 0.0 for agreements in table]
    gains = [float((agreements - table[0]).min(initial=0.0 if not agreements.size else np.inf)) for agreements in table]
    usable = [place for place in range(1, len(table)) if not jobs[0].optional or gains[place] >= BETTER]
    best = max((0, *usable), key=lambda place: (worst[place], -place))
    return best if worst[best] >= RELATED else 0


def _agreement(left: Checkpoint, made: Mapping[str, Made], right: Checkpoint) -> float:
    return float(_agreements(left, made, right).min(initial=1.0))


def _agreements(left: Checkpoint, made: Mapping[str, Made], right: Checkpoint) -> NDArray[np.float64]:
    """Mean cosine of a few lines with the right side's at the same place, for every matrix that would be made."""
    view = View(left, {}, made)
    matrices = [name for name in sorted(made) if len(view.tensors[name].shape) > 1]
    return np.array([float(np.mean(_line_cosines(view, right, name) or [0.0])) for name in matrices])


def _line_cosines(view: Checkpoint, right: Checkpoint, name: str) -> list[float]:
    ours, theirs = view.tensors[name], right.tensors[name]
    usable = ours.dtype in FLOATING and theirs.dtype in FLOATING and ours.entries and ours.entries // ours.shape[0] <= MAX_LINE
    if not usable:
        return []
    places = sorted({int(place) for place in np.linspace(0, ours.shape[0] - 1, SAMPLED_LINES)})
    return [_cosine(rows(view, name, place, place + 1)[0], rows(right, name, place, place + 1)[0]) for place in places]


def _cosine(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    a, b = (np.nan_to_num(side.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0) for side in (ours, theirs))
    a, b = (side / (np.abs(side).max(initial=0.0) or 1.0) for side in (a, b))
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm else 0.0


def _tied(left: Checkpoint, right: Checkpoint, made: dict[str, Made], notes: Counter[str]) -> set[str]:
    """Gives the view a head where the right side's is its token table, and names the left head that is nothing but its table."""
    ours, theirs = _tables(left), _tables(right)
    if "head" in theirs and "head" not in ours and {"tokens"} <= ours.keys() & theirs.keys() and _same(right, theirs):
        info = left.tensors[ours["tokens"]]
        if info.shape == right.tensors[theirs["head"]].shape:
            made[theirs["head"]] = Made(parts=(Part(source=ours["tokens"]),), shape=info.shape)
            notes["the head is the token table on both sides, stored once on the left"] += 1
    if "head" in ours and "head" not in theirs and "tokens" in ours and _same(left, ours):
        notes["the head is the token table on both sides, stored once on the right"] += 1
        return {ours["head"]}
    return set()


def _tables(checkpoint: Checkpoint) -> dict[str, str]:
    """The token table and the head, by role, where each is one tensor."""
    found = ((located(name), name) for name in sorted(checkpoint.tensors))
    claims = [(role.module, name) for (place, role), name in found if place.number < 0 and role.kind == "weight"]
    counts = Counter(module for module, _ in claims)
    return {module: name for module, name in claims if module in ("tokens", "head") and counts[module] == 1}


def _same(checkpoint: Checkpoint, tables: Mapping[str, str]) -> bool:
    return digest(checkpoint, tables["tokens"]) == digest(checkpoint, tables["head"])


def _kept(
    left: Checkpoint, right: Checkpoint, pairs: Mapping[str, str], made: Mapping[str, Made], dropped: Iterable[str]
) -> dict[str, str]:
    """Tensors that the view takes as they are: aligned ones under the right side's name, the others under their own."""
    used = {part.source for item in made.values() for part in item.parts if part.source not in pairs} | set(dropped)
    names = {theirs: ours for ours, theirs in pairs.items() if theirs not in made and ours not in used}
    for name in sorted(left.tensors):
        if name not in pairs and name not in used:
            names[name if name not in made and name not in names else f"{name} (left)"] = name
    return names


def _renames(item: Made, name: str) -> bool:
    """Whether a tensor was made from one of another name and nothing but that."""
    return len(item.parts) == 1 and item.parts[0].places is None and item.parts[0].source != name


def _told(notes: Counter[str]) -> tuple[str, ...]:
    return tuple(f"{text} ({count} tensor{'s' if count > 1 else ''})" for text, count in sorted(notes.items()) if count)
