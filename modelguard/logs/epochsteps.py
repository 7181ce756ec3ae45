"""Steps of rows that name only an epoch: which multiples of which logging interval print as these epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

GRID = 64  # lengths of an epoch that are tried
MAX_INTERVALS = 2000  # logging intervals that are tried
MAX_ROWS = 20_000
SLACK = 1.02  # of half the last digit: printing rounds twice


def steps_of(epochs: Sequence[float], digits: int, total: int, end: float) -> tuple[int, ...]:
    """The step of each row, for epochs printed to `digits` decimals in a run of `total` steps that ended at epoch `end`.

    Empty where the epochs are printed too coarsely to tell one record from the next, or fit no interval. The largest
    interval that fits is taken, so that a hole stays one; of neighbouring ones that fit alike the roundest.
    """
    half = 0.5 * 10.0**-digits
    if len(epochs) < 3 or len(epochs) > MAX_ROWS or total < 1 or end <= 4 * half:
        return ()
    fits = list(_fits(epochs, half, total, end))
    if not fits:
        return ()
    counts = max(fits, key=lambda fit: fit[0])[1]
    alike = [interval for interval, found in fits if found == counts]
    interval = min(alike, key=lambda value: (value % 10 != 0, value % 5 != 0, value))
    return tuple(count * interval for count in counts)


def _fits(epochs: Sequence[float], half: float, total: int, end: float) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Each logging interval, with the record numbers, that some length of an epoch makes fit."""
    shortest, longest = total / (end + half), total / (end - half)
    lengths = [shortest + (longest - shortest) * place / (GRID - 1) for place in range(GRID)]
    least = max(1, int(2 * half * shortest) + 1)
    most = min(total // 2, least + MAX_INTERVALS)
    for interval in range(least, most + 1):
        for length in lengths:
            counts = _counts(epochs, interval / length, half * SLACK)
            if counts and counts[-1] * interval <= total:
                yield interval, counts
                break


def _counts(epochs: Sequence[float], apart: float, allowed: float) -> tuple[int, ...]:
    """The number of each row in a series of records `apart` epochs from one another; empty where a row fits none."""
    counts: list[int] = []
    for epoch in epochs:
        count = round(epoch / apart)
        if count <= (counts[-1] if counts else 0) or abs(count * apart - epoch) > allowed:
            return ()
        counts.append(count)
    ones = sum(after - before == 1 for before, after in pairwise(counts))
    return tuple(counts) if 2 * ones >= len(counts) - 1 else ()
