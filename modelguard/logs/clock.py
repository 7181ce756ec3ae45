"""The wall clock of a log, process by process: whether it runs backwards, is too even, begins before its file or ends after its commit.

A clock says little: machines correct theirs, zones and daylight saving move it by whole hours, and a log may be written late.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from modelguard.types.logs import Identity, LogRecord, Run, Standing

RULE = "log-clock"
BACKWARDS = 60.0  # seconds that a clock may be corrected by without a word
HOURS = 3600.0
AROUND = 120.0  # seconds around a whole hour that a change of zone may take
EVEN = 50  # records with the very same time a step
EARLY = 60.0  # seconds that a record may precede the start in its file's name
ZONES = 26 * HOURS  # by which two zones may differ
DAY = 24 * HOURS  # by which the clocks of a trainer and a committer may differ without a word
_STARTED = re.compile(r"\.tfevents\.(\d{9,11})\.")
_DATED = re.compile(r"(?:^|/)(?:offline-)?run-(\d{8})_(\d{6})-[^/]{1,80}(?:/|$)")  # W&B names a folder by the start, in local time

Moment = tuple[int, float]  # step, unix seconds


def clock(run: Run, committed: float | None = None) -> Iterator[Identity]:
    """What the times of a run's training records come to; `committed` is when the commit was made that holds the log, in unix seconds."""
    sessions = [_moments(list(part)) for _, part in groupby(run.training, key=lambda entry: entry.session)]
    timed = [moments for moments in sessions if len(moments) > 1]
    if not timed:
        return
    broken = [*_back(timed), *_even(timed), *_early(run, sessions), *_late(timed, committed)]
    count = sum(map(len, timed))
    if not broken:
        text = f"the times of {count} records only grow"
        yield Identity(rule=RULE, name="clock", standing=Standing.HOLDS, text=text, numbers={"records": count})
    yield from broken


def _moments(entries: Sequence[LogRecord]) -> list[Moment]:
    return [(entry.step, entry.time) for entry in entries if entry.time is not None and abs(entry.time) < 1e12]


def _back(sessions: Sequence[Sequence[Moment]]) -> Iterator[Identity]:
    """Times that return by more than a correction, while steps go on; a return by whole hours may be a change of zone."""
    pairs = [pair for moments in sessions for pair in pairwise(moments) if pair[1][0] > pair[0][0]]
    returns = [(before, after) for before, after in pairs if before[1] - after[1] > BACKWARDS]
    if not returns:
        return
    before, after = max(returns, key=lambda pair: pair[0][1] - pair[1][1])
    seconds = before[1] - after[1]
    whole = all(_is_zone(earlier[1] - later[1]) for earlier, later in returns)
    text = f"the clock returns by {seconds:.0f} s from step {before[0]} to step {after[0]} of one process"
    numbers: dict[str, float | int | str] = {"returns": len(returns), "seconds": seconds, "from_step": before[0], "to_step": after[0]}
    yield Identity(rule=RULE, name="zone" if whole else "backwards", standing=Standing.BROKEN, text=text, numbers=numbers)


def _is_zone(seconds: float) -> bool:
    """Whether a return of the clock is that of a change of zone."""
    return seconds <= 14 * HOURS and abs(seconds - HOURS * round(seconds / HOURS)) <= AROUND


def _even(sessions: Sequence[Sequence[Moment]]) -> Iterator[Identity]:
    """Fifty records whose time a step is the same to the last digit, on a clock that has fractions of a second."""
    for moments in sessions:
        paces = [(after[1] - before[1]) / (after[0] - before[0]) for before, after in pairwise(moments) if after[0] > before[0]]
        fine = any(time != int(time) for _, time in moments)
        stretch = max((len(list(same)) for _, same in groupby(round(pace, 5) for pace in paces)), default=0)
        if stretch >= EVEN and fine and paces and max(paces) > 0:
            text = f"{stretch} records in a row have the same time a step to the last digit"
            yield Identity(rule=RULE, name="even", standing=Standing.BROKEN, text=text, numbers={"records": stretch})


def _early(run: Run, sessions: Sequence[Sequence[Moment]]) -> Iterator[Identity]:
    """A first record before the second in which, by its name, the file was opened."""
    started, slack = _started(run.source)
    if started is None or not sessions or not sessions[0]:
        return
    first = min(time for _, time in sessions[0])
    if started - first > slack:
        text = f"the first record is {started - first:.0f} s older than the start in the file's name"
        yield Identity(rule=RULE, name="early", standing=Standing.BROKEN, text=text, numbers={"seconds": started - first})


def _started(source: str) -> tuple[float | None, float]:
    """The start that a path names, and by how many seconds it may be off: event files name unix seconds, W&B's folders a local time."""
    if match := _STARTED.search(source):
        return float(match[1]), EARLY
    if dated := _DATED.search(source):
        try:
            moment = datetime.datetime.strptime(dated[1] + dated[2], "%Y%m%d%H%M%S").replace(tzinfo=datetime.UTC)
        except ValueError:
            return None, 0.0
        return moment.timestamp(), ZONES
    return None, 0.0


def _late(sessions: Sequence[Sequence[Moment]], committed: float | None) -> Iterator[Identity]:
    """A record of a time after the commit that holds it: a clock was wrong, or the times were made up."""
    step, last = max(((step, time) for moments in sessions for step, time in moments), key=lambda moment: moment[1])
    if committed is not None and last - committed > DAY:
        text = f"the record of step {step} is {(last - committed) / DAY:.1f} days younger than the commit that holds it"
        yield Identity(rule=RULE, name="late", standing=Standing.BROKEN, text=text, numbers={"step": step, "seconds": last - committed})
