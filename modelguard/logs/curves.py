"""The curves that learning-rate schedules are made of, each found from a few of its points.

Every schedule of transformers, torch and the pretraining frameworks is warm-up, plateau and decay joined together, and each
piece is a line in s after a transform of the rate (v: constant, warm-up, linear; 1/v²: inverse square root; √v: polynomial
of power 2; ln v: exponential) or a cosine A + B·cos(ωs + φ) (with or without a floor, whatever warm-up and length it has).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Point = tuple[int, float]  # step, learning rate
POSITIONS = 24  # starting points that are tried for each spacing


@dataclass(frozen=True, slots=True)
class Curve:
    """One piece of a schedule: its name, the rate at a step, its parameters' count, and where it comes to its end (None: nowhere)."""

    name: str
    at: Callable[[float], float]
    parameters: int
    end: float | None


TRANSFORMS: tuple[tuple[str, Callable[[float], float], Callable[[float], float]], ...] = (
    ("linear", lambda v: v, lambda t: t),
    ("inverse square root", lambda v: 1 / (v * v), lambda t: 1 / math.sqrt(t) if t > 0 else math.inf),
    ("polynomial of power 2", math.sqrt, lambda t: t * t if t > 0 else 0.0),
    ("exponential", math.log, lambda t: math.exp(t) if t < 700 else math.inf),
)


def candidates(points: Sequence[Point]) -> Iterator[Curve]:
    """Curves through a few of the points, near and far apart. Points must be in order of their steps, rates positive or 0."""
    for gap in _gaps(len(points)):
        for index in _starts(len(points) - gap):
            yield from _lines(points[index], points[index + gap])
    for gap in _gaps(len(points) // 3):
        for index in _starts(len(points) - 2 * gap - max(1, gap // 2)):
            shift = max(1, gap // 2)
            curve = _cosine([points[index + place] for place in (0, gap, 2 * gap, shift, gap + shift, 2 * gap + shift)])
            if curve is not None:
                yield curve


def _gaps(count: int) -> list[int]:
    """Spacings: neighbours, and an eighth, a quarter and a half of the points."""
    return sorted({1, 2, count // 8, count // 4, count // 2} & set(range(1, max(count, 1))))


def _starts(count: int) -> list[int]:
    """At most `POSITIONS` indices spread over [0, count)."""
    return sorted({index * count // POSITIONS for index in range(POSITIONS)}) if count > 0 else []


def _lines(first: Point, second: Point) -> Iterator[Curve]:
    """The curves of each transform through two points; equal rates make a constant."""
    (s, v), (u, w) = first, second
    if v == w:
        yield Curve("constant", lambda _step: v, 1, None)
        return
    for name, forth, back in TRANSFORMS:
        if name != "linear" and (min(v, w) <= 0 or min(v, w) < 1e-12 * max(v, w)):
            continue
        a, b = forth(v), (forth(w) - forth(v)) / (u - s)
        end = s - a / b if name == "linear" and b < 0 else None
        rising = name == "linear" and b > 0
        yield Curve("warm-up" if rising else name, lambda step, a=a, b=b, back=back: back(a + b * (step - s)), 2, end)  # type: ignore[misc]


def _cosine(points: Sequence[Point]) -> Curve | None:
    """The cosine through two triples of evenly spaced points: v₋ + v₊ = 2c·v + k with c = cos ωd and k = 2A(1 - c)."""
    (s0, a0), (s1, a1), (s2, a2), (t0, b0), (t1, b1), (t2, b2) = points
    d = s1 - s0
    if not d == s2 - s1 == t1 - t0 == t2 - t1 or a1 == b1:
        return None
    c = ((b0 + b2) - (a0 + a2)) / (2 * (b1 - a1))
    if not -0.999999 < c < 1 - 1e-9:
        return None
    omega, centre = math.acos(c) / d, ((a0 + a2) - 2 * c * a1) / (2 * (1 - c))
    x = a1 - centre  # the deviation at s1, and its quadrature from the outer two points
    y = (a0 - a2) / (2 * math.sin(omega * d))
    phase, height = math.atan2(y, x), math.hypot(x, y)
    end = s1 + ((math.pi - phase) % (2 * math.pi)) / omega
    return Curve("cosine", lambda step: centre + height * math.cos(omega * (step - s1) + phase), 4, end)
