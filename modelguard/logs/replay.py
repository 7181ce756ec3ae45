"""Steps that go backwards: a rollback to a checkpoint, other data from there on, a counter that restarts, or none of these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from modelguard.types.logs import Discontinuity, Jump, LogRecord

NOISE = 3.0  # times the usual change from record to record that a replayed loss may differ by
RELATIVE = 0.1  # of the loss, where the loss hardly moves


def backward(earlier: Sequence[LogRecord], later: Sequence[LogRecord], usual: int, save: int) -> Discontinuity:
    """The class of the place where `earlier` ends and `later` begins at a lower or equal step."""
    before, after = earlier[-1], later[0]
    restart = after.session != before.session
    if after.step <= max(usual, 1):
        return _from_the_start(earlier, later)
    alike = _alike(earlier, later)
    kind = Jump.REWIND_SKIP if alike is False else Jump.ROLLBACK
    excuse = _excuse(after.step, usual, save, restart=restart, alike=alike)
    how = {None: "no loss to compare", True: "with similar losses", False: "with different losses"}[alike]
    note = f"the log returns from step {before.step} to step {after.step}, {how}"
    return Discontinuity(kind=kind, before=before.step, after=after.step, missing=0, note=note, excused=excuse)


def _excuse(step: int, usual: int, save: int, *, restart: bool, alike: bool | None) -> str:
    if restart:
        return "another process wrote on from there: a rollback to a checkpoint"
    if save and (step % save == 0 or (step - usual) % save == 0 or (step - 1) % save == 0):
        return f"a rollback to a checkpoint (every {save} steps)"
    return "the steps are replayed with similar losses" if alike else ""


def _from_the_start(earlier: Sequence[LogRecord], later: Sequence[LogRecord]) -> Discontinuity:
    """Either training starts over, or only the counter does while the loss goes on where it was."""
    before, after = earlier[-1], later[0]
    first, last, again = loss(earlier[0]), loss(before), loss(after)
    note = f"the step counter restarts at {after.step} after step {before.step}"
    excuse = "training starts again from the beginning"
    if before.epoch is not None and after.epoch is not None and after.epoch > before.epoch:
        excuse = "steps are counted within epochs"
    elif first is not None and last is not None and again is not None and _nearer(again, last, first):
        note, excuse = f"{note}, the loss goes on", ""
    return Discontinuity(kind=Jump.COUNTER_RESET, before=before.step, after=after.step, missing=0, note=note, excused=excuse)


def _nearer(value: float, near: float, far: float) -> bool:
    """Whether a value lies at `near` rather than at `far`, where the two can be told apart at all."""
    apart = abs(near - far) > RELATIVE * max(abs(near), abs(far))
    return apart and abs(value - near) < 0.25 * abs(value - far)


def _alike(earlier: Sequence[LogRecord], later: Sequence[LogRecord]) -> bool | None:
    """Whether the steps that both tell of have similar losses; None when there is none to compare."""
    known = {record.step: value for record in earlier if (value := loss(record)) is not None}
    shared = [(known[record.step], value) for record in later if record.step in known and (value := loss(record)) is not None]
    if not shared:
        return None
    moves = [abs(b - a) for a, b in pairwise(known.values())]
    allowed = max(NOISE * median(moves) if moves else 0.0, RELATIVE * median(abs(value) for value in known.values()))
    return median(abs(a - b) for a, b in shared) <= allowed


def loss(record: LogRecord) -> float | None:
    """The training loss of a record: its first finite value under a name with `loss` in it."""
    values = (value for name, value in sorted(record.values.items()) if "loss" in name.lower())
    return next((value for value in values if math.isfinite(value)), None)
