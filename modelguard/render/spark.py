"""Pictures in one line of characters: they survive comments and summaries, which strip images."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TypeVar

from modelguard.types.report import Band, Lineage, Matrix, Strip, Timeline

T = TypeVar("T")

BARS = "▁▂▃▄▅▆▇█"
UNKNOWN = "·"
GAP = "░"
SHADES = " ░▒▓█"
WIDTH = 60
MAX_ROWS = 24


def strip(picture: Strip, width: int = WIDTH) -> str:
    """One bar a layer, from 0 to 1. Of several layers that share a bar the lowest shows: a stranger among friends must not drown."""
    return "".join(UNKNOWN if not known else _bar(min(known)) for known in map(_known, _buckets(picture.values, width)))


def timeline(picture: Timeline, width: int = WIDTH) -> str:
    """The metric over steps, lowest to highest value; stretches of steps that are not in the log are shaded."""
    if not picture.points:
        return ""
    edges = [step for gap in picture.gaps for step in gap]
    first, last = min(picture.points[0][0], *edges, picture.points[-1][0]), max([picture.points[-1][0], *edges])
    span = max(1, last - first)
    largest = max(abs(value) for _, value in picture.points) or 1.0  # divided by first, so that no sum overflows
    columns: list[list[float]] = [[] for _ in range(width)]
    for step, value in picture.points:
        columns[min(width - 1, (step - first) * width // span)].append(value / largest)
    shaded = {column for gap in picture.gaps for column in _columns(gap, first, span, width)}
    return _line([sum(values) / len(values) if values else None for values in columns], shaded)


def matrix(picture: Matrix, most: int = MAX_ROWS) -> tuple[str, ...]:
    """A line of blocks for every row, the darker the closer to the top, between its axes and a legend.

    Of several layers that share a block the largest value shows.
    """
    rows, across = _buckets(range(len(picture.rows)), most), _buckets(range(len(picture.columns)), most)
    if not rows or not across:
        return ()
    wide = len(str(rows[-1][0]))
    blocks = (
        "".join(_shade([picture.darkness(picture.values[row][column]) for row in down for column in along]) * 2 for along in across)
        for down in rows
    )
    last = str(across[-1][0]) if len(across) > 1 else ""
    ruler = f"{' ' * wide}  0{last:>{max(0, 2 * len(across) - 1)}}"
    levels = (f"{sign}{sign} {picture.darkest * place / (len(SHADES) - 1):.2f}" for place, sign in enumerate(SHADES) if sign != " ")
    return (
        f"down: {picture.down}, across: {picture.along}",
        ruler,
        *(f"{down[0]:>{wide}} │{line}│" for down, line in zip(rows, blocks, strict=True)),
        f"{'  '.join(levels)}  {UNKNOWN * 2} not measured",
    )


def band(picture: Band, width: int = WIDTH) -> str:
    """A line of the measure: controls are ▒, the model's interval is ─ with ● at its value, │ is what it must exceed to stand out."""
    ends = [value for value in (picture.low, picture.high, picture.limit, *picture.controls) if isfinite(value)]
    if not isfinite(picture.value) or not ends:
        return ""
    first, span = min(0.0, *ends), max(1.0, *ends) - min(0.0, *ends)

    def column(value: float) -> int:
        place = (value - first) / span * (width - 1)
        return max(0, min(width - 1, round(place))) if isfinite(place) else 0

    line = [UNKNOWN] * width
    for value in picture.controls:
        line[column(value)] = "▒"
    for place in range(column(picture.low), column(picture.high) + 1):
        line[place] = "─"
    line[column(picture.limit)], line[column(picture.value)] = "│", "●"
    return "".join(line)


def lineage(picture: Lineage) -> tuple[str, ...]:
    """A line for every edge."""
    return tuple(f"{edge.child} ← {edge.parent}: {edge.label}" for edge in picture.edges)


def _shade(darkness: Sequence[float | None]) -> str:
    known = _known(darkness)
    return SHADES[round(max(known) * (len(SHADES) - 1))] if known else UNKNOWN


def _line(means: Sequence[float | None], shaded: set[int]) -> str:
    """The characters; a column without a record, inside or between records, repeats its left neighbour."""
    known = _known(means)
    low, high = min(known), max(known)
    characters: list[str] = []
    for place, mean in enumerate(means):
        if mean is not None:
            characters.append(_bar((mean - low) / (high - low) if high > low else 0.5))
        elif place in shaded:
            characters.append(GAP)
        else:
            characters.append(characters[-1] if characters and characters[-1] != GAP else UNKNOWN)
    return "".join(characters)


def _columns(gap: tuple[int, int], first: int, span: int, width: int) -> range:
    """The columns of a gap, at least one."""
    start, end = ((step - first) * width // span for step in gap)
    return range(min(start, width - 1), min(width, max(end, start + 1)) + (1 if end == start else 0))


def _buckets(values: Sequence[T], width: int) -> list[Sequence[T]]:
    count = min(width, len(values))
    return [values[place * len(values) // count : (place + 1) * len(values) // count] for place in range(count)]


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and isfinite(value)]


def _bar(value: float) -> str:
    return BARS[max(0, min(len(BARS) - 1, int(value * len(BARS))))]
