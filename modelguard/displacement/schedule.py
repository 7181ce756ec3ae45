"""The learning rate of every optimizer step, from above, out of a log that holds some of them.

Between two records a rate is taken as the larger of both, and on the straight line between them where a neighbouring stretch lies on
the same line (linear schedules, the trainers' default). Where a maximum can lie between records, the stretches beside it are drawn on
to where they meet. Trainers log the rate of the step or of the one after it: both readings are covered, and one step at the peak is added.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from modelguard.displacement.bounds import NoBound
from modelguard.types.logs import LogRecord, Run, TrainingLog

RATE = re.compile(r"(?:^|[/_.\- ])(?:lr|learning[_ ]?rate)(?:$|[/_.\- 0-9])", re.IGNORECASE)
NORM = re.compile(r"(?:^|[/_.\- ])grad(?:ient)?[_ ]?norm$", re.IGNORECASE)
MANY_UPDATES = re.compile(r"^(?:train/)?(?:ppo|objective|policy|env)/|(?:^|/)reward(?:_std|_mean)?$", re.IGNORECASE)
COUNTER = re.compile(
    r"(?:^|/)(?:global_step|optimi[sz]er[_ ]steps?|optim[_ ]steps?|num_updates|n_updates|gradient[_ ]steps?|update[_ ]steps?)$"
)
MANY = 1.5  # updates a step: a counter that starts in the middle of an interval reads a little more than one
COUNTS_UPDATES = ("hf-trainer", "llama-factory", "megatron", "deepspeed", "torchtitan", "nemo", "nanogpt")
HF_NAMES = {"train/learning_rate", "train/epoch"}  # as the Hugging Face Trainer's reporters name them, by its optimizer steps
MAX_STEPS = 4_000_000
STRAIGHT = 1e-3  # relative difference of slopes that are one line: logs round rates to a few digits
Points = Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Rates (T,) of the steps that a log accounts for, in order; `warm` steps came before the first of them and are not counted.

    `norms` (T,) holds the gradients' norms, NaN where none is logged.
    """

    rates: NDArray[np.float64]
    norms: NDArray[np.float64]
    warm: int
    last: int
    counting: tuple[str, ...]  # why a step need not be one update


@dataclass(frozen=True, slots=True)
class Window:
    """The steps that count, after `first` up to `last`; all of them by default."""

    first: int = 0
    last: int = MAX_STEPS


