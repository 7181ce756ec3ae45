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

from modelguard.fingerprint.displacement_bounds import NoBound
from modelguard.types.logs import LogRecord, Run, TrainingLog

RATE = re.compile(r"(?:^|[/_.\- ])(?:lr|learning[_ ]?rate)(?:$|[/_.\- 0-9])", re.IGNORECASE)
NORM = re.compile(r"(?:^|[/_.\- ])grad(?:ient)?[_ ]?norm$", re.IGNORECASE)
MANY_UPDATES = re.compile(r"^(?:train/)?(?:ppo|objective|policy|env)/|(?:^|/)reward(?:_std|_mean)?$", re.IGNORECASE)
COUNTS_UPDATES = ("hf-trainer", "llama-factory", "megatron", "deepspeed", "torchtitan", "nemo", "nanogpt")
HF_NAMES = {"train/learning_rate", "train/epoch"}  # as the Hugging Face Trainer's reporters name them, by its optimizer steps
MAX_STEPS = 4_000_000
STRAIGHT = 1e-3  # relative difference of slopes that are one line: logs round rates to a few digits
Points = Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Rates (T,) of the steps that a log accounts for, in order; `warm` steps came before the first of them and are not in the log."""

    rates: NDArray[np.float64]
    warm: int
    last: int
    norms: NDArray[np.float64] | None
    doubts: tuple[str, ...]


def schedule(log: TrainingLog, peak: float | None = None) -> Schedule:
    """The schedule that a log tells of; runs that are not one another's copies are added up. `peak` is the declared learning rate.

    Raises NoBound where the log holds no rates.
    """
    runs = _distinct([run for run in log.runs if len(_points(run.records)) > 0])
    if not runs:
        raise NoBound("the log holds no learning rates, which bound how far the weights may move", advice="log the learning rate")
    parts, warm = [], 0
    for run in runs:
        values, before = _of_run(run, peak)
        parts.append(values)
        warm = max(warm, before)
    rates = np.concatenate(parts)
    if len(rates) + warm > MAX_STEPS:
        raise NoBound(f"the log tells of more than {MAX_STEPS} steps, which are not added up")
    return Schedule(
        rates=np.append(rates, rates.max()),
        warm=warm,
        last=max(_end(run) for run in runs),
        norms=_norms(runs, len(rates)),
        doubts=tuple(dict.fromkeys(doubt for run in runs for doubt in _doubts(run, warm))),
    )


def _of_run(run: Run, peak: float | None) -> tuple[NDArray[np.float64], int]:
    """Rates of one run's steps over all its stretches (what was rolled back counts too), and the steps before its first record."""
    stretches = _stretches(_points(run.records))
    gap = _cadence(run)
    first = stretches[0][0][0]
    warm = 0 if first <= gap + 1 else first - gap
    parts: list[NDArray[np.float64]] = []
    for index, points in enumerate(stretches):
        start = warm if index == 0 else max(0, points[0][0] - gap)
        end = max(_end(run), points[-1][0]) if index == len(stretches) - 1 else points[-1][0] + gap - 1
        if end - start + warm + sum(map(len, parts)) > MAX_STEPS:
            raise NoBound(f"{run.source}: more than {MAX_STEPS} steps, which are not added up")
        parts.append(fill(points, start, end, peak))
    return np.concatenate(parts), warm


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


def _end(run: Run) -> int:
    """The step up to which a log accounts for training: its own claim, else one cadence less a step after its last record."""
    last = max(record.step for record in run.records)
    claimed = int(run.claimed.get("global_step", 0))
    return max(last, claimed) if claimed else last + _cadence(run) - 1


def _norms(runs: Sequence[Run], steps: int) -> NDArray[np.float64] | None:
    """The gradient norms, where every step of a single run logs one."""
    if len(runs) != 1:
        return None
    norms = {record.step: value for record in runs[0].training for name, value in record.values.items() if NORM.search(name) and value >= 0}
    return np.array(list(norms.values())) if len(norms) >= steps > 0 else None


def _doubts(run: Run, warm: int) -> Iterable[str]:
    if any(MANY_UPDATES.search(name) for record in run.records[:200] for name in record.values):
        yield "the log is of reinforcement learning, where several updates may stand behind one step"
    if run.format not in COUNTS_UPDATES and not {name for record in run.records for name in record.values} >= HF_NAMES:
        yield f"a step of a log in the format {run.format} need not be one update"
    if warm and run.format != "hf-trainer":
        yield f"the log begins after step {warm}: what came before may lie elsewhere"


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
