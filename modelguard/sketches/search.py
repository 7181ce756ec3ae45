"""Looks a fingerprint up among many: exact tests on sketches, corrected over all of them, and candidates for a disguised parent.

Each sketched layer of the query is held against the one sketched layer of an entry that it resembles most in all rows together; the
choice is paid for with the number of layers to choose from, and a pair that is not worth a look counts as one that showed nothing. T1
counts rows that are strictly nearest to their own partner; T0 is the weights' own (`fingerprint.gains`), on the axes that are kept. Holm's
correction runs over all entries and all their tests. The correlation of cosines between token embeddings survives a rotation, but
independent models share it in part: it names candidates, no more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from math import log10

import numpy as np
from numpy.typing import NDArray

from modelguard.fingerprint.gains import Profiles, fixed_axes, profiles
from modelguard.fingerprint.matching import log10_tail
from modelguard.fingerprint.relation import MIN_DERIVED
from modelguard.sketches.sketch import gains_of, values_of
from modelguard.types.registry import BlockSketch, Candidate, Entry, Fingerprint, Hit, Search
from modelguard.types.weights import Cost

Array = NDArray[np.float32]
Numbers = NDArray[np.float64]

BATCH = 32  # entries whose sketches are held at a time
TIE = 1e-5  # cosines closer than this may differ by the order of float32 additions
LEAST = 0.05  # mean cosine of rows below which no row is counted: chance has a spread of 0.016, and T1 sees nothing below 0.15
MIN_ANCHORS = 64
CANDIDATE = 0.6  # correlation of embedding cosines; independents of the published measurement reach 0.55, derivatives 0.73 and more
MAX_CANDIDATES = 5
MAX_HITS = 50


@dataclass(frozen=True, slots=True)
class Prepared:
    """Sketches ready for cosines: rows (blocks, rows, columns) centred over rows and of length 1, zero where not `sound`."""

    unit: Array
    sound: NDArray[np.bool_]

    @property
    def count(self) -> int:
        return len(self.unit)


@dataclass(frozen=True, slots=True)
class Scores:
    """One entry's numbers before correction: fixed points of every query block and the entry's block it was held against."""

    entry: Entry
    fixed: NDArray[np.intp]
    partner: NDArray[np.intp]
    choices: int
    log10_p: Numbers  # of every query block, then of T0


def prepare(blocks: Iterable[BlockSketch]) -> Prepared:
    """Sketches of equal shape, centred and normalised. What each block is scaled by does not matter here."""
    listed = list(blocks)
    stored = np.frombuffer(b"".join(block.values for block in listed), dtype="<f2")
    return unit_rows(stored.reshape(len(listed), listed[0].rows, listed[0].columns).astype(np.float32))


def unit_rows(things: Array) -> Prepared:
    """Stacks of rows (n, rows, columns), entries at most about 1, centred over rows and brought to length 1."""
    sound = np.isfinite(things.sum(axis=2))
    things[~sound] = 0.0
    things -= things.sum(axis=1, keepdims=True) / np.maximum(sound.sum(axis=1), 1).astype(np.float32)[:, None, None]
    things[~sound] = 0.0
    length = np.sqrt(np.einsum("brd,brd->br", things, things))
    sound &= length > 1e-6
    things *= np.divide(1.0, length, out=np.zeros_like(length), where=sound)[..., None]
    return Prepared(things, sound)


def comparable(query: Fingerprint, entry: Fingerprint) -> bool:
    """Whether T1 can be run on the two: one method, one shape."""
    if query.method != entry.method or not query.blocks or not entry.blocks:
        return False
    shapes = {(block.units, block.width, block.rows, block.columns) for made in (query, entry) for block in made.blocks}
    return len(shapes) == 1


def score(query: Fingerprint, entries: Iterable[Entry]) -> Iterator[Scores]:
    """The numbers of every entry that the query can be held against, in the entries' order."""
    if len({(block.units, block.width, block.rows, block.columns) for block in query.blocks}) != 1:
        return
    ours = prepare(query.blocks)
    yield from _scores(query, ours, (entry for entry in entries if comparable(query, entry.fingerprint)))


