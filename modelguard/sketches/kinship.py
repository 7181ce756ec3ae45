"""A checkpoint among known models when its base is declared: is there another parent, a second one, or only a sibling?

T1 fires between any two models of one origin. So models that the declared base is itself related to are judged by task vectors: with
sketches s of the checkpoint, b of the base and c of a known model, is c - b contained in s - b? Siblings that saw similar data share the
few directions in which c - b is large, to any degree; the many directions in which it is small are the noise of one training run, and
only what was made from c holds them. So c - b is taken apart (singular value decomposition of a layer's sketch), and its middle half is
looked for in s - b: a child carries it whole, a merge in its proportion, a sibling hardly. What siblings show is measured on the other
known models that descend from b. A known model that is not related to the base but to the checkpoint is a second parent; a small share
of it shows in what the base leaves unexplained. Sketches are linear, so all of this needs no weights.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from modelguard.sketches.search import MAX_HITS, Prepared, Scores, adjusted, hit, score, score_prepared, search, unit_rows
from modelguard.sketches.sketch import values_of
from modelguard.types.registry import BlockSketch, Entry, Fingerprint, Hit, Kinship

Numbers = NDArray[np.float64]

DECLARED, BETWEEN, SECOND, SIBLING, UNDECLARED, RELATIVE = "declared", "between", "second", "sibling", "undeclared", "relative"
SAME = 2e-3  # relative distance of sketches of the same weights: float16 and the rounding of a cast to bfloat16 stay below
CARRIED = 0.88  # of a known model's own detail; measured (docs/registry.md): children 0.91 and more, siblings 0.84 and less
MARGIN = 0.25  # above what any other descendant of the base carries of its own
CLOSER = 0.95  # of the distance to the base: a child is closer to its parent
KIN = 0.5  # carried from which another descendant counts as the known model's own kin, and not to the band
MAX_WAYS = 50  # descendants of the base that are held against one another, the closest ones
MIDDLE = (0.25, 0.75)  # of the directions that are above rounding
ROUNDING = 1 / 64  # of a layer's root mean square: directions weaker than this are rounding to bfloat16 or float16


@dataclass(frozen=True, slots=True)
class _Way:
    """An entry with its way from the declared base, in sketches: s - b and c - b over the same layers, and |s - c|."""

    entry: Entry
    ours: Numbers  # (layers, rows, columns)
    theirs: Numbers
    detail: tuple[tuple[Numbers, Numbers, Numbers], ...]  # of every layer the middle of `theirs`: directions, sizes, directions

    @property
    def explained(self) -> float:
        """The squared cosine of the two ways; 0 where they point apart."""
        size = float(np.linalg.norm(self.ours) * np.linalg.norm(self.theirs))
        return max(0.0, float(np.vdot(self.ours, self.theirs)) / size) ** 2 if size > 0 else 0.0

    @property
    def closeness(self) -> float:
        """|s - c| over |s - b|."""
        return float(np.linalg.norm(self.ours - self.theirs) / max(float(np.linalg.norm(self.ours)), 1e-300))


def kinship(
    query: Fingerprint,
    bases: Sequence[tuple[str, Fingerprint]],
    entries: Sequence[Entry],
    *,
    alpha: float,
    registry: str,
    known: int,
    previous: Fingerprint | None = None,
    why: str = "",
) -> Kinship:
    """The checkpoint among the entries, given its declared bases (name, fingerprint). `why` says why some base is not among them.

    An entry that is the checkpoint's own `previous` version is as good as declared.
    """
    started = time.monotonic()
    found = search(query, entries, alpha=alpha, registry=registry, known=known, most=None)
    own = {entry.shown for entry in entries if previous is not None and _same(previous, entry.fingerprint)}
    carried = [(name, base, item) for name, base in bases if (item := _related(query, base, alpha)) is not None]
    if carried:
        hits = _beside(query, [(base, item) for _, base, item in carried], entries, found.hits, alpha)
        found = replace(found, hits=hits, candidates=())
    else:
        closest = next((item.name for item in found.hits if item.name not in own), "")
        hits = tuple(replace(item, standing=UNDECLARED if item.name == closest else RELATIVE) for item in found.hits)
        found = replace(found, hits=hits)
    found = replace(found, hits=tuple(replace(item, standing=DECLARED) if item.name in own else item for item in found.hits))
    found = replace(found, hits=found.hits[:MAX_HITS], cost=replace(found.cost, seconds=time.monotonic() - started))
    return Kinship(search=found, declared=len(bases), carried=len(carried), bases=tuple(name for name, _ in bases), why=why)


def _related(query: Fingerprint, other: Fingerprint, alpha: float) -> Scores | None:
    """The numbers of one pair, where independence is refuted."""
    for item in score(query, [Entry(name="it", fingerprint=other)]):
        if hit(query, item, adjusted([item])[0], alpha) is not None:
            return item
    return None


def _beside(
    query: Fingerprint,
    carried: Sequence[tuple[Fingerprint, Scores]],
    entries: Sequence[Entry],
    hits: Sequence[Hit],
    alpha: float,
) -> tuple[Hit, ...]:
    """Every hit with its standing to the declared bases, and second parents that only the residual shows; findings first."""
    family = {name for base, _ in carried for name in _names_of_kin(base, entries, alpha)}
    known = {entry.shown: entry for entry in entries}
    close = [item.name for item in hits if item.name in family][:MAX_WAYS]
    ways = [way for name in close if (way := _way(query, carried[0], known[name])) is not None]
    strangers = [entry for entry in entries if entry.shown not in family]
    judged = [_inside(item, known[item.name], ways, carried) for item in hits if item.name in family]
    seconds = {item.name: item for item in hits if item.name not in family}
    seconds |= {item.name: item for item in _residual_hits(query, carried, strangers, alpha) if item.name not in seconds}
    judged += [_second(query, item, known[item.name], carried) for item in seconds.values()]
    order = (SECOND, BETWEEN, DECLARED, SIBLING)
    return tuple(sorted(judged, key=lambda item: (order.index(item.standing), item.distance, item.name)))


def _names_of_kin(base: Fingerprint, entries: Sequence[Entry], alpha: float) -> list[str]:
    scores = list(score(base, entries))
    return [item.entry.shown for item, p in zip(scores, adjusted(scores), strict=True) if hit(base, item, p, alpha) is not None]


def _way(query: Fingerprint, carried: tuple[Fingerprint, Scores], entry: Entry) -> _Way | None:
    """The ways from the base to the checkpoint and to an entry, over the layers that all three have; None where there are none."""
    base, held = carried
    blocks = _by_place(entry.fingerprint) if entry.fingerprint.layers == base.layers else {}
    triples = [(query.blocks[place], base.blocks[partner]) for place, partner in enumerate(held.partner)]
    three = [(values_of(ours), values_of(origin), values_of(blocks[origin.layer])) for ours, origin in triples if origin.layer in blocks]
    if not three:
        return None
    s, b, c = (_finite(np.stack(side)) for side in zip(*three, strict=True))
    floors = ROUNDING * np.sqrt(np.mean(b * b, axis=(1, 2)))
    return _Way(entry, s - b, c - b, tuple(_middle(layer, floor) for layer, floor in zip(c - b, floors, strict=True)))


def _middle(layer: Numbers, floor: float) -> tuple[Numbers, Numbers, Numbers]:
    """The middle half, by size, of the directions of a layer's way that are above the floor: (rows, n), (n,), (n, columns)."""
    u, sizes, vt = np.linalg.svd(layer, full_matrices=False)
    count = int((sizes > floor).sum())
    middle = slice(int(MIDDLE[0] * count), int(np.ceil(MIDDLE[1] * count)))
    return u[:, middle], sizes[middle], vt[middle]


