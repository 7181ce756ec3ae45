"""Stretches of a log whose values stand elsewhere too: in the same run at other steps, or in the middle of another run.

Eight records in a row with the same losses (and gradient norms) do not come about twice; how often eight would agree by chance
is bounded by the share of equal pairs among the values, so that a loss that is 0.0 for hundreds of rows proves nothing. Runs
that start alike (one initialisation, one order of data), replays after a rollback, and one run logged twice are honest: there
the stretch begins where one of the two logs does, or the same steps have the same values.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelguard.logs.cadence import main_series
from modelguard.logs.rows import basename
from modelguard.types.logs import Identity, LogRecord, Run, Standing

RULE = "log-copied"
LENGTH = 8  # records in a row
DISTINCT = 5  # different values that a stretch must have
OWN = 3  # records of its own that a log has before a stretch that is no beginning: the first after a resume may average fewer steps
CHANCE = 1e-9  # expected number of such stretches by chance, at most
MOST = 64  # records that a telling stretch may need; values that need more say too little
MAX_RECORDS = 50_000
MAX_RUNS = 64  # that are held against one another

Key = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Records [a, a + length) of one series that stand as [b, b + length) in another (or the same)."""

    a: int
    b: int
    length: int


@dataclass(frozen=True, slots=True)
class _Series:
    """The records of a run with a loss that moves: steps, and the values that are compared."""

    steps: list[int]
    keys: list[Key]
    norms: bool


def repeats(run: Run) -> Iterator[Identity]:
    """Whether a stretch of the run repeats another one of it at other steps."""
    series = _series(run)
    if len(series.keys) < 2 * LENGTH:
        return
    need = needed(series.keys, len(series.keys) ** 2)
    stretch = longest(series.keys, None, need, steps=series.steps)
    kind = "losses and gradient norms" if series.norms else "losses"
    numbers: dict[str, float | int | str] = {"records": len(series.keys), "needed": need}
    if need > MOST:
        text = "the losses take so few values that a repeated stretch says nothing"
        yield Identity(rule=RULE, name="copied", standing=Standing.OPEN, text=text, numbers=numbers)
        return
    if stretch is None:
        text = f"no {need} records in a row repeat earlier {kind}"
        yield Identity(rule=RULE, name="copied", standing=Standing.HOLDS, text=text, numbers=numbers)
        return
    (first, last), (again, end) = _span(series, stretch.a, stretch.length), _span(series, stretch.b, stretch.length)
    numbers |= {"length": stretch.length, "first": first, "last": last, "again_first": again, "again_last": end}
    text = f"steps {again} to {end} have the {kind} of steps {first} to {last}: {stretch.length} records in a row are the same"
    name = "copied-norms" if series.norms else "copied"
    yield Identity(rule=RULE, name=name, standing=Standing.BROKEN, text=text, numbers=numbers)


def shared(run: Run, others: Sequence[Run]) -> Iterator[Identity]:
    """Whether a stretch from the middle of the run stands in the middle of another run, after records that differ."""
    series = _series(run) if others else _Series([], [], norms=False)
    if len(series.keys) < 2 * LENGTH:
        return
    for other in others[:MAX_RUNS]:
        theirs = _series(other)
        if len(theirs.keys) < 2 * LENGTH:
            continue
        both = series.norms and theirs.norms
        mine, theirs = (series, theirs) if both else (_without_norms(series), _without_norms(theirs))
        if len(set(mine.keys) & set(theirs.keys)) < DISTINCT:
            continue
        need = needed([*mine.keys, *theirs.keys], len(mine.keys) * len(theirs.keys))
        stretch = longest(mine.keys, theirs.keys, need)
        if stretch is None or not _inside(mine, theirs, stretch):
            continue
        first, last = _span(mine, stretch.a, stretch.length)
        there = f"steps {theirs.steps[stretch.b]} and on of {other.source}"
        text = f"steps {first} to {last} have the values of {there}, after records that differ"
        numbers = {"length": stretch.length, "first": first, "last": last, "there_first": theirs.steps[stretch.b], "needed": need}
        yield Identity(rule=RULE, name="spliced", standing=Standing.BROKEN, text=text, numbers=numbers)