def score_prepared(query: Fingerprint, ours: Prepared, entries: Iterable[Entry]) -> Iterator[Scores]:
    """As `score`, for rows that were changed after they were sketched; T0 is left out, since it knows nothing of the change."""
    without = replace(query, norms=0, gains=b"")
    yield from _scores(without, ours, (entry for entry in entries if comparable(query, entry.fingerprint)))


def _scores(query: Fingerprint, ours: Prepared, entries: Iterator[Entry]) -> Iterator[Scores]:
    gains = profiles(gains_of(query))
    while batch := list(islice(entries, BATCH)):
        theirs = prepare(block for entry in batch for block in entry.fingerprint.blocks)
        ends = np.cumsum([0, *(len(entry.fingerprint.blocks) for entry in batch)])
        alike = _alike(ours, theirs)
        partners = np.stack([alike[:, a:b].argmax(axis=1) + a for a, b in pairwise(ends)])  # (entries, blocks)
        fixed = np.zeros(partners.shape, dtype=np.intp)
        likely = np.flatnonzero(np.take_along_axis(alike.T, partners, axis=0).max(axis=1) >= LEAST * ours.unit.shape[1])
        fixed[likely] = _fixed(ours, theirs, partners[likely])
        by_gains = _gain_tails(query, gains, batch)
        for place, entry in enumerate(batch):
            choices = int(ends[place + 1] - ends[place])
            log10_p = np.array([*(_paid(int(count), choices) for count in fixed[place]), by_gains[place]])
            yield Scores(entry, fixed[place], partners[place] - ends[place], choices, log10_p)


def _alike(ours: Prepared, theirs: Prepared) -> Array:
    """Mean cosine of rows with their own partners, of every query block with every block, (blocks, others)."""
    return np.asarray(ours.unit.reshape(ours.count, -1) @ theirs.unit.reshape(theirs.count, -1).T)


def _fixed(ours: Prepared, theirs: Prepared, partners: NDArray[np.intp]) -> NDArray[np.intp]:
    """Rows of every query block strictly nearest to their partner's own row, (entries, blocks)."""
    similarity = ours.unit[None] @ theirs.unit[partners].swapaxes(2, 3)  # (entries, blocks, rows, rows)
    own = np.diagonal(similarity, axis1=2, axis2=3).copy()
    places = np.arange(similarity.shape[-1])
    similarity[..., places, places] = -np.inf
    nearest = own > similarity.max(axis=3) + TIE
    return np.asarray((nearest & ours.sound[None] & theirs.sound[partners]).sum(axis=2))


def _paid(fixed: int, choices: int) -> float:
    """log10 of the bound, times the blocks that the partner was chosen among."""
    return min(0.0, log10_tail(fixed) + log10(choices))


def _gain_tails(query: Fingerprint, gains: Profiles, batch: list[Entry]) -> list[float]:
    """T0: log10 of the bound on axes that find themselves by their gains; 0 where there is nothing to tell them by."""
    told = (query.axes, query.norms)
    same = [bool(query.norms) and told == (entry.fingerprint.axes, entry.fingerprint.norms) for entry in batch]
    found = [fixed_axes(gains, profiles(gains_of(entry.fingerprint))) if alike else None for entry, alike in zip(batch, same, strict=True)]
    return [0.0 if item is None else item[2] for item in found]


def holm(log10_p: Numbers) -> Numbers:
    """p-values (log10) adjusted over all of them (Holm 1979), in their order."""
    order = np.argsort(log10_p, kind="stable")
    factors = np.log10(len(log10_p) - np.arange(len(log10_p)))
    adjusted = np.empty_like(log10_p)
    adjusted[order] = np.minimum(np.maximum.accumulate(log10_p[order] + factors), 0.0)
    return adjusted


