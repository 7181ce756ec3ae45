"""Steps that the training log leaves out.

A run is judged by the steps that are missing between its records and that nothing in the log explains (a restart from a
checkpoint, a change of the logging interval). More than two records and more than `max-missing` of the run is a finding
of high severity, less is one of low severity. How much wall time passes between two records plays no part.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.policy import Policy
from modelguard.types.findings import Claim, Level, Numbers, found, not_applicable, ok, unknown
from modelguard.types.logs import Discontinuity, Jump, Run, TrainingLog

RULE = "log-gap"
MAX_MISSING = 0.01  # of the run's steps, unless policy says otherwise
CADENCES = 2  # holes up to this many records are a hiccup of the logger, not a missing stretch
NAMED = 4  # holes that the text names


def check(log: TrainingLog, policy: Policy) -> Iterator[Claim]:
    """Training records follow one another at the log's own cadence."""
    allowed = policy.share(RULE, "max_missing", MAX_MISSING)
    yield from (unknown(reason, settle="commit the log as the trainer wrote it") for reason in log.unread)
    if not log.judged:
        yield unknown("no training record in any log", where=log.runs[0].source, settle="commit the log of the training itself")
        return
    yield from (not_applicable(f"{run.source}: {len(run.training)} training records, too few to judge") for run in log.set_aside)
    yield from (_judge(run, allowed) for run in log.judged)


def _judge(run: Run, allowed: float) -> Claim:
    holes = run.unexplained(Jump.MISSING)
    numbers = _numbers(run, holes)
    if run.undecidable:
        return unknown(f"{run.source}: {run.undecidable}", numbers=numbers, where=run.source, settle="a log with a regular interval")
    if not holes:
        return ok(_fine(run), numbers=numbers, where=run.source)
    missing = sum(hole.missing for hole in holes)
    long = missing > max(CADENCES * run.cadence, allowed * run.length)
    return found(
        _text(run, holes),
        severity=Level.HIGH if long else Level.LOW,
        confidence=Level.HIGH,
        numbers=numbers,
        where=run.source,
        settle="the log of these steps, or the scheduler's record of the restart",
    )


def _text(run: Run, holes: tuple[Discontinuity, ...]) -> str:
    largest = sorted(sorted(holes, key=lambda hole: -hole.missing)[:NAMED], key=lambda hole: hole.before)
    spans = " and ".join(_span(run, hole) for hole in largest)
    more = f" and {len(holes) - len(largest)} shorter stretches" if len(holes) > len(largest) else ""
    missing = sum(hole.missing for hole in holes)
    records = missing // run.cadence
    plural = "records" if records != 1 else "record"
    return f"{spans}{more} {'is' if records == 1 else 'are'} not in the log: {records} {plural} of cadence {run.cadence}"


def _span(run: Run, hole: Discontinuity) -> str:
    first, last = _ends(run, hole)
    return f"steps {first} to {last}" if first != last else f"step {first}"


def _ends(run: Run, hole: Discontinuity) -> tuple[int, int]:
    """The first and the last step of which a record should be there; a first step logged beside the rhythm does not set it."""
    if hole.before <= 1:
        return hole.after - hole.missing, hole.after - run.cadence
    return hole.before + run.cadence, hole.before + hole.missing


def _numbers(run: Run, holes: tuple[Discontinuity, ...]) -> Numbers:
    shape = {"records": len(run.training), "cadence": run.cadence, "last_step": run.last_step, "restarts": _restarts(run)}
    if not holes or not run.cadence:
        return shape
    first, last = _ends(run, max(holes, key=lambda hole: hole.missing))
    missing = sum(hole.missing for hole in holes)
    return {**shape, "first_missing": first, "last_missing": last, "missing": missing, "share": missing / run.length, "holes": len(holes)}


def _restarts(run: Run) -> int:
    return len(run.explained(Jump.RESUME, Jump.ROLLBACK, Jump.REWIND_SKIP))


def _fine(run: Run) -> str:
    excused = run.explained(Jump.MISSING)
    text = f"{len(run.training)} training records of cadence {run.cadence}, up to step {run.last_step}"
    return f"{text}; {len(excused)} holes are explained: {excused[0].excused}" if excused else f"{text}, leave no step out"
