"""The learning rate of a log, refitted as a schedule: which rows lie on it, and whether it is left and entered again.

A scheduler is a function of its own step count, so honest rows lie on few curves, one after the other, up to rounding. The
count may lag behind the log's steps by whole steps (4.x logs the rate after the scheduler's step and 5.x before it; mixed
precision skips steps). Rows that leave a curve to which later rows return were not written by that scheduler.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from modelguard.logs.curves import Curve, Point, candidates
from modelguard.logs.rows import basename
from modelguard.types.logs import Identity, LogRecord, Run, Standing

RULE = "log-learning-rate"
NAMES = frozenset({"learning_rate", "lr", "learning-rate", "learning rate", "lr-adamw", "lr-adam"})
FLOOR, CEILING = 1e-30, 1e6  # rates below count as 0; beyond the other end lies no learning rate
MIN_ROWS = 8
FEW = 6  # different rates that are constants, whatever their digits
MAX_ROWS = 4000  # of one segment; a longer one is thinned evenly
PROBED = 250  # rows on which candidates are compared
PIECES = 5
MAX_LAG = 24  # steps that the scheduler may lag behind the log, or 2 % of the run
MAIN_SHARE = 0.4  # of the rows that a curve must hold for rows beside it to be judged by it
KNOWN_SHARE = 0.7  # of the rows that must lie on some curve

Numbers = Mapping[str, float | int | str]


@dataclass(frozen=True, slots=True)
class Piece:
    """One curve and the rows (indices) that lie on it."""

    curve: Curve
    rows: frozenset[int]


def schedule(run: Run) -> Iterator[Identity]:
    """What the learning rates of each segment of a run come to."""
    for part in _series(run):
        points = part[:: -(-len(part) // MAX_ROWS)]
        if len(points) >= MIN_ROWS:
            yield _judge(run, points)


def _series(run: Run) -> Iterator[list[Point]]:
    """(step, rate) of the training records, in stretches whose steps only grow."""
    part: list[Point] = []
    for entry in run.training:
        rate = _rate(entry)
        if rate is None:
            continue
        if part and entry.step <= part[-1][0]:
            if entry.step == part[-1][0]:
                continue
            yield part
            part = []
        part.append((entry.step, rate))
    if part:
        yield part


def _rate(entry: LogRecord) -> float | None:
    found = (value for name, value in entry.values.items() if basename(name).lower() in NAMES)
    return next((value if value > FLOOR else 0.0 for value in found if 0 <= value <= CEILING), None)


def _judge(run: Run, points: Sequence[Point]) -> Identity:
    tolerance = resolution([rate for _, rate in points])
    pieces = fit(points, tolerance)
    named = {index: number for number, piece in enumerate(pieces) for index in piece.rows}
    numbers: Numbers = {"rows": len(points), "rows_on_schedule": len(named), "first_step": points[0][0], "last_step": points[-1][0]}
    if (tolerance > 1e-3 and len(pieces) != 1) or len(named) < KNOWN_SHARE * len(points):
        return _identity("schedule", Standing.OPEN, "the learning rate follows no schedule that is known here", numbers)
    strays = _strays(pieces, len(points))
    if strays:
        first, last = points[strays[0]], points[strays[-1]]
        text = (
            f"{len(strays)} of {len(points)} learning rates, from step {first[0]} to step {last[0]}, leave the schedule ({_names(pieces)})"
        )
        more = {"strays": len(strays), "first_stray": first[0], "last_stray": last[0], "worst": _worst(pieces, points, strays)}
        return _identity("rewritten", Standing.BROKEN, f"{text} to which the rows after them return", {**numbers, **more})
    return _ending(run, points, pieces, numbers)


def _ending(run: Run, points: Sequence[Point], pieces: Sequence[Piece], numbers: Numbers) -> Identity:
    """Where the last curve comes to its end, against the steps that the run planned."""
    last = next((piece.curve for piece in pieces if len(points) - 1 in piece.rows or len(points) - 2 in piece.rows), None)
    planned = int(run.claimed.get("max_steps", 0))
    text = f"{len(points)} learning rates lie on one schedule ({_names(pieces)})"
    if last is None or last.end is None or not math.isfinite(last.end) or last.end > 1e15:
        return _identity("schedule", Standing.HOLDS, text, numbers)
    numbers = {**numbers, "schedule_end": round(last.end), "max_steps": planned}
    if last.end <= points[-1][0] + MAX_LAG:
        return _identity("schedule", Standing.HOLDS, text, numbers)
    text = f"{text} that ends at step {round(last.end)}; the last learning rate is of step {points[-1][0]}"
    beyond = planned > 0 and last.end > 1.02 * planned + MAX_LAG
    return _identity("schedule-end" if beyond else "schedule", Standing.BROKEN if beyond else Standing.HOLDS, text, numbers)


def fit(points: Sequence[Point], tolerance: float) -> list[Piece]:
    """At most five curves that hold the most rows, best first; a row belongs to the first curve that it lies on."""
    left = list(range(len(points)))
    pieces: list[Piece] = []
    while len(pieces) < PIECES and len(left) >= 4:
        curve = _best([points[index] for index in left], tolerance)
        if curve is None:
            break
        rows = _on(curve, points, left, tolerance)
        if len(rows) < curve.parameters + 2:
            break
        pieces.append(Piece(curve, frozenset(rows)))
        left = [index for index in left if index not in pieces[-1].rows]
    return pieces


def _best(points: Sequence[Point], tolerance: float) -> Curve | None:
    """The candidate on which most of the points lie; the one of fewer parameters where two hold as many."""
    peak = max(rate for _, rate in points)
    probes = points[:: -(-len(points) // PROBED)]
    best, most = None, (0, 0)
    slacks = [(step, rate, _slack(rate, peak, tolerance)) for step, rate in probes]
    for curve in candidates(points):
        score = (_held(curve, slacks, most[0]), -curve.parameters)
        if score > most:
            best, most = curve, score
            if most[0] == len(probes):  # lines are offered before cosines: no simpler curve comes later
                break
    return best


def _held(curve: Curve, probes: Sequence[tuple[int, float, float]], least: int) -> int:
    """How many of the probes (step, rate, slack) lie on a curve; -1 once they cannot be as many as `least`."""
    misses = len(probes) - least
    for step, rate, slack in probes:
        misses -= not abs(curve.at(step) - rate) <= slack
        if misses < 0:
            return -1
    return misses + least


def _on(curve: Curve, points: Sequence[Point], left: Sequence[int], tolerance: float) -> list[int]:
    """The rows that lie on a curve whose own step count lags behind by whole steps, more and more as steps are skipped."""
    peak = max(rate for _, rate in points)
    longest = max(MAX_LAG, (points[-1][0] - points[0][0]) // 50)
    rows: list[int] = []
    lag = 0
    for index in left:
        step, rate = points[index]
        slack = _slack(rate, peak, tolerance)
        for more in (lag, *_lags(curve, step, rate, lag)):
            if abs(more) <= longest and abs(curve.at(step - more) - rate) <= slack:
                rows.append(index)
                lag = more
                break
    return rows


def _lags(curve: Curve, step: int, rate: float, lag: int) -> tuple[int, ...]:
    """The whole lag at which the curve would have this rate, by its slope; a lag grows, or shrinks by one with the version."""
    if curve.name == "constant":
        return ()
    slope = curve.at(step - lag - 1) - curve.at(step - lag)  # the change of the rate for one step of lag
    if not slope or not math.isfinite(slope):
        return ()
    guess = (rate - curve.at(step - lag)) / slope
    if not -1.5 < guess < 1e6:
        return ()
    return tuple(lag + round(guess) + nudge for nudge in (0, 1, -1) if round(guess) + nudge >= -1)


def _slack(rate: float, peak: float, tolerance: float) -> float:
    return tolerance * rate + 0.1 * tolerance * peak


def resolution(rates: Sequence[float]) -> float:
    """How far, as a share of itself, a rate may lie from its schedule: double precision, float32, or the digits it is printed with."""
    if len(set(rates)) <= FEW:
        return 1e-9  # a constant is printed alike every time
    shortest = max(len(repr(rate).split("e")[0].replace(".", "").strip("0")) for rate in rates)
    if shortest < 12:
        return max(1e-9, 4 * 10.0 ** (1 - shortest))
    single = all(rate > 1e38 or struct.unpack("<f", struct.pack("<f", rate))[0] == rate for rate in rates)
    return 1e-6 if single else 1e-9


def _strays(pieces: Sequence[Piece], count: int) -> list[int]:
    """The rows between two rows of one main curve that do not lie on it."""
    for piece in pieces:
        if len(piece.rows) >= max(4, MAIN_SHARE * count):
            inside = [index for index in range(min(piece.rows), max(piece.rows)) if index not in piece.rows]
            blocks = [[index for _, index in block] for _, block in groupby(enumerate(inside), key=lambda pair: pair[1] - pair[0])]
            blocks = [block for block in blocks if _returns(piece, block)]
            if blocks and sum(map(len, blocks)) < count / 2:
                return [index for block in blocks for index in block]
    return []


def _returns(piece: Piece, block: Sequence[int]) -> bool:
    """Whether at least three rows of the curve lie on both sides of a block: one that a curve meets by chance is no return."""
    return sum(index < block[0] for index in piece.rows) >= 3 and sum(index > block[-1] for index in piece.rows) >= 3


def _worst(pieces: Sequence[Piece], points: Sequence[Point], strays: Sequence[int]) -> float:
    """The largest distance of a stray row from the main curve, as a share of the curve's own rate."""
    main = max(pieces, key=lambda piece: len(piece.rows)).curve
    return max(abs(points[index][1] / (main.at(points[index][0]) or math.inf) - 1) for index in strays)


def _names(pieces: Sequence[Piece]) -> str:
    order = sorted(pieces, key=lambda piece: min(piece.rows))
    names = [piece.curve.name for piece in order]
    return ", ".join(name for name, after in pairwise([*names, ""]) if name != after)


def _identity(name: str, standing: Standing, text: str, numbers: Numbers) -> Identity:
    return Identity(rule=RULE, name=name, standing=standing, text=text, numbers=numbers)
