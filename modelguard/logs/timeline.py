"""The picture of one run: its loss over steps, with what is missing and where it restarted."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import isfinite

from modelguard.types.logs import Jump, Run
from modelguard.types.report import Panel, Timeline

MAX_POINTS = 400
_RESTARTS = (Jump.RESUME, Jump.ROLLBACK, Jump.REWIND_SKIP, Jump.COUNTER_RESET)
_GAPS = (Jump.MISSING, Jump.HEAD, Jump.TAIL)


COMPANIONS = (  # what is drawn under the loss, where it is logged: (name, unit, the names that trainers give it)
    ("learning rate", "", re.compile(r"(^|[/_. ])(lr|learning_?rate)", re.IGNORECASE)),
    ("throughput", "per second", re.compile(r"(tok|sample|step|it|token)s?[_/ ]?(per|/)[_ ]?s|throughput|tps$", re.IGNORECASE)),
    ("gradient norm", "", re.compile(r"grad[_ ]?norm", re.IGNORECASE)),
)


def timeline(run: Run) -> Timeline:
    """A run as at most 400 points. Values that are not finite have no place in a picture and are counted in the caption."""
    metric = _metric(run)
    series = [(record.step, record.values[metric]) for record in run.records if metric in record.values]
    points = [(step, value) for step, value in series if math.isfinite(value)]
    wild = len(series) - len(points)
    gaps = tuple((jump.before, jump.after) for jump in run.unexplained(*_GAPS))
    restarts = tuple(jump.after for jump in run.discontinuities if jump.kind in _RESTARTS)
    caption = f"{len(series)} records of {metric}" if metric else "no metric to draw"
    caption += f", {wild} not finite" if wild else ""
    caption += f", {len(gaps)} gap{'s' if len(gaps) > 1 else ''}" if gaps else ""
    return Timeline(
        title=run.source,
        metric=metric,
        points=downsample(points),
        gaps=gaps,
        restarts=restarts,
        caption=caption,
        panels=_panels(run, metric),
    )


def _panels(run: Run, metric: str) -> tuple[Panel, ...]:
    """Learning rate, throughput and gradient norm, as far as the training records name them."""
    counts = Counter(name for record in run.training for name in record.values)
    panels = []
    for name, unit, pattern in COMPANIONS:
        logged = [key for key in sorted(counts) if key != metric and counts[key] > 1 and pattern.search(key)]
        if logged:
            chosen = max(logged, key=lambda key: (counts[key], -len(key)))
            points = [(record.step, value) for record in run.training if isfinite(value := record.values.get(chosen, math.nan))]
            panels.append(Panel(name=name, unit=unit, points=downsample(points)))
    return tuple(panels)


def downsample(points: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """At most 400 of the points, first and last among them: of each bucket its lowest and highest, so that spikes stay visible."""
    if len(points) <= MAX_POINTS:
        return tuple(points)
    buckets = MAX_POINTS // 2 - 1
    inner = points[1:-1]
    bounds = [len(inner) * index // buckets for index in range(buckets + 1)]
    kept = [points[0]]
    for start, end in pairwise(bounds):
        order = sorted(range(start, end), key=lambda index: inner[index][1])
        kept += [inner[index] for index in sorted({order[0], order[-1]})]
    return (*kept, points[-1])


def _metric(run: Run) -> str:
    """The training loss logged most often, else a loss of an evaluation, else the metric logged most often; empty without any."""
    for records in (run.training, run.records):
        counts = Counter(name for record in records for name in record.values)
        losses = {name: count for name, count in counts.items() if "loss" in name.lower()}
        if losses:
            return max(sorted(losses), key=losses.__getitem__)
    counts = Counter(name for record in run.records for name in record.values)
    return max(sorted(counts), key=counts.__getitem__, default="")
