"""Pictures as SVG for the HTML report: drawn from the report's exhibits alone, with axes and units, in the page's own colours.

No script, no style of a stranger, no reference to anything outside. Every picture carries its title and its caption as text, so that
nobody needs to see it to know what it says. Colours are classes of the page, which has a light and a dark set of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from math import floor, isfinite, log10

from modelguard.render.text import html
from modelguard.types.report import Band, Exhibit, Lineage, Matrix, Strip, Timeline

WIDTH = 760
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 8, 34
HEADING = 16  # the height of a panel's name
PANEL, BETWEEN = 88, 30
STRIP_HEIGHT = 72
CELL = 18
MAX_CELLS = 32  # rows or columns of a matrix that are drawn; more are drawn smaller
LEGEND = 11  # the height of a level of a heat map's legend
NODE_WIDTH, NODE_HEIGHT, NODE_STEP = 270, 34, 64
CLIPPED = 36
LARGEST = 1e150

Points = Sequence[tuple[float, float]]


def picture(exhibit: Exhibit) -> str:
    """A figure with its caption; "" where there is nothing to draw."""
    if isinstance(exhibit, Strip):
        body = _strip(exhibit)
    elif isinstance(exhibit, Timeline):
        body = _timeline(exhibit)
    elif isinstance(exhibit, Lineage):
        body = _lineage(exhibit)
    elif isinstance(exhibit, Band):
        body = _band(exhibit)
    else:
        body = _matrix(exhibit)
    if not body:
        return ""
    caption = f"<strong>{html(exhibit.title)}</strong>{f': {html(exhibit.caption)}' if exhibit.caption else ''}"
    return f"<figure>\n{body}\n<figcaption>{caption}</figcaption>\n</figure>"


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) inside [low, high], at most `most` and one more."""
    if not (isfinite(low) and isfinite(high)) or high - low <= 1e-12 * max(abs(low), abs(high)):
        return [low]
    rough = (high - low) / most
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = -floor(-low / step + 1e-9)
    return [float(f"{place * step:.15g}") for place in range(first, floor(high / step + 1e-9) + 1)]


def _figure(width: float, height: float, label: str, parts: Iterator[str]) -> str:
    inner = "\n".join(parts)
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{html(label)}">\n{inner}\n</svg>'


def _text(x: float, y: float, text: str, anchor: str = "middle", kind: str = "") -> str:
    styled = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{styled}>{html(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _box(x: float, y: float, width: float, height: float, kind: str, told: str = "") -> str:
    title = f"<title>{html(told)}</title>" if told else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.5, width):.1f}" height="{max(0.5, height):.1f}" class="{kind}">{title}</rect>'


def _strip(strip: Strip) -> str:
    """One bar a layer, from 0 to 1."""
    if not strip.values:
        return ""
    return _figure(WIDTH, TOP + STRIP_HEIGHT + BOTTOM, f"{strip.title}: {strip.caption}", _bars(strip))


def _bars(strip: Strip) -> Iterator[str]:
    room = (WIDTH - LEFT - RIGHT) / len(strip.values)
    bottom = TOP + STRIP_HEIGHT
    for level in (0.0, 0.5, 1.0):
        y = bottom - level * STRIP_HEIGHT
        yield _line(LEFT, y, WIDTH - RIGHT, y, "grid")
        yield _text(LEFT - 6, y + 4, f"{level:g}", "end", "tick")
    for place, (label, value) in enumerate(zip(strip.labels, strip.values, strict=True)):
        x, width = LEFT + place * room + room * 0.08, room * 0.84
        if value is None or not isfinite(value):
            yield _box(x, TOP, width, STRIP_HEIGHT, "unmeasured", f"{label}: not measured")
        else:
            height = max(0.0, min(1.0, value)) * STRIP_HEIGHT
            yield _box(x, bottom - height, width, height, "bar" if value >= 0.5 else "bar low", f"{label}: {value:.3f}")
    for place in sorted({round(value) for value in ticks(0, len(strip.values) - 1, 10)}):
        yield _text(LEFT + (place + 0.5) * room, bottom + 14, str(place), "middle", "tick")
    yield _text((LEFT + WIDTH - RIGHT) / 2, bottom + 29, "layer", "middle", "axis")


def _timeline(timeline: Timeline) -> str:
    """The metric and its companions, one panel each, over one axis; gaps shaded, restarts dashed."""
    panels = [(timeline.metric or "metric", "", timeline.points), *((panel.name, panel.unit, panel.points) for panel in timeline.panels)]
    shown = [(name, unit, finite) for name, unit, points in panels if (finite := _finite(points))]
    if not shown:
        return ""
    places = [place for _, _, points in shown for place, _ in points] + [float(edge) for gap in timeline.gaps for edge in gap]
    first, last = min(places), max(places)
    height = TOP + HEADING + len(shown) * (PANEL + BETWEEN) - BETWEEN + BOTTOM
    label = f"{timeline.title}: {timeline.caption}"
    return _figure(WIDTH, height, label, _stacked(timeline, shown, first, last if last > first else first + 1))


