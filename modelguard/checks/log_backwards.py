"""Steps of the training log that go backwards.

Large runs roll back dozens of times; that is listed and never a finding. What remains is a return to a step that is no
checkpoint, without a restart, and whose losses do not repeat; or a step counter that restarts while the loss goes on.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.findings import Claim, Level, found, not_applicable, ok
from modelguard.types.logs import Discontinuity, Jump, Run, TrainingLog

BACKWARDS = (Jump.ROLLBACK, Jump.REWIND_SKIP, Jump.COUNTER_RESET)
SEVERITY = {Jump.ROLLBACK: Level.MEDIUM, Jump.REWIND_SKIP: Level.MEDIUM, Jump.COUNTER_RESET: Level.LOW}
NAMED = 4


def check(log: TrainingLog) -> Iterator[Claim]:
    """Where steps go backwards, a rollback to a checkpoint or a new start explains it."""
    yield from (claim for run in log.judged for claim in _judge(run))
    if not log.judged:
        yield not_applicable("no training record in any log")


def _judge(run: Run) -> Iterator[Claim]:
    open_ones = run.unexplained(*BACKWARDS)
    for kind in sorted({jump.kind for jump in open_ones}):
        jumps = tuple(jump for jump in open_ones if jump.kind is kind)
        yield found(
            _text(jumps),
            severity=SEVERITY[kind],
            confidence=Level.MEDIUM,
            numbers={"from_step": jumps[0].before, "to_step": jumps[0].after, "count": len(jumps)},
            where=run.source,
            settle="the checkpoint that training returned to, or the restart in the scheduler's record",
        )
    if not open_ones:
        yield _fine(run)


def _text(jumps: tuple[Discontinuity, ...]) -> str:
    named = "; ".join(jump.note for jump in jumps[:NAMED])
    return f"{named}; and {len(jumps) - NAMED} more such places" if len(jumps) > NAMED else named


def _fine(run: Run) -> Claim:
    listed = run.explained(*BACKWARDS)
    numbers = {"records": len(run.training), "returns": len(listed)}
    if not listed:
        return ok(f"the steps of {len(run.training)} training records only grow", numbers=numbers, where=run.source)
    places = ", ".join(f"{jump.before} to {jump.after} ({jump.excused})" for jump in listed[:NAMED])
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ok(f"the steps return {len(listed)} times, each explained: {places}{more}", numbers=numbers, where=run.source)