def _by_place(made: Fingerprint) -> dict[str, BlockSketch]:
    return {block.layer: block for block in made.blocks}


def _inside(item: Hit, entry: Entry, ways: Sequence[_Way], carried: Sequence[tuple[Fingerprint, Scores]]) -> Hit:
    """A hit of the declared base's family: the base itself, a parent in between, or a sibling."""
    way = next((way for way in ways if way.entry is entry), None)
    if any(_same(base, entry.fingerprint) for base, _ in carried):
        return replace(item, standing=DECLARED)
    if way is None or np.linalg.norm(way.ours) == 0:
        return replace(item, standing=SIBLING)
    carried_on = _carried(way.ours, way)
    if carried_on is None or carried_on < CARRIED or way.closeness > CLOSER:
        return replace(item, standing=SIBLING, explained=way.explained, carried=carried_on)
    band = [_carried(way.ours, other) or 0.0 for other in ways if _comparable(other, way) and (_carried(other.theirs, way) or 0.0) < KIN]
    highest = max(band, default=None)
    told = replace(item, explained=way.explained, carried=carried_on, band=highest, controls=len(band))
    return replace(told, standing=BETWEEN if carried_on >= (highest or 0.0) + MARGIN else SIBLING)


def _comparable(other: _Way, way: _Way) -> bool:
    """Whether another descendant of the base may say how alike siblings are."""
    return other.entry is not way.entry and bool(np.any(other.theirs)) and other.theirs.shape == way.theirs.shape