def _stacked(timeline: Timeline, shown: Sequence[tuple[str, str, Points]], first: float, last: float) -> Iterator[str]:
    def across(place: float) -> float:
        return LEFT + (place - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    bottom = TOP + HEADING + len(shown) * (PANEL + BETWEEN) - BETWEEN
    for start, end in timeline.gaps:
        told = f"nothing between {timeline.axis} {start} and {end}"
        yield _box(across(start), TOP, max(2.0, across(end) - across(start)), bottom - TOP, "gap", told)
    for restart in timeline.restarts:
        yield _line(across(restart), TOP, across(restart), bottom, "restart")
    for number, (name, unit, points) in enumerate(shown):
        heading = TOP + number * (PANEL + BETWEEN) + HEADING
        yield _text(LEFT, heading - 5, f"{name}, {unit}" if unit else name, "start", "name")
        yield from _panel(heading, _broken(points, timeline.gaps), across)
    for tick in ticks(first, last, 8):
        yield _line(across(tick), bottom, across(tick), bottom + 4, "grid")
        yield _text(across(tick), bottom + 16, _short(tick), "middle", "tick")
    yield _text((LEFT + WIDTH - RIGHT) / 2, bottom + 30, timeline.axis, "middle", "axis")


def _panel(top: float, parts: Sequence[Points], across: Callable[[float], float]) -> Iterator[str]:
    """The lines of one quantity, with room above and below them."""
    values = [value for points in parts for _, value in points]
    low, high = min(values), max(values)
    spare = 0.06 * (high - low) if high - low > 1e-12 * max(abs(low), abs(high)) else (abs(low) or 1) / 2
    low, high = low - spare, high + spare

    def up(value: float) -> float:
        return top + PANEL - (value - low) / (high - low) * PANEL

    for tick in ticks(low, high, 3):
        yield _line(LEFT, up(tick), WIDTH - RIGHT, up(tick), "grid")
        yield _text(LEFT - 6, up(tick) + 4, _short(tick), "end", "tick")
    for points in parts:
        path = " ".join(f"{'L' if place else 'M'}{across(x):.1f} {up(y):.1f}" for place, (x, y) in enumerate(points))
        yield f'<path d="{path}" class="line"/>'


def _broken(points: Points, gaps: Sequence[tuple[int, int]]) -> list[Points]:
    """The points in stretches that no line joins across a gap."""
    stretches: list[list[tuple[float, float]]] = []
    for x, y in points:
        before = stretches[-1][-1][0] if stretches else None
        if before is None or any(before <= start and x >= end for start, end in gaps if end > start):
            stretches.append([])
        stretches[-1].append((x, y))
    return list(stretches)


def _finite(points: Points) -> Points:
    """The points that a picture has room for: finite, and not so large that differences overflow."""
    return [(float(place), value) for place, value in points if isfinite(place) and abs(value) < LARGEST]


def _short(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.6g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _lineage(lineage: Lineage) -> str:
    """The model on the left, what it is said or shown to come from on the right; a row for each."""
    if not lineage.edges:
        return ""
    label = "; ".join(f"{edge.child} from {edge.parent}: {edge.label}" for edge in lineage.edges)
    return _figure(WIDTH, TOP + len(lineage.edges) * NODE_STEP, label, _tree(lineage))


def _tree(lineage: Lineage) -> Iterator[str]:
    right, row = WIDTH - NODE_WIDTH - RIGHT, 0
    for child, group in groupby(lineage.edges, key=lambda edge: edge.child):
        edges = list(group)
        own = TOP + (row + (len(edges) - 1) / 2) * NODE_STEP
        yield from _node(RIGHT, own, child, "node own")
        for edge in edges:
            y = TOP + row * NODE_STEP
            start, end, middle = RIGHT + NODE_WIDTH, right, NODE_HEIGHT / 2
            bend = (start + end) / 2
            curve = f"M{start:.1f} {own + middle:.1f} C{bend:.1f} {own + middle:.1f} {bend:.1f} {y + middle:.1f} {end:.1f} {y + middle:.1f}"
            yield f'<path d="{curve}" class="edge {html(edge.tone)}"/>'
            yield from _node(right, y, edge.parent, f"node {html(edge.tone)}")
            yield _text(end - 10, y + middle + (16 if y > own else -6), edge.label, "end", f"tick {html(edge.tone)}")
            row += 1


def _node(x: float, y: float, name: str, kind: str) -> Iterator[str]:
    shown = name if len(name) <= CLIPPED else f"{name[: CLIPPED // 2 - 1]}…{name[-CLIPPED // 2 :]}"
    yield f'<g><title>{html(name)}</title><rect x="{x:.1f}" y="{y:.1f}" width="{NODE_WIDTH}" height="{NODE_HEIGHT}" rx="6" class="{kind}"/>'
    yield f"{_text(x + NODE_WIDTH / 2, y + NODE_HEIGHT / 2 + 4, shown, 'middle', 'label')}</g>"


def _matrix(matrix: Matrix) -> str:
    """A heat map, rows down and columns across; the darker, the closer to 1."""
    if not matrix.rows or not matrix.columns:
        return ""
    cell = CELL * min(1.0, MAX_CELLS / max(len(matrix.rows), len(matrix.columns)))
    height = TOP + HEADING + max(cell * len(matrix.rows), LEGEND * 11) + BOTTOM
    return _figure(WIDTH, height, f"{matrix.title}: {matrix.caption}", _cells(matrix, cell))


def _cells(matrix: Matrix, cell: float) -> Iterator[str]:
    top = TOP + HEADING
    yield _text(LEFT, top - 5, f"{matrix.down} (down)", "start", "axis")
    for row, (name, values) in enumerate(zip(matrix.rows, matrix.values, strict=True)):
        for column, (other, value) in enumerate(zip(matrix.columns, values, strict=True)):
            dark = matrix.darkness(value)
            told = f"{name} and {other}: {f'{value:.3f}' if dark is not None else 'not measured'}"
            shade = f"heat heat{round(dark * 10)}" if dark is not None else "unmeasured"
            yield _box(LEFT + column * cell, top + row * cell, cell - 0.5, cell - 0.5, shade, told)
    bottom = top + cell * len(matrix.rows)
    for place in sorted({round(tick) for tick in ticks(0, len(matrix.rows) - 1, 6)}):
        yield _text(LEFT - 6, top + (place + 0.5) * cell + 4, str(place), "end", "tick")
    for place in sorted({round(tick) for tick in ticks(0, len(matrix.columns) - 1, 6)}):
        yield _text(LEFT + (place + 0.5) * cell, bottom + 14, str(place), "middle", "tick")
    yield _text(LEFT, bottom + 29, f"{matrix.along} (across)", "start", "axis")
    yield from _legend(matrix, LEFT + max(cell * len(matrix.columns), 7 * len(matrix.down)) + 24, top)


def _legend(matrix: Matrix, x: float, top: float) -> Iterator[str]:
    """The shades with what they stand for, the darkest on top."""
    for level in range(11):
        yield _box(x, top + (10 - level) * LEGEND, CELL, LEGEND, f"heat heat{level}")
    for level in (0, 5, 10):
        yield _text(x + CELL + 6, top + (10 - level) * LEGEND + 9, f"{matrix.darkest * level / 10:.2f}", "start", "tick")


def _band(band: Band) -> str:
    """One axis: the controls as a shaded stretch with a tick each, the limit dashed, the model's interval as a bar."""
    ends = [band.value, band.low, band.high, band.limit, *band.controls]
    if not band.controls or not all(isfinite(end) and abs(end) < LARGEST for end in ends):
        return ""
    return _figure(WIDTH, TOP + HEADING + 40 + BOTTOM, f"{band.title}: {band.caption}", _beside(band, min(0.0, *ends), max(1.0, *ends)))


def _beside(band: Band, first: float, last: float) -> Iterator[str]:
    def across(value: float) -> float:
        return LEFT + (value - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    top, bottom = TOP + HEADING, TOP + HEADING + 40
    low, high = min(band.controls), max(band.controls)
    yield _box(across(low), top, across(high) - across(low), 40, "unmeasured", f"controls: {low:.3f} to {high:.3f}")
    for value in band.controls:
        yield _line(across(value), top, across(value), bottom, "grid")
    yield _line(across(band.limit), top, across(band.limit), bottom, "restart")
    told = f"this model: {band.value:.3f}, interval {band.low:.3f} to {band.high:.3f}"
    yield _box(across(band.low), top + 14, across(band.high) - across(band.low), 12, "bar" if band.low <= band.limit else "bar low", told)
    yield _line(across(band.value), top + 6, across(band.value), bottom - 6, "line")
    for tick in ticks(first, last, 8):
        yield _text(across(tick), bottom + 16, _short(tick), "middle", "tick")
    yield _text(across((low + high) / 2), top - 5, "controls", "middle", "name")
    yield _text(
        across(band.value), top - 5 if across(band.value) - across((low + high) / 2) > 90 else bottom + 30, "this model", "middle", "name"
    )
