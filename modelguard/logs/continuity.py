"""The geometry of a log's steps: its cadence, its segments, and every place where steps do not follow one another."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from modelguard.logs.cadence import cadence, main_series, rhythm_changes
from modelguard.logs.replay import backward
from modelguard.types.logs import UNSTEPPED, Discontinuity, Jump, LogRecord, Run, Segment

HF_TRAINER = "hf-trainer"  # carries its whole history over every resume, so a restart explains no hole in it
_CHECKPOINT = re.compile(r"(?:^|/)checkpoint-(\d{1,15})/[^/]+$")
SAMPLED_SHARE = 0.05  # of a run that a dashboard's sample may leave out in one place

Series = tuple[LogRecord, ...]


def describe(run: Run) -> Run:
    """The run with its cadence, segments and discontinuities."""
    series, notes = _in_order(main_series(run))
    parts = split(series)
    usual = 0 if run.claimed.get(UNSTEPPED) else cadence([_steps(part) for part in parts], _claimed_interval(run, series))
    jumps = [backward(earlier, later, usual, save_steps(run)) for earlier, later in _boundaries(parts)]
    changes: list[str] = []
    if usual:
        logged = sorted(record.step for record in run.training)
        jumps += [jump for part in parts for jump in _forward(run, part, usual, logged, changes)]
        jumps += [*_head(run, parts[0], usual), *_tail(run, parts[-1], usual)]
    changes += _thinner(run, series, usual)
    segments = tuple(Segment(first=part[0].step, last=part[-1].step, count=len(part)) for part in parts)
    order = sorted(jumps, key=lambda jump: (jump.before, jump.after, jump.kind))
    return replace(run, cadence=usual, segments=segments, discontinuities=tuple(order), notes=(*run.notes, *notes, *sorted(set(changes))))


def _claimed_interval(run: Run, series: Series) -> int:
    """The interval that a log states: its logging_steps, or an epoch where every record closes one; 0 when it states none."""
    claimed = int(run.claimed.get("logging_steps", 0))
    if claimed > 0 and all(record.step % claimed == 0 or record.step == 1 for record in series):
        return claimed
    epochs = {record.step / record.epoch for record in series if record.epoch and record.epoch == record.epoch // 1}
    whole = len(epochs) == 1 and all(record.epoch and record.epoch == record.epoch // 1 for record in series)
    interval = epochs.pop() if whole else 0.0
    return int(interval) if interval >= 1 and interval == interval // 1 else 0


def _thinner(run: Run, series: Series, usual: int) -> list[str]:
    """A note where records lie further apart than the log's own logging_steps says, and not at the ends of epochs."""
    claimed = int(run.claimed.get("logging_steps", 0))
    if (
        not 0 < claimed < usual
        or usual % claimed
        or any(record.epoch is None or record.epoch == record.epoch // 1 for record in series[:2])
    ):
        return []
    return [f"the log states an interval of {claimed} steps, its records are {usual} apart"]


def split(series: Series) -> list[Series]:
    """The stretches whose steps only grow. Records of one step (several processes, several metrics) count as the first of them."""
    parts: list[list[LogRecord]] = []
    for record in series:
        if parts and record.step == parts[-1][-1].step:
            continue
        if parts and record.step > parts[-1][-1].step:
            parts[-1].append(record)
        else:
            parts.append([record])
    return [tuple(part) for part in parts]


def save_steps(run: Run) -> int:
    """How many steps lie between checkpoints, as far as the log says; 0 when it does not."""
    claimed = run.claimed.get("save_steps", 0)
    return int(claimed) if claimed >= 1 else 0


def checkpoint_step(path: str) -> int | None:
    """The N of the folder `checkpoint-N` that a file lies in. A folder further up may be what the run started from."""
    match = _CHECKPOINT.search(path)
    return int(match[1]) if match else None


def _in_order(series: Series) -> tuple[Series, tuple[str, ...]]:
    """The records from first to last; a log that is written newest first is turned round."""
    down = sum(after.step < before.step for before, after in pairwise(series))
    if down > 1 and not any(after.step > before.step for before, after in pairwise(series)):
        return series[::-1], ("the newest record stands first; read backwards",)
    return series, ()


def _steps(part: Sequence[LogRecord]) -> list[int]:
    return [record.step for record in part]


def _boundaries(parts: list[Series]) -> Iterator[tuple[Series, Series]]:
    """Each segment after the first, with the log's first record and the segment before it."""
    return (((parts[0][0], *earlier), later) for earlier, later in pairwise(parts))


def _forward(run: Run, part: Series, usual: int, logged: Sequence[int], changes: list[str]) -> Iterator[Discontinuity]:
    """Restarts that go on where the log stopped, and steps that are not there."""
    rhythms = rhythm_changes(_steps(part), usual)
    if rhythms:
        names = " and ".join(str(rhythm) for rhythm in sorted(set(rhythms.values())))
        changes.append(f"the cadence changes: {usual} steps, elsewhere {names}")
    for index, (before, after) in enumerate(pairwise(part)):
        restart = after.session != before.session
        records = -(-(after.step - before.step) // usual) - 1 if after.step - before.step >= 2 * usual else 0
        if index in rhythms or records < 1:
            if restart:
                yield _jump(Jump.RESUME, before.step, after.step, 0, "a restart", "the log goes on where it stopped")
            continue
        excuse = _excuse(run, before, after, records * usual, usual, logged)
        note = f"{records} records of cadence {usual} are not there" + (", at a restart" if restart else "")
        yield _jump(Jump.MISSING, before.step, after.step, records * usual, note, excuse)


def _excuse(run: Run, before: LogRecord, after: LogRecord, missing: int, usual: int, logged: Sequence[int]) -> str:
    """What explains a hole of `missing` steps; empty when nothing does. `logged` are the steps of all training records, sorted."""
    save, restart = save_steps(run), after.session != before.session
    if run.format == HF_TRAINER:
        return ""
    if restart and save and missing <= save:
        return f"at a restart, and no longer than the {save} steps between checkpoints"
    if restart and save and (after.step % save == 0 or (after.step - usual) % save == 0):
        return f"at a restart from a checkpoint (every {save} steps)"
    others = bisect_left(logged, after.step) - bisect_right(logged, before.step)
    if others * 2 * usual >= missing:
        return "other training records of these steps are in the log"
    if run.claimed.get("sampled") and missing <= SAMPLED_SHARE * run.length:
        return "the file is a dashboard's sample of the log"
    return ""


def _head(run: Run, part: Series, usual: int) -> Iterator[Discontinuity]:
    """Steps before the first record that no cadence accounts for."""
    first = part[0].step
    rhythm = max(usual, rhythm_changes(_steps(part), usual).get(0, 0))
    records = (first - 1) // rhythm if first > rhythm + 1 else 0
    if records < 1:
        return
    save, excuse = save_steps(run), ""
    if run.format != HF_TRAINER and save and (first % save == 0 or (first - rhythm) % save == 0):
        excuse = f"the log begins at a checkpoint (every {save} steps)"
    yield _jump(Jump.HEAD, 0, first, records * rhythm, f"the log begins at step {first} with a cadence of {rhythm}", excuse)


def _tail(run: Run, part: Series, usual: int) -> Iterator[Discontinuity]:
    """Steps after the last record that the log itself, or the name of the folder it lies in, says were taken."""
    steps = _steps(part)
    last, rhythm = steps[-1], max(usual, rhythm_changes(steps, usual).get(len(steps) - 2, 0))
    reached, witness = max(_ends(run), default=(0, ""))
    records = (reached - last) // rhythm
    if records >= 1:
        note = f"{witness} says step {reached}, the last training record is of step {last}"
        yield _jump(Jump.TAIL, last, reached, records * rhythm, note, "")


def _ends(run: Run) -> Iterator[tuple[int, str]]:
    """What says how far the run went: (step, who says so)."""
    folder = checkpoint_step(run.source)
    if folder is not None:
        yield folder, "the folder's name"
    if "global_step" in run.claimed:
        yield int(run.claimed["global_step"]), "the log's own global_step"
    if run.format == HF_TRAINER:
        yield max((record.step for record in run.records), default=0), "the log's own later rows"


def _jump(kind: Jump, before: int, after: int, missing: int, note: str, excused: str) -> Discontinuity:
    return Discontinuity(kind=kind, before=before, after=after, missing=missing, note=note, excused=excused)