def adjusted(scores: list[Scores]) -> list[Numbers]:
    """Every entry's p-values, corrected over all entries and tests."""
    if not scores:
        return []
    flat = holm(np.concatenate([item.log10_p for item in scores]))
    ends = np.cumsum([len(item.log10_p) for item in scores])[:-1]
    return list(np.split(flat, ends))


def correlation(query: Fingerprint, entry: Fingerprint) -> float | None:
    """Correlation of the cosines between anchor tokens' embeddings; None where the two do not have the same anchors."""
    same = (query.anchors, query.anchored) == (entry.anchors, entry.anchored) and query.anchors >= MIN_ANCHORS
    if not same or query.method != entry.method:
        return None
    ours, theirs = (np.frombuffer(made.gram, dtype=np.int8).astype(np.float32) for made in (query, entry))
    ours -= ours.mean()
    theirs -= theirs.mean()
    size = float(np.sqrt((ours @ ours) * (theirs @ theirs)))
    return float(ours @ theirs) / size if size > 0 else None


def distance(query: Fingerprint, item: Scores) -> float:
    """Relative L2 distance of the sketches of the layers that were held against each other."""
    partners = [item.entry.fingerprint.blocks[place] for place in item.partner]
    ours = np.stack([values_of(block) for block in query.blocks])
    theirs = np.stack([values_of(block) for block in partners])
    usable = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = np.where(usable, ours, 0).astype(np.float64), np.where(usable, theirs, 0).astype(np.float64)
    return float(np.linalg.norm(ours - theirs) / max(float(np.linalg.norm(ours)), 1e-300))


def hit(query: Fingerprint, item: Scores, p: Numbers, alpha: float) -> Hit | None:
    """The entry as a hit, where T1 refutes independence on enough layers, or on one layer and by the norm gains."""
    fired = int((p[:-1] <= log10(alpha)).sum())
    if fired < MIN_DERIVED and not (fired and p[-1] <= log10(alpha)):
        return None
    return Hit(
        name=item.entry.shown,
        log10_p=float(p.min()),
        fired=fired,
        blocks=len(query.blocks),
        fixed=int(item.fixed.sum()),
        rows=sum(block.rows for block in query.blocks),
        log10_p_gains=float(p[-1]),
        distance=distance(query, item),
        gram=correlation(query, item.entry.fingerprint),
        reference="" if item.entry.private else item.entry.reference,
    )


def candidate(query: Fingerprint, entry: Entry, p: float, alpha: float) -> Candidate | None:
    """The entry as a candidate, by the cosines between its tokens or, exactly, by its norm gains alone."""
    gram = correlation(query, entry.fingerprint)
    if (gram is None or gram < CANDIDATE) and p > log10(alpha):
        return None
    return Candidate(name=entry.shown, gram=gram or 0.0, log10_p_gains=p, reference="" if entry.private else entry.reference)


def search(query: Fingerprint, entries: Iterable[Entry], *, alpha: float, registry: str, known: int, most: int | None = MAX_HITS) -> Search:
    """Looks a fingerprint up. `known` is how many entries the registry has, comparable or not; `most` hits are told, the closest ones."""
    started = time.monotonic()
    scores = list(score(query, entries))
    values = adjusted(scores)
    pairs = list(zip(scores, values, strict=True))
    hits = [found for item, p in pairs if (found := hit(query, item, p, alpha)) is not None]
    named = {found.name for found in hits}
    rest = ((item, p) for item, p in pairs if item.entry.shown not in named)
    candidates = [made for item, p in rest if (made := candidate(query, item.entry, float(p[-1]), alpha)) is not None]
    return Search(
        method=query.method,
        registry=registry,
        searched=len(scores),
        skipped=max(0, known - len(scores)),
        hits=tuple(sorted(hits, key=lambda found: (found.distance, found.name))[:most]),
        candidates=tuple(sorted(candidates, key=lambda found: (found.log10_p_gains, -found.gram, found.name))[:MAX_CANDIDATES]),
        cost=Cost(bytes_read=0, bytes_total=0, seconds=time.monotonic() - started),
    )
