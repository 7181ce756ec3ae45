"""The optimizer's own state counts other steps, or holds another rate, than the training log.

`optimizer.pt` keeps for each tensor how many steps were taken, `scheduler.pt` how often the rate was set: both are read as data and never
unpickled. Steps that mixed precision skipped make the optimizer's count smaller, a schedule by epochs or by processes makes the
scheduler's another; an optimizer that began anew at a resume counts from there. Files can be edited, so agreement proves nothing.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from modelguard.types.findings import Claim, Level, Numbers, found, not_applicable, ok, unknown
from modelguard.types.logs import Run, TrainingLog
from modelguard.types.optimizer_state import OptimizerState

STATE = "hf-trainer"
SKIPPED = 0.02  # of the steps that mixed precision may skip
FEW = 24  # steps that it may skip in a short run
SETTLE = "the whole log of the run that wrote this state"


def check(log: TrainingLog, optimizer_state: OptimizerState) -> Iterator[Claim]:
    """Steps and rates of the state are those of the log beside it."""
    beside = [run for run in log.runs if run.format == STATE and posixpath.dirname(run.source) == optimizer_state.folder]
    if not log.judged:
        yield not_applicable("no training record in any log")
    elif len(beside) == 1 and "global_step" in beside[0].claimed:
        yield from _beside(beside[0], optimizer_state)
    else:
        yield _anywhere(log, optimizer_state)


def _beside(run: Run, state: OptimizerState) -> Iterator[Claim]:
    """The trainer's state in the same folder was written in the same moment."""
    logged = int(run.claimed["global_step"])
    numbers: Numbers = {"logged_steps": logged}
    if state.steps is not None:
        yield _steps(run, logged, state.steps[1], {**numbers, "optimizer_steps": state.steps[1]})
    if state.last_epoch is not None:
        yield _scheduler(run, logged, state.last_epoch, {**numbers, "scheduler_steps": state.last_epoch})
    yield from _rate(run, logged, state)


def _steps(run: Run, logged: int, taken: int, numbers: Numbers) -> Claim:
    if logged - max(FEW, SKIPPED * logged) <= taken <= logged:
        return ok(f"the optimizer took {taken} steps, the state beside it says {logged}", numbers=numbers, where=run.source)
    text = f"the optimizer took {taken} steps, the trainer's state beside it says {logged}"
    level = Level.HIGH if taken > logged else Level.MEDIUM  # one that began anew at a resume has fewer
    return found(text, severity=level, confidence=Level.MEDIUM, numbers=numbers, where=run.source, settle=SETTLE)


def _scheduler(run: Run, logged: int, stepped: int, numbers: Numbers) -> Claim:
    near = logged - max(FEW, SKIPPED * logged) <= stepped <= logged + 1
    processes = logged > 0 and stepped % logged == 0
    epochs = {int(entry.epoch) for entry in run.records if entry.epoch is not None and abs(entry.epoch) < 1e9}
    if near or processes or stepped in {epoch + more for epoch in epochs for more in (0, 1)}:
        return ok(f"the scheduler was stepped {stepped} times in {logged} steps", numbers=numbers, where=run.source)
    text = f"the scheduler was stepped {stepped} times, the trainer's state beside it says {logged} steps"
    return found(text, severity=Level.MEDIUM, confidence=Level.MEDIUM, numbers=numbers, where=run.source, settle=SETTLE)


def _rate(run: Run, logged: int, state: OptimizerState) -> Iterator[Claim]:
    """The rate of the last logged step is that of one of the groups, or one step of the schedule away."""
    rows = [(entry.step, entry.values["learning_rate"]) for entry in run.training if "learning_rate" in entry.values]
    if not state.rates or len(rows) < 2 or rows[-1][0] != logged:
        return
    change = 2 * abs(rows[-1][1] - rows[-2][1]) / max(1, rows[-1][0] - rows[-2][0])  # of one step, and of a schedule that bends
    off = min(abs(rate - rows[-1][1]) for rate in state.rates)
    numbers: Numbers = {"logged_rate": rows[-1][1], "optimizer_rate": state.rates[0], "step": logged}
    if off <= change + 1e-6 * max(rows[-1][1], *state.rates):
        yield ok(f"the optimizer's learning rate is that of step {logged}", numbers=numbers, where=run.source)
        return
    text = f"the log has the learning rate {rows[-1][1]:.6g} at step {logged}, no group of the optimizer's state has it"
    yield found(text, severity=Level.MEDIUM, confidence=Level.MEDIUM, numbers=numbers, where=run.source, settle=SETTLE)


def _anywhere(log: TrainingLog, state: OptimizerState) -> Claim:
    """Without the trainer's own state beside the optimizer's: some run must be long enough."""
    if state.steps is None:
        return not_applicable("the optimizer's state counts no steps")
    taken, longest = state.steps[1], max(log.judged, key=lambda run: (run.length + run.cadence, run.source))
    numbers: Numbers = {"optimizer_steps": taken, "logged_steps": longest.length, "cadence": longest.cadence}
    if longest.undecidable:
        return unknown(f"{longest.source}: {longest.undecidable}", numbers=numbers, where=longest.source, settle=SETTLE)
    if taken <= longest.length + longest.cadence:
        return ok(f"the optimizer took {taken} steps, the longest log {longest.length}", numbers=numbers, where=longest.source)
    text = f"the optimizer took {taken} steps, no log goes beyond {longest.length}"
    return found(text, severity=Level.MEDIUM, confidence=Level.MEDIUM, numbers=numbers, where=longest.source, settle=SETTLE)