def _series(run: Run) -> _Series:
    """The main series without records whose values say nothing: not finite, or trained with a rate of 0."""
    rows = [(entry, key) for entry in main_series(run)[:MAX_RECORDS] if (key := _key(entry)) is not None]
    return _Series([entry.step for entry, _ in rows], [key for _, key in rows], any(key[1] >= 0 for _, key in rows))


def _without_norms(series: _Series) -> _Series:
    return _Series(series.steps, [(loss, -1.0) for loss, _ in series.keys], norms=False)


def _key(entry: LogRecord) -> Key | None:
    """(loss, gradient norm), the latter -1 where it is not logged; None for a record that cannot tell."""
    values = {basename(name): value for name, value in entry.values.items()}
    loss = values.get("loss", next((value for name, value in sorted(values.items()) if "loss" in name.lower()), math.nan))
    norm = values.get("grad_norm", -1.0)
    rate = values.get("learning_rate", values.get("lr", 1.0))
    return None if not math.isfinite(loss) or not math.isfinite(norm) or rate == 0 else (loss, norm)


def needed(keys: Sequence[Key], pairs: int) -> int:
    """How long a stretch must be to be no chance: `pairs` · q^length < CHANCE, q the share of equal pairs among the values."""
    counts = Counter(keys)
    agree = sum(count * (count - 1) for count in counts.values()) / max(1, len(keys) * (len(keys) - 1))
    q = min(max(agree, 1e-4), 0.999)
    return max(LENGTH, math.ceil(math.log(max(pairs, 1) / CHANCE) / -math.log(q)))


def longest(one: Sequence[Key], two: Sequence[Key] | None, need: int, *, steps: Sequence[int] = ()) -> Stretch | None:
    """The longest stretch of at least `need` records with `DISTINCT` values that stands in both, or (None) twice in one.

    In one series the two places must be of different `steps` and must not overlap. Each record is looked at a bounded number of times.
    """
    if need > MOST:
        return None
    where = one if two is None else two
    known: dict[tuple[Key, ...], int] = {}
    for i in range(len(one) - need + 1 if two is not None else 0):
        known.setdefault(tuple(one[i : i + need]), i)
    best: Stretch | None = None
    j = 0
    while j + need <= len(where):
        gram = tuple(where[j : j + need])
        i = known.setdefault(gram, j) if two is None else known.get(gram, -1)
        length = 0
        if i >= 0 and (two is not None or (i + need <= j and steps[i] != steps[j])) and len(set(gram)) >= DISTINCT:
            length = _reach(one, where, i, j, len(one) if two is not None else j)
            if best is None or length > best.length:
                best = Stretch(i, j, length)
        j += max(1, length - need + 1)
    return best


def _reach(one: Sequence[Key], where: Sequence[Key], i: int, j: int, end: int) -> int:
    """How many records from `i` (and below `end`) equal those from `j`."""
    length = 0
    while j + length < len(where) and i + length < end and one[i + length] == where[j + length]:
        length += 1
    return length


def _inside(mine: _Series, theirs: _Series, stretch: Stretch) -> bool:
    """Whether both logs have records of other values before the stretch; runs that start alike, or go on from one another, have not."""
    if min(stretch.a, stretch.b) < OWN:
        return False
    known = dict(zip(theirs.steps, theirs.keys, strict=True))
    before = [(step, key) for step, key in zip(mine.steps[: stretch.a], mine.keys, strict=False) if step in known]
    same_steps = mine.steps[stretch.a] == theirs.steps[stretch.b]
    return not same_steps or sum(known[step] != key for step, key in before) >= OWN


def _span(series: _Series, start: int, length: int) -> tuple[int, int]:
    return series.steps[start], series.steps[start + length - 1]