def schedule(log: TrainingLog, peak: float | None = None, window: Window | None = None) -> Schedule:
    """The schedule that a log tells of; runs that are not one another's copies are added up. `peak` is the declared learning rate.

    A window counts only where the log tells of one run. Raises NoBound where the log holds no rates.
    """
    runs = _distinct([run for run in log.runs if len(_points(run.records)) > 0])
    if not runs:
        raise NoBound("the log holds no learning rates, which bound how far the weights may move", advice="log the learning rate")
    parts = [_of_run(run, peak, window if window is not None and len(runs) == 1 else Window()) for run in runs]
    rates = np.concatenate([part.rates for part in parts])
    warm = max(part.warm for part in parts)
    if len(rates) + warm > MAX_STEPS:
        raise NoBound(f"the log tells of more than {MAX_STEPS} steps, which are not added up")
    if not len(rates):
        raise NoBound("the log tells of no step between the two checkpoints", advice="commit the log of those steps")
    return Schedule(
        rates=np.append(rates, rates.max()),
        norms=np.append(np.concatenate([part.norms for part in parts]), np.nan),
        warm=warm,
        last=max(end_of(run) for run in runs),
        counting=tuple(dict.fromkeys(doubt for run, part in zip(runs, parts, strict=True) for doubt in _counting(run, part.late))),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one run adds: rates and norms of its steps, the steps before them, and of those the ones that its log leaves out."""

    rates: NDArray[np.float64]
    norms: NDArray[np.float64]
    warm: int
    late: int


def _of_run(run: Run, peak: float | None, window: Window) -> _Part:
    """Rates of one run's steps over all its stretches (what was rolled back counts too), and the steps before its first record."""
    stretches = _stretches(_points(run.records))
    gap = _cadence(run)
    first = stretches[0][0][0]
    warm = 0 if first <= gap + 1 else first - gap
    rates: list[NDArray[np.float64]] = []
    norms: list[NDArray[np.float64]] = []
    for index, points in enumerate(stretches):
        start = warm if index == 0 else max(0, points[0][0] - gap)
        end = max(end_of(run), points[-1][0]) if index == len(stretches) - 1 else points[-1][0] + gap - 1
        if end - start + warm + sum(map(len, rates)) > MAX_STEPS:
            raise NoBound(f"{run.source}: more than {MAX_STEPS} steps, which are not added up")
        cut = slice(max(0, window.first - start), max(0, window.last - start))
        rates.append(fill(points, start, end, peak)[cut])
        norms.append(_norms(run if len(stretches) == 1 else None, start, end)[cut])
    return _Part(rates=np.concatenate(rates), norms=np.concatenate(norms), warm=max(warm, window.first), late=warm)


def fill(points: Points, start: int, end: int, peak: float | None = None) -> NDArray[np.float64]:
    """The rates of steps start+1 … end (from above), given (step, rate) at rising steps of which the last is at most `end`."""
    steps, rates = [step for step, _ in points], [rate for _, rate in points]
    parts = [np.full(max(0, steps[0] - start), _head(points, start, peak))]
    parts += [_between(steps, rates, index, start, peak) for index in range(len(points) - 1)]
    tail = rates[-1]
    if len(points) > 1 and rates[-1] > rates[-2]:
        tail = _capped(_line(points[-2], points[-1], end), rates[-1], peak)
    parts.append(np.full(max(0, end - steps[-1]), tail))
    return np.concatenate(parts)


def _head(points: Points, start: int, peak: float | None) -> float:
    """The rate before the first record: falling stretches are drawn back, doubled where they flatten out (inverse roots, exponentials)."""
    first = points[0][1]
    if len(points) < 2 or points[1][1] > first:
        return first if len(points) > 1 else _capped(2 * first, first, peak)
    back = _line(points[1], points[0], start)
    flattens = len(points) > 2 and _slope(points[0], points[1]) < (1 + STRAIGHT) * _slope(points[1], points[2]) < 0
    return _capped(max(back, 2 * first) if flattens else back, first, peak)


def _between(steps: list[int], rates: list[float], index: int, start: int, peak: float | None) -> NDArray[np.float64]:
    """Rates of the steps after record `index` up to the next record."""
    here, there = (steps[index], rates[index]), (steps[index + 1], rates[index + 1])
    before = (steps[index - 1], rates[index - 1]) if index else (0, 0.0) if start == 0 < here[0] else None
    after = (steps[index + 2], rates[index + 2]) if index + 2 < len(steps) else None
    own, count = _slope(here, there), there[0] - here[0]
    beside = [_slope(before, here)] if before and index else []
    beside += [_slope(there, after)] if after else []
    if any(abs(own - slope) <= STRAIGHT * abs(own) for slope in beside):
        line = here[1] + own * np.arange(count + 1)
        straight: NDArray[np.float64] = np.maximum(line[:-1], line[1:])
        return straight
    larger = max(here[1], there[1])
    up = _line(before, here, there[0]) if before and here[1] > before[1] else None
    down = _line(after, there, here[0]) if after and after[1] < there[1] else None
    if up is not None and down is not None:
        larger = _capped(min(up, down), larger, peak)
    elif (down is not None and there[1] > here[1]) or (up is not None and there[1] < here[1]):
        larger = _capped(down if down is not None else up or 0.0, larger, peak)
    return np.full(count, larger)


def _slope(a: tuple[int, float], b: tuple[int, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def _line(a: tuple[int, float], b: tuple[int, float], step: int) -> float:
    """The rate at `step` on the line through two records."""
    return b[1] + _slope(a, b) * (step - b[0])


def _capped(drawn: float, seen: float, peak: float | None) -> float:
    """What was drawn on, no more than a declared peak that the log does not contradict, and no less than what was seen."""
    return max(seen, drawn if peak is None or peak < seen * (1 - 1e-6) else min(drawn, peak))


def _points(records: Iterable[LogRecord]) -> list[tuple[int, float]]:
    """(step, rate) in file order: the largest of all parameter groups that a record names; NaN and negative numbers are none."""
    points = []
    for record in records:
        rates = [value for name, value in record.values.items() if RATE.search(name) and 0 <= value < 1e3]
        if rates:
            points.append((record.step, max(rates)))
    return points


def _stretches(points: Points) -> list[list[tuple[int, float]]]:
    """Stretches of rising steps; of several rates at one step the largest counts."""
    parts: list[list[tuple[int, float]]] = []
    for step, rate in points:
        if parts and step == parts[-1][-1][0]:
            parts[-1][-1] = (step, max(rate, parts[-1][-1][1]))
        elif parts and step > parts[-1][-1][0]:
            parts[-1].append((step, rate))
        else:
            parts.append([(step, rate)])
    return parts


def _cadence(run: Run) -> int:
    steps = [step for step, _ in _points(run.records)]
    gaps = sorted(after - before for before, after in pairwise(steps) if after > before)
    return max(run.cadence, gaps[len(gaps) // 2] if gaps else 0, int(run.claimed.get("logging_steps", 0)), 1)


def end_of(run: Run) -> int:
    """The step up to which a log accounts for training: its own claim, else one cadence less a step after its last record."""
    last = max(record.step for record in run.records)
    claimed = int(run.claimed.get("global_step", 0))
    return max(last, claimed) if claimed else last + _cadence(run) - 1


def _norms(run: Run | None, start: int, end: int) -> NDArray[np.float64]:
    """The gradients' norms of steps start+1 … end by the step that they are logged at, the largest of several; NaN for the others."""
    norms = np.full(end - start, np.nan)
    for record in run.training if run is not None else ():
        for name, value in record.values.items():
            if start < record.step <= end and NORM.search(name) and 0 <= value < np.inf:
                norms[record.step - start - 1] = np.fmax(norms[record.step - start - 1], value)
    return norms


def _counting(run: Run, late: int) -> Iterable[str]:
    """Why a step of this log need not be one update, or its first step not the first."""
    if any(MANY_UPDATES.search(name) for record in run.records[:200] for name in record.values):
        yield "the log is of reinforcement learning, where several updates may stand behind one step"
    if counter := _faster_counter(run):
        yield f"the log's own {counter} counts several updates behind one step"
    if run.format not in COUNTS_UPDATES and not {name for record in run.records for name in record.values} >= HF_NAMES:
        yield f"a step of a log in the format {run.format} need not be one update"
    if late and run.format != "hf-trainer":
        yield f"the log begins after step {late}: what came before may lie elsewhere"


def _faster_counter(run: Run) -> str:
    """The name of a column that counts updates and rises by more than one a step; empty without one."""
    ends: dict[str, list[tuple[int, float]]] = {}
    for record in run.training:
        for name, value in record.values.items():
            if COUNTER.search(name) and 0 <= value < 1e15:
                ends.setdefault(name, []).append((record.step, value))
    for name, points in sorted(ends.items()):
        (first, low), (last, high) = points[0], points[-1]
        if last > first and high - low > MANY * (last - first):
            return f"{name[:40]!a}"
    return ""


def _distinct(runs: Sequence[Run]) -> list[Run]:
    """The runs without those that tell the same training as a longer one: equal rates and equal losses at the steps they share."""
    kept: list[Run] = []
    for run in sorted(runs, key=lambda run: (-len(_points(run.records)), run.source)):
        if not any(_same(run, other) for other in kept):
            kept.append(run)
    return sorted(kept, key=lambda run: run.source)


def _same(one: Run, other: Run) -> bool:
    ours, theirs = _told(one), _told(other)
    shared = ours.keys() & theirs.keys()
    near = sum(all(abs(a - b) <= 1e-3 * abs(b) + 1e-4 for a, b in zip(ours[step], theirs[step], strict=True)) for step in shared)
    return len(shared) >= 2 and 2 * len(shared) >= len(ours) and near >= 0.9 * len(shared)


def _told(run: Run) -> dict[int, tuple[float, float]]:
    """(rate scaled to the run's largest, loss) by step."""
    rates = dict(_points(run.records))
    top = max(rates.values(), default=0.0) or 1.0
    losses = {record.step: value for record in run.training for name, value in record.values.items() if name.rpartition("/")[2] == "loss"}
    return {step: (rates[step] / top, losses[step]) for step in rates.keys() & losses.keys()}
