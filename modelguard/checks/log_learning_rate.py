"""Learning rates that leave the schedule of the run and come back to it.

A scheduler is a function of its step count: the rates of a run lie on a warm-up, a plateau and a decay to the last digit that the log
has. Rates between two stretches of one curve that do not lie on it were not written by that scheduler. A schedule that is
not known here, or that changes once (a resume with other settings), is no finding; one that ends well after the planned steps is
of low severity.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.findings import Claim, Level, found, not_applicable, ok
from modelguard.types.logs import Identity, Run, Standing, TrainingLog

RULE = "log-learning-rate"
# relation -> how bad it is when broken, and how sure
LEVELS = {
    "rewritten": (Level.MEDIUM, Level.HIGH),
    "schedule-end": (Level.LOW, Level.MEDIUM),
}


def check(log: TrainingLog) -> Iterator[Claim]:
    """The learning rates lie on one schedule."""
    told = log.identities(RULE)
    if not told:
        yield not_applicable("no log has a learning rate for 8 steps")
    yield from (_claim(run, identity) for run, identity in told)


def _claim(run: Run, identity: Identity) -> Claim:
    if identity.standing is Standing.OPEN:
        return not_applicable(f"{run.source}: {identity.text}")
    if identity.standing is Standing.HOLDS:
        return ok(identity.text, numbers=identity.numbers, where=run.source)
    severity, confidence = LEVELS[identity.name]
    settle = "the scheduler settings of the run, or its console output"
    return found(identity.text, severity=severity, confidence=confidence, numbers=identity.numbers, where=run.source, settle=settle)
