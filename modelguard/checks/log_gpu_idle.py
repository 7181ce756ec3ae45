"""Training during which no GPU worked, as far as the machines' own logs tell.

Logs of `nvidia-smi`, the DCGM exporter and Slurm's accounting are read beside a training log that names times. The clocks
of two logs may lie whole or half hours apart (time zones, several hosts): of all such offsets under which the logs cover one
another, the one that speaks best for the training log counts. So a wall clock alone accuses nobody: medium severity at most.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import median

from modelguard.types.findings import Claim, Level, found, not_applicable, ok
from modelguard.types.logs import LogRecord, Run, Sample, TrainingLog

BUSY = 5.0  # percent of utilisation from which a GPU counts as working
DRAWS = 1.5  # times the least power of a device from which it counts as working, where utilisation is not logged
LONG = 600.0  # seconds: shorter pauses (a checkpoint, an evaluation, a slow scrape) are not shown
FEW = 3  # samples that a stretch needs before they say that nothing worked
OFFSETS = sorted((half * 1800.0 for half in range(-52, 53)), key=abs)  # zones lie at most 26 hours apart
MAX_STRETCHES = 1000  # the longest are judged
MAX_TIME = 1e11  # seconds: a time beyond it is none
HELD = 0.9  # of a stretch that must lie in one job's time
NAMED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """Training of one process without a step back: the times and steps of its records."""

    source: str
    times: tuple[float, ...]
    first: int
    last: int

    @property
    def seconds(self) -> float:
        return self.times[-1] - self.times[0]


class _Activity:
    """When GPUs were looked at, and when one worked."""

    def __init__(self, moments: Sequence[tuple[float, bool]]) -> None:
        self.times = [time for time, _ in moments]
        self.busy = [working for _, working in moments]
        self._working = [0, *accumulate(int(working) for working in self.busy)]
        self.interval = median(after - before for before, after in pairwise(self.times)) if len(self.times) > 1 else 0.0

    def within(self, stretch: _Stretch, offset: float) -> range:
        """The looks during a stretch, when the training log's clock is moved by `offset` seconds."""
        return range(bisect_left(self.times, stretch.times[0] + offset), bisect_right(self.times, stretch.times[-1] + offset))

    def covered(self, stretch: _Stretch, offset: float) -> float:
        """Seconds of a stretch that looks at the usual interval account for."""
        return min(len(self.within(stretch, offset)) * self.interval, stretch.seconds)

    def idle(self, stretch: _Stretch, offset: float) -> bool:
        """Whether enough looks fell into a stretch, over at least half of it, and none saw a GPU work."""
        inside = self.within(stretch, offset)
        enough = len(inside) >= FEW and 2 * self.covered(stretch, offset) >= stretch.seconds
        return enough and self._working[inside.stop] == self._working[inside.start]


def check(log: TrainingLog) -> Iterator[Claim]:
    """While the log says that steps were taken, a GPU worked."""
    if not any(usage.samples or usage.allocations for usage in log.usage):
        yield not_applicable("no log of a machine's GPUs lies beside the training log")
        return
    stretches = sorted((part for run in log.judged for part in _stretches(run)), key=lambda part: -part.seconds)[:MAX_STRETCHES]
    if not stretches:
        yield not_applicable("the training log names no times to hold against the machine's log")
        return
    activity = _Activity(_moments(log))
    if activity.times:
        yield from _judge(activity, stretches)
    yield from _allocated(log, stretches)


def _judge(activity: _Activity, stretches: Sequence[_Stretch]) -> Iterator[Claim]:
    offset = _offset(activity, stretches)
    seen = [part for part in stretches if activity.within(part, offset)]
    idle = [part for part in seen if activity.idle(part, offset)]
    counts = {"samples": len(activity.times), "stretches": len(stretches), "seen": len(seen), "idle": len(idle)}
    numbers = {**counts, "offset_hours": offset / 3600}
    if not seen:
        yield not_applicable("the machine's log and the training log tell of different times")
        return
    for part in idle[:NAMED]:
        yield found(
            f"no GPU worked while the log took steps {part.first} to {part.last} ({len(activity.within(part, offset))} samples)",
            severity=Level.MEDIUM,
            confidence=Level.MEDIUM,
            numbers={**numbers, "first_step": part.first, "last_step": part.last, "seconds": round(part.seconds, 3)},
            where=part.source,
            settle="the GPU log of the machine that took these steps, with the time zones of both logs",
        )
    shown = [claim for part in seen if part not in idle for claim in _pauses(activity, part, offset)]
    yield from shown[:NAMED]
    if not idle:
        moved = f", its clock moved by {offset / 3600:g} hours" if offset else ""
        yield ok(f"a GPU worked in each of {len(seen)} stretches of training that the machine's log saw{moved}", numbers=numbers)


def _offset(activity: _Activity, stretches: Sequence[_Stretch]) -> float:
    """The offset between the two clocks under which the logs cover one another, and then the fewest stretches are idle."""
    covered = {offset: sum(activity.covered(part, offset) for part in stretches) for offset in OFFSETS}
    least = 0.95 * max(covered.values())
    possible = [offset for offset in OFFSETS if covered[offset] >= least]
    return min(possible, key=lambda offset: sum(activity.idle(part, offset) for part in stretches))


