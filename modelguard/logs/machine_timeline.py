"""The picture of a machine's log: how busy its GPUs were, over minutes, with the steps that the training log claims beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean, median

from modelguard.logs.timeline import downsample
from modelguard.types.logs import Run, Sample, Usage
from modelguard.types.report import Panel, Timeline

HOLE = 5.0  # times the usual interval between looks from which a silence of the machine's log is shown
LEAST_HOLE = 60.0  # seconds
MAX_STEPS = 400
ZONES = [half * 1800.0 for half in range(-52, 53)]  # zones lie at most 26 hours apart


def machine_timeline(usage: Usage, runs: Sequence[Run]) -> Timeline | None:
    """One machine log as a picture, or None where it has no samples."""
    if not usage.samples:
        return None
    start = usage.samples[0].time
    metric, points = "GPU utilisation, %", _mean(usage.samples, start, lambda sample: sample.utilisation)
    power = _mean(usage.samples, start, lambda sample: sample.power)
    if not points:
        metric, points = "GPU power, W", power
    panels = [Panel(name="GPU power", unit="W", points=power)] if power and power is not points else []
    panels += [
        Panel(name=f"step of {run.source}", unit="", points=steps) for run in runs[:2] if (steps := _steps(run, start, usage.samples))
    ]
    gaps = _holes(usage.samples, start)
    devices = len({sample.device for sample in usage.samples})
    caption = f"{len(usage.samples)} looks at {devices} GPUs" + (f", {len(gaps)} hole{'s' if len(gaps) > 1 else ''}" if gaps else "")
    shown = tuple((int(place), value) for place, value in points)
    return Timeline(
        title=usage.source, metric=metric, points=shown, gaps=gaps, restarts=(), caption=caption, panels=tuple(panels), axis="minute"
    )


def _mean(samples: Sequence[Sample], start: float, value: Callable[[Sample], float | None]) -> tuple[tuple[float, float], ...]:
    """The mean over devices, minute by minute."""
    minutes: dict[int, list[float]] = defaultdict(list)
    for sample in samples:
        measured = value(sample)
        if measured is not None:
            minutes[int((sample.time - start) / 60)].append(measured)
    return downsample([(minute, fmean(values)) for minute, values in sorted(minutes.items())])


def _steps(run: Run, start: float, samples: Sequence[Sample]) -> tuple[tuple[float, float], ...]:
    """The steps of a run over the same minutes, where its records name a time within the machine's log, zones aside."""
    timed = [(record.time, record.step) for record in run.training if record.time is not None]
    if not timed:
        return ()
    end, moved = samples[-1].time, _zone(timed[0][0], timed[-1][0], start, samples[-1].time)
    inside = [((time + moved - start) / 60, float(step)) for time, step in timed if start <= time + moved <= end]
    return tuple(inside[:: max(1, len(inside) // MAX_STEPS)])


def _zone(first: float, last: float, start: float, end: float) -> float:
    """The half hours by which a training log's clock is moved so that most of it lies within the machine's log; the fewest that do."""
    return min(ZONES, key=lambda zone: (-(min(last + zone, end) - max(first + zone, start)), abs(zone)))


def _holes(samples: Sequence[Sample], start: float) -> tuple[tuple[int, int], ...]:
    """Stretches, in minutes, in which the machine's log is silent much longer than between two looks."""
    times = sorted({sample.time for sample in samples})
    if len(times) < 3:
        return ()
    usual = median(after - before for before, after in pairwise(times))
    limit = max(LEAST_HOLE, HOLE * usual)
    return tuple((int((before - start) / 60), int((after - start) / 60)) for before, after in pairwise(times) if after - before > limit)
