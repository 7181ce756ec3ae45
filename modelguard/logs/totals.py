"""The sums that a finished run writes about itself, held against its rows.

The Trainer of transformers adds the loss of every step up and divides by the steps: `train_loss` = Σ lossᵢ·Δstepᵢ / T, with T the
steps of the whole run (up to 5.0) or of the last process (later); after a resume the numerator holds the last process only.
Steps after the last row count too, unlogged. Up to 4.57 a logged loss is rounded to 4 decimals, later it is not
(transformers/trainer.py, `_maybe_log_save_evaluate` and `_finalize_training`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from modelguard.logs.rows import basename
from modelguard.types.logs import Identity, LogRecord, Run, Standing

RULE = "log-totals"
EXACT = 1e-6  # relative: float32 sums of a few hundred steps, where nothing is rounded
DECIMALS = 4
RECENT = 20  # rows that tell what a loss of the last steps looks like
TAIL_NOISE = 12.0  # times the usual change from row to row, scaled to the number of steps, that the mean of the last ones may be off
MIN_ROWS = 2
MOST_CHECKPOINTS = 500  # beyond them some sum would fit by chance
LARGEST = 1e12  # loss
STATE = "hf-trainer"
STEPPED = (STATE, "tfevents")  # write the true step into their summaries
PRINTED = 5.1e-4  # relative: the console of 5.x shows 4 digits


@dataclass(frozen=True, slots=True)
class _Row:
    """One logged mean loss: the step it was logged at, the steps that it is the mean of, and how far it may be rounded."""

    step: int
    width: int
    loss: float
    slack: float


def totals(run: Run) -> Iterator[Identity]:
    """What the summaries of a run say of its rows."""
    for position, entry in enumerate(run.records):
        values = {basename(name): value for name, value in entry.values.items()}
        if entry.kind == "summary" and "train_loss" in values:
            before = [other for other in run.records[:position] if other.session == entry.session]
            yield _train_loss(run, before, entry.step, values["train_loss"])
        if entry.kind == "summary" and {"train_runtime", "train_steps_per_second"} <= values.keys():
            yield _rate(run, entry.step, values["train_runtime"], values["train_steps_per_second"])


def _train_loss(run: Run, before: Sequence[LogRecord], steps: int, claimed: float) -> Identity:
    rows = _rows(before, run.format)
    if not isinstance(rows, str) and rows[-1].step > steps:
        rows = "rows of later steps stand before it"
    if isinstance(rows, str) or steps < 1 or not abs(claimed) < LARGEST:
        why = rows if isinstance(rows, str) else "the mean is no number"
        return Identity(rule=RULE, name="train-loss", standing=Standing.OPEN, text=f"train_loss cannot be held against the rows: {why}")
    total = math.fsum(row.loss * row.width for row in rows)
    numbers = {"train_loss": claimed, "mean_of_rows": total / steps, "steps": steps, "rows": len(rows)}
    ends = (steps,) if run.format in STEPPED else (steps, *(int(run.claimed.get(name, 0)) for name in ("global_step", "max_steps")))
    starts = _checkpoints(run, rows)
    found = (_start(rows, end, claimed, starts) for end in ends if end >= rows[-1].step)
    start = next((place for place in found if place is not None), None)
    if start == 0:
        text = f"train_loss {claimed:.6g} is the mean of the {len(rows)} rows over {steps} steps"
        return Identity(rule=RULE, name="train-loss", standing=Standing.HOLDS, text=text, numbers=numbers)
    if start is not None:
        text = f"train_loss {claimed:.6g} is the mean of the rows after step {start}, where the last process took over"
        return Identity(rule=RULE, name="train-loss", standing=Standing.HOLDS, text=text, numbers={**numbers, "resumed_at": start})
    tail = steps - rows[-1].step
    name = "train-loss" if tail == 0 and run.format in STEPPED else "train-loss-tail"
    text = f"train_loss says {claimed:.6g}, the rows come to {total / steps:.6g} over {steps} steps"
    if tail:
        implied = (claimed * steps - total) / tail
        text += f"; the {tail} steps after the last row would need a mean loss of {implied:.4g}"
    return Identity(rule=RULE, name=name, standing=Standing.BROKEN, text=text, numbers={**numbers, "unlogged_steps": tail})


def _rows(records: Sequence[LogRecord], form: str) -> list[_Row] | str:
    """The rows that the mean is made of, or why there are none: other code that logs a loss of its own makes the sum meaningless."""
    named = [
        (entry, value) for entry in records if entry.kind == "train" for name, value in entry.values.items() if basename(name) == "loss"
    ]
    if len(named) < MIN_ROWS:
        return "fewer than 2 rows with a loss"
    if any(not abs(value) < LARGEST for _, value in named):
        return "a loss is no number, or beyond all sense"
    if any(after.step <= before.step for (before, _), (after, _) in pairwise(named)):
        return "the rows do not go forward"
    if any(not any(basename(name) == "learning_rate" for name in entry.values) for entry, _ in named):
        return "rows without a learning rate were not written by the Trainer itself"
    widths = [after - before for before, after in pairwise([0, *(entry.step for entry, _ in named)])]
    return [_Row(entry.step, width, value, _slack(value, form)) for (entry, value), width in zip(named, widths, strict=True)]


def _slack(loss: float, form: str) -> float:
    """How far a logged loss may lie from the mean that it stands for: rounded to 4 decimals, or, printed, to 4 digits."""
    rounded = 0.5000001 * 10.0**-DECIMALS if form != STATE or round(loss, DECIMALS) == loss else 0.0
    return rounded + (EXACT if form in STEPPED else PRINTED) * abs(loss)


def _checkpoints(run: Run, rows: Sequence[_Row]) -> list[int]:
    """Where a process may have taken over: at 0, at checkpoints (by steps or at the ends of epochs), at restarts that the log shows."""
    first = {rows[0].step - rows[1].width} if rows[0].step > rows[1].width else set()  # a process's own log begins after it took over
    return [0, *sorted((_takeovers(run, rows[-1].step) | first) - {0})]


def _takeovers(run: Run, last: int) -> set[int]:
    """The steps below `last` after which another process may have gone on: checkpoints, ends of epochs, restarts in the log."""
    save = int(run.claimed.get("save_steps", 0))
    saved = set(range(save, last, save)) if save >= 1 and last // save <= MOST_CHECKPOINTS else set()
    epochs = {entry.step for entry in run.records if entry.epoch and entry.epoch.is_integer() and entry.step < last}
    restarts = {before.step for before, after in pairwise(run.records) if after.session != before.session and before.step < last}
    return {*saved, *epochs, *restarts} if len(epochs) <= MOST_CHECKPOINTS else saved | restarts


def _start(rows: Sequence[_Row], steps: int, claimed: float, starts: Sequence[int]) -> int | None:
    """The step from which on the rows make the claimed mean, under either divisor; None when none does."""
    for start in starts:
        part = [row for row in rows if row.step > start]
        if not part:
            continue
        widths = [part[0].step - start, *(row.width for row in part[1:])]
        total = math.fsum(row.loss * width for row, width in zip(part, widths, strict=True))
        slack = math.fsum(row.slack * width for row, width in zip(part, widths, strict=True))
        for divisor in {steps, steps - start}:
            if divisor > 0 and _fits(claimed * divisor - total, slack + EXACT * abs(claimed) * divisor, rows, steps - rows[-1].step):
                return start
    return None


def _fits(rest: float, slack: float, rows: Sequence[_Row], tail: int) -> bool:
    """Whether what the rows leave of the sum is nothing, or a loss that the unlogged last steps can have had."""
    if tail <= 0:
        return abs(rest) <= slack
    low, high = _tail_losses(rows, tail)
    return low * tail - slack <= rest <= high * tail + slack


def _tail_losses(rows: Sequence[_Row], tail: int) -> tuple[float, float]:
    """The mean losses that the unlogged last steps may have had: those of the last rows, and the noise of so few steps."""
    recent = [row.loss for row in rows[-RECENT:]]
    noise = median(abs(after - before) for before, after in pairwise(recent)) if len(recent) > 1 else abs(recent[0])
    spread = TAIL_NOISE * noise * math.sqrt(max(1.0, rows[-1].width / tail))
    low = 0.0 if min(row.loss for row in rows) >= 0 else min(recent) - 2 * max(map(abs, recent)) - spread
    return low, max(recent) + 2 * max(map(abs, recent)) + spread


def _rate(run: Run, steps: int, runtime: float, rate: float) -> Identity:
    """`train_runtime` is rounded to 4 decimals and the rate to 3; their product is the steps, or the planned ones in old versions."""
    taken = runtime * rate
    printed = EXACT if run.format in STEPPED else 2 * PRINTED
    slack = 0.51e-3 * abs(runtime) + 0.51e-4 * abs(rate) + printed * abs(taken)
    planned = int(run.claimed.get("max_steps", 0))
    numbers = {"train_runtime": runtime, "train_steps_per_second": rate, "product": taken, "steps": steps, "max_steps": planned}
    text = f"train_runtime times train_steps_per_second comes to {taken:.6g}, the run has {steps} steps"
    starts = [0, *_takeovers(run, steps)]
    fits = any(abs(taken - (end - start)) <= slack for end in {steps, planned} - {0} for start in starts)
    good = not math.isfinite(taken) or fits or (run.format not in STEPPED and taken > steps)
    return Identity(rule=RULE, name="steps-rate", standing=Standing.HOLDS if good else Standing.BROKEN, text=text, numbers=numbers)