def _pauses(activity: _Activity, part: _Stretch, offset: float) -> Iterator[Claim]:
    """Long holes in the machine's log, and long times without work, during which the training log goes on taking steps."""
    inside = activity.within(part, offset)
    long = max(LONG, 10 * activity.interval)
    for index in inside[:-1]:
        yield from _shown(part, activity.times[index], activity.times[index + 1], offset, long, "the machine's log has a hole of")
    start: int | None = None
    for index in (*inside, inside.stop):
        resting = index < inside.stop and not activity.busy[index]
        if resting and start is None:
            start = index
        elif not resting and start is not None:
            yield from _shown(part, activity.times[start], activity.times[index - 1], offset, long, "no GPU worked for")
            start = None


def _shown(part: _Stretch, start: float, end: float, offset: float, long: float, what: str) -> Iterator[Claim]:
    """A pause with two training records or more in it; the log explains others: it paused too."""
    records = bisect_left(part.times, end - offset) - bisect_right(part.times, start - offset)
    if end - start >= long and records >= 2:
        yield found(
            f"{what} {end - start:.0f} seconds in which the training log has {records} records",
            severity=Level.LOW if what.startswith("no") else Level.INFO,
            confidence=Level.LOW,
            numbers={"seconds": round(end - start, 3), "records": records, "begins": round(start, 3), "offset_hours": offset / 3600},
            where=part.source,
            settle="the log of the machine for this time",
        )


def _allocated(log: TrainingLog, stretches: Sequence[_Stretch]) -> Iterator[Claim]:
    """Whether the scheduler had given GPUs to a job during each stretch."""
    spans = [(job.start, math.inf if job.end is None else job.end) for usage in log.usage for job in usage.allocations if job.gpus != 0]
    if not spans:
        return

    def without(offset: float) -> list[_Stretch]:
        return [part for part in stretches if not any(_held(part, start - offset, end - offset) for start, end in spans)]

    offset = min(OFFSETS, key=lambda candidate: len(without(candidate)))
    bare = without(offset)
    numbers = {"jobs": len(spans), "stretches": len(stretches), "without": len(bare), "offset_hours": offset / 3600}
    if len(bare) == len(stretches):
        yield not_applicable("the scheduler's jobs and the training log are of different times")
    elif bare:
        text = f"no job held a GPU while the log took steps {bare[0].first} to {bare[0].last}"
        settle = "the scheduler's record of the job that took these steps"
        yield found(text, severity=Level.LOW, confidence=Level.MEDIUM, numbers=numbers, where=bare[0].source, settle=settle)
    else:
        yield ok(f"each of {len(stretches)} stretches of training lies in a job that held a GPU", numbers=numbers)


def _held(part: _Stretch, start: float, end: float) -> bool:
    """Whether nearly all of a stretch, which one process wrote, lies in the time of one job."""
    return min(part.times[-1], end) - max(part.times[0], start) >= HELD * part.seconds


def _stretches(run: Run) -> Iterator[_Stretch]:
    """The training records with a time, split where another process writes, a step goes back or the clock does."""
    part: list[LogRecord] = []
    for record in run.training:
        if record.time is None or not abs(record.time) < MAX_TIME:
            continue
        if part and (record.session != part[-1].session or record.step < part[-1].step or record.time < (part[-1].time or 0.0)):
            yield from _stretch(run, part)
            part = []
        part.append(record)
    yield from _stretch(run, part)


def _stretch(run: Run, part: Sequence[LogRecord]) -> Iterator[_Stretch]:
    times = tuple(record.time for record in part if record.time is not None)
    if len(times) > 1 and times[-1] > times[0]:
        yield _Stretch(source=run.source, times=times, first=part[0].step, last=part[-1].step)


def _moments(log: TrainingLog) -> list[tuple[float, bool]]:
    """Each time at which GPUs were looked at, and whether one worked; looks that cannot tell are left out."""
    moments: dict[float, bool] = {}
    for usage in log.usage:
        floors = _floors(usage.samples)
        for sample in usage.samples:
            working = _working(sample, floors)
            if working is not None and abs(sample.time) < MAX_TIME:
                moments[sample.time] = moments.get(sample.time, False) or working
    return sorted(moments.items())


def _floors(samples: Sequence[Sample]) -> dict[str, float]:
    """The least power of each device whose power ever rises well above it: those tell rest from work."""
    drawn: dict[str, tuple[float, float]] = {}
    for sample in samples:
        if sample.power is not None and sample.power > 0:
            low, high = drawn.get(sample.device, (sample.power, sample.power))
            drawn[sample.device] = (min(low, sample.power), max(high, sample.power))
    return {device: low for device, (low, high) in drawn.items() if high >= DRAWS * low}


def _working(sample: Sample, floors: dict[str, float]) -> bool | None:
    if sample.utilisation is not None:
        return sample.utilisation >= BUSY
    if sample.power is None or sample.device not in floors:
        return None
    return sample.power >= DRAWS * floors[sample.device]
