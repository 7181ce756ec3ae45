"""A training log that begins after the training did.

A trainer state carries its history over every resume, so nothing ordinary explains a late beginning. Any other log may
be the second part of a run whose first part lies elsewhere: that is asked for (medium severity), and taken as
explained where the log begins at a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.findings import Claim, Level, found, not_applicable, ok, unknown
from modelguard.types.logs import Jump, Run, TrainingLog

WHOLE_HISTORY = "hf-trainer"  # a state carries its history over every resume; other files are one process's, which may have resumed


def check(log: TrainingLog) -> Iterator[Claim]:
    """The first training record is of the first steps."""
    yield from (_judge(run) for run in log.judged)
    if not log.judged:
        yield not_applicable("no training record in any log")


def _judge(run: Run) -> Claim:
    first = min(record.step for record in run.training)
    numbers = {"first_step": first, "cadence": run.cadence}
    if run.undecidable:
        return unknown(f"{run.source}: {run.undecidable}", numbers=numbers, where=run.source, settle="a log with a regular interval")
    late = run.unexplained(Jump.HEAD)
    if not late:
        reasons = "".join(f"; {jump.excused}" for jump in run.explained(Jump.HEAD))
        return ok(f"the log begins at step {first} with a cadence of {run.cadence}{reasons}", numbers=numbers, where=run.source)
    missing = late[0].missing
    return found(
        f"the log begins at step {late[0].after}: {missing // run.cadence} records of cadence {run.cadence} before it are not there",
        severity=Level.HIGH if run.format == WHOLE_HISTORY else Level.MEDIUM,
        confidence=Level.HIGH if run.format == WHOLE_HISTORY else Level.MEDIUM,
        numbers={**numbers, "missing": missing, "share": missing / run.length},
        where=run.source,
        settle="the log of the first steps, or the checkpoint that this run started from",
    )