def _carried(ours: Numbers, way: _Way) -> float | None:
    """How much of the detail of an entry's way `ours` contains (least squares); None where that detail drowns in rounding."""
    contained = whole = 0.0
    for mine, (u, sizes, vt) in zip(ours, way.detail, strict=True):
        contained += float(np.diagonal(u.T @ mine @ vt.T) @ sizes)
        whole += float(sizes @ sizes)
    return contained / whole if whole > 0 else None


def _same(first: Fingerprint, second: Fingerprint) -> bool:
    """Whether two fingerprints are of the same weights, up to the rounding of a cast."""
    if first.digest is not None and first.digest == second.digest:
        return True
    if (first.layers, first.shape, len(first.blocks)) != (second.layers, second.shape, len(second.blocks)):
        return False
    ours, theirs = (_finite(np.stack([values_of(block) for block in made.blocks])) for made in (first, second))
    size = float(np.linalg.norm(ours))
    return size > 0 and float(np.linalg.norm(ours - theirs)) <= SAME * size


def _residual_hits(
    query: Fingerprint, carried: Sequence[tuple[Fingerprint, Scores]], strangers: Sequence[Entry], alpha: float
) -> list[Hit]:
    """Strangers to the declared bases that what the bases leave unexplained of the checkpoint is related to."""
    scores = list(score_prepared(query, _residual(query, carried), strangers))
    return [found for item, p in zip(scores, adjusted(scores), strict=True) if (found := hit(query, item, p, alpha)) is not None]


def _residual(query: Fingerprint, carried: Sequence[tuple[Fingerprint, Scores]]) -> Prepared:
    """The checkpoint's rows without what a multiple of the bases' rows explains, layer by layer (least squares)."""
    left = np.stack([_centred(values_of(block)) for block in query.blocks])
    for place, ours in enumerate(left):
        columns = np.stack([_centred(values_of(base.blocks[held.partner[place]])).ravel() for base, held in carried], axis=1)
        weights = np.linalg.lstsq(columns, ours.ravel(), rcond=None)[0]
        left[place] = ours - (columns @ weights).reshape(ours.shape)
    scale = np.maximum(np.abs(left).max(axis=(1, 2), keepdims=True), 1e-300)
    return unit_rows((left / scale).astype(np.float32))


def _centred(rows: NDArray[np.float32]) -> Numbers:
    """Rows centred over rows; zeros in place of what is not finite."""
    finite = _finite(rows)
    return np.asarray(finite - finite.mean(axis=0))


def _finite(rows: NDArray[np.float32]) -> Numbers:
    """Sketches with zeros in place of what is not finite."""
    return np.nan_to_num(rows.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _second(query: Fingerprint, item: Hit, entry: Entry, carried: Sequence[tuple[Fingerprint, Scores]]) -> Hit:
    """A hit outside the declared base's family, with its share in the mixture of bases and entry that explains the checkpoint best."""
    held = next(score(query, [entry]))
    sides = [(base, scores.partner) for base, scores in carried] + [(entry.fingerprint, held.partner)]
    columns = [np.concatenate([_centred(values_of(made.blocks[place])).ravel() for place in places]) for made, places in sides]
    ours = np.concatenate([_centred(values_of(block)).ravel() for block in query.blocks])
    weights = np.linalg.lstsq(np.stack(columns, axis=1), ours, rcond=None)[0]
    return replace(item, standing=SECOND, share=float(weights[-1]))
