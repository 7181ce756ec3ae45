"""Stretches of a log that are another stretch multiplied and moved: losses a·x + b, exact to the printed digits.

Two noisy curves agree in the direction of dozens of changes in a row only where one was made from the other; such places are then fitted.
A curve without noise proves nothing, and the same steps of two logs with b = 0 are one run in two units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from modelguard.logs.cadence import main_series
from modelguard.logs.rows import is_loss
from modelguard.types.logs import Identity, Run, Standing

RULE = "log-copied"
LENGTH = 24  # changes in a row whose directions agree
TURNS = 6  # of direction that such a stretch must have
NOISE = 20.0  # times what printing hides that neighbours must differ by
MAX_RECORDS = 50_000
MAX_RUNS = 16  # that are held against one another
MAX_TRIED = 2000  # places whose directions agree, by chance where a log is long
MAX_DECIMALS = 8
MAX_LENGTH = 1000  # records that a place is followed for


@dataclass(frozen=True, slots=True)
class Shape:
    """The losses of a run, their steps, how far a printed one may lie from what was meant, and the directions of their changes."""

    source: str
    steps: list[int]
    losses: list[float]
    slack: float
    words: list[tuple[int, int]]  # where a stretch begins, and its directions as bits
    known: dict[int, int]  # directions -> where they stand first


@dataclass(frozen=True, slots=True)
class Match:
    """Records [i, i + length) of one series are a times those from j of the other, plus b."""

    i: int
    j: int
    length: int
    a: float
    b: float


def affine(mine: Shape, others: Sequence[Shape]) -> Iterator[Identity]:
    """Whether a stretch of a run is made from another one of it, or from one of another run."""
    own = _search(mine, mine, apart=True)
    if own is not None:
        text = f"steps {_span(mine, own.i, own.length)} are {_line(own)} of steps {_span(mine, own.j, own.length)}, to the printed digits"
        yield _broken("affine", text, own)
    for theirs in others[:MAX_RUNS]:
        match = _search(mine, theirs, apart=False)
        if match is not None:
            there = f"steps {_span(theirs, match.j, match.length)} of {theirs.source}"
            text = f"steps {_span(mine, match.i, match.length)} are {_line(match)} of {there}, to the printed digits"
            yield _broken("affine-run", text, match)


def _broken(name: str, text: str, match: Match) -> Identity:
    numbers: dict[str, float | int | str] = {"length": match.length, "factor": match.a, "offset": match.b}
    return Identity(rule=RULE, name=name, standing=Standing.BROKEN, text=text, numbers=numbers)


def shape(run: Run) -> Shape:
    """What of a run is held against others."""
    rows = [(entry.step, _loss(entry.values)) for entry in main_series(run)[:MAX_RECORDS]]
    kept = [(step, loss) for step, loss in rows if abs(loss) < 1e12]
    losses = [loss for _, loss in kept]
    decimals = next((places for places in range(2, MAX_DECIMALS + 1) if all(round(loss, places) == loss for loss in losses)), None)
    single = 1e-7 * max(map(abs, losses), default=0.0)  # float32, as event files have it
    words, known = list(_words(losses)), dict[int, int]()
    for place, word in words:
        known.setdefault(word, place)
    slack = single if decimals is None else 0.5001 * 10.0**-decimals
    return Shape(run.source, [step for step, _ in kept], losses, slack, words, known)


def _loss(values: Mapping[str, float]) -> float:
    return next((value for name, value in sorted(values.items()) if is_loss(name)), math.nan)


def _search(mine: Shape, theirs: Shape, *, apart: bool) -> Match | None:
    """The first place where the directions agree and the values fit; in one series (`apart`) the two must not overlap."""
    tried = 0
    for i, word in mine.words:
        for found in (theirs.known.get(word), theirs.known.get(word ^ ((1 << LENGTH) - 1))):  # the second where the copy is upside down
            if found is None or (apart and found + LENGTH >= i):
                continue
            tried += 1
            match = _fit(mine, theirs, i, found)
            if match is not None and not _honest(mine, theirs, match, apart=apart):
                return match
        if tried > MAX_TRIED:
            break
    return None


def _words(losses: Sequence[float]) -> Iterator[tuple[int, int]]:
    """(start, directions of the next changes as bits) of each stretch that turns often and never stands still."""
    word, still, mask = 0, 0, (1 << LENGTH) - 1
    for place, (before, after) in enumerate(pairwise(losses)):
        word = (word << 1 | (after > before)) & mask
        still = LENGTH if after == before else max(0, still - 1)
        if place >= LENGTH - 1 and not still and ((word ^ (word >> 1)) & (mask >> 1)).bit_count() >= TURNS:
            yield place - LENGTH + 1, word


def _fit(mine: Shape, theirs: Shape, i: int, j: int) -> Match | None:
    """The line through the stretch, if every record lies on it as far as printing tells, and noise is above what printing hides."""
    y, x = mine.losses[i : i + LENGTH + 1], theirs.losses[j : j + LENGTH + 1]
    if fmean(abs(after - before) for before, after in pairwise(y)) < NOISE * mine.slack or mine.slack <= 0:
        return None
    centre = fmean(x)
    spread = math.fsum((value - centre) ** 2 for value in x)
    if not spread > 0:
        return None
    a = math.fsum((one - centre) * two for one, two in zip(x, y, strict=True)) / spread
    b = fmean(y) - a * centre
    slack = mine.slack + abs(a) * theirs.slack
    length = 0
    while length < MAX_LENGTH and i + length < len(mine.losses) and j + length < len(theirs.losses):
        if abs(a * theirs.losses[j + length] + b - mine.losses[i + length]) > 2 * slack:
            break
        length += 1
    return Match(i, j, length, a, b) if length > LENGTH else None


def _honest(mine: Shape, theirs: Shape, match: Match, *, apart: bool) -> bool:
    """Whether it is a plain repetition, which is another relation's, or the same steps of one run in another unit."""
    if abs(match.a - 1) < 1e-3 and abs(match.b) <= 4 * mine.slack + 1e-3 * abs(mine.losses[match.i]):
        return True
    same = mine.steps[match.i] == theirs.steps[match.j]
    return same and (apart or abs(match.b) <= 10 * mine.slack + 1e-4 * abs(mine.losses[match.i]))


def _span(series: Shape, start: int, length: int) -> str:
    return f"{series.steps[start]} to {series.steps[min(start + length, len(series.steps)) - 1]}"


def _line(match: Match) -> str:
    return f"{match.a:.4g} times the losses {'+' if match.b >= 0 else '-'} {abs(match.b):.4g}"
