"""How often a log writes a training record, and where it changes its mind about that."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise

from modelguard.types.logs import LogRecord, Run

REGULAR_SHARE = 0.5  # of the differences that must equal the cadence
HOLES_SHARE = 0.2  # of the differences that may jump over records before the log counts as irregular
STRETCH = 3  # equal differences in a row that make a rhythm of their own


def main_series(run: Run) -> tuple[LogRecord, ...]:
    """The training records that carry the loss logged most often.

    Loggers mix rhythms (a loss every 50 steps, an average at each epoch's end); one metric has one. Without a loss: all of them.
    """
    training = run.training
    counts = Counter(name for record in training for name in record.values if "loss" in name.lower())
    if not counts:
        return training
    best = max(sorted(counts), key=counts.__getitem__)
    return tuple(record for record in training if best in record.values)


def differences(segments: Sequence[Sequence[int]]) -> list[int]:
    """The steps between neighbouring records, within segments."""
    return [after - before for steps in segments for before, after in pairwise(steps)]


def cadence(segments: Sequence[Sequence[int]], claimed: int) -> int:
    """The usual number of steps between records: the mode of their differences; 0 when there is none.

    `claimed` is the interval that the log itself states (0: none). It decides where records are too few, and vouches for a
    mode that equals it; without it a log in which many differences jump over records has no cadence.
    """
    gaps = differences(segments)
    counts = Counter(gaps)
    usual, count = max(counts.items(), key=lambda item: (item[1], -item[0]), default=(0, 0))
    steps = {step for segment in segments for step in segment}
    if count < 2:
        fits = claimed > 0 and bool(steps) and all(step % claimed == 0 or step == 1 for step in steps)
        return claimed if fits else 0
    if usual == claimed:
        return usual
    odd = sum(gap >= 2 * usual for steps in segments for gap in _restless(steps, usual))
    regular = count >= REGULAR_SHARE * len(gaps) and odd <= max(1, HOLES_SHARE * len(gaps))
    return usual if regular or _in_rhythm(segments, usual) else 0


def rhythm_changes(steps: Sequence[int], usual: int) -> dict[int, int]:
    """Where differences above the cadence are a rhythm of their own: index of the difference -> that rhythm.

    A rhythm is at least three equal differences in a row (at the start, the way from step 0 counts) in a log that only
    ever speeds up or only ever slows down around it. A stretch that is taken out of a regular log leaves one long difference.
    """
    gaps = [after - before for before, after in pairwise(steps)]
    before = [math.inf, *accumulate(gaps, min)]  # the smallest difference before an index, and after one but for the last row's
    after = [*accumulate(reversed([*gaps[:-1], math.inf]), min)][::-1]
    found: dict[int, int] = {}
    start = 0
    while start < len(gaps):
        end = start
        while end + 1 < len(gaps) and gaps[end + 1] == gaps[start]:
            end += 1
        length = end - start + 1 + (start == 0 and abs(steps[0] - gaps[0]) <= 1)
        settled = before[start] >= gaps[start] or end + 1 >= len(gaps) or after[end + 1] >= gaps[start]
        if gaps[start] > usual and length >= STRETCH and settled:
            found.update(dict.fromkeys(range(start, end + 1), gaps[start]))
        start = end + 1
    return found


def _restless(steps: Sequence[int], usual: int) -> list[int]:
    """The differences of a segment that belong to no rhythm."""
    changes = rhythm_changes(steps, usual)
    return [after - before for index, (before, after) in enumerate(pairwise(steps)) if index not in changes]


def _in_rhythm(segments: Sequence[Sequence[int]], usual: int) -> bool:
    """Whether every difference is the cadence or below, or part of another rhythm."""
    return all(gap < 2 * usual for steps in segments for gap in _restless(steps, usual))
