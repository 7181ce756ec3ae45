"""Stretches of the training log that stand elsewhere too.

Many records in a row with the losses (and gradient norms) of other steps, or of the middle of another run of the repository, do not
come about twice. Runs that begin alike, replays after a rollback and one run that is logged twice are honest, and are known by
where the stretch begins.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.findings import Claim, Level, found, not_applicable, ok
from modelguard.types.logs import Identity, Run, Standing, TrainingLog

RULE = "log-copied"
# relation -> how bad it is when broken, and how sure
LEVELS = {
    "copied-norms": (Level.HIGH, Level.HIGH),
    "copied": (Level.MEDIUM, Level.HIGH),
    "spliced": (Level.MEDIUM, Level.HIGH),
}


def check(log: TrainingLog) -> Iterator[Claim]:
    """No stretch of the log repeats another."""
    told = log.identities(RULE)
    if not told:
        yield not_applicable("no run has as many records with a loss that moves")
    yield from (_claim(run, identity) for run, identity in told)


def _claim(run: Run, identity: Identity) -> Claim:
    if identity.standing is Standing.OPEN:
        return not_applicable(f"{run.source}: {identity.text}")
    if identity.standing is Standing.HOLDS:
        return ok(identity.text, numbers=identity.numbers, where=run.source)
    severity, confidence = LEVELS[identity.name]
    settle = "the console output of these steps, or a second log of the run"
    return found(identity.text, severity=severity, confidence=confidence, numbers=identity.numbers, where=run.source, settle=settle)
