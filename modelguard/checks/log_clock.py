"""A clock of the training log that runs backwards, is too even, or begins before its file.

The wall clock alone proves nothing, and is never of high severity: machines correct it, and zones and daylight saving move it by hours.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.findings import Claim, Level, found, not_applicable, ok
from modelguard.types.logs import Identity, Run, Standing, TrainingLog

RULE = "log-clock"
# relation -> how bad it is when broken, and how sure
LEVELS = {
    "backwards": (Level.MEDIUM, Level.MEDIUM),
    "zone": (Level.LOW, Level.LOW),
    "even": (Level.MEDIUM, Level.MEDIUM),
    "early": (Level.MEDIUM, Level.MEDIUM),
}


def check(log: TrainingLog) -> Iterator[Claim]:
    """The times of one process only grow, at a pace that varies."""
    told = log.identities(RULE)
    if not told:
        yield not_applicable("no log records times")
    yield from (_claim(run, identity) for run, identity in told)


def _claim(run: Run, identity: Identity) -> Claim:
    if identity.standing is Standing.OPEN:
        return not_applicable(f"{run.source}: {identity.text}")
    if identity.standing is Standing.HOLDS:
        return ok(identity.text, numbers=identity.numbers, where=run.source)
    severity, confidence = LEVELS[identity.name]
    settle = "a second log of the same steps, or the scheduler record"
    return found(identity.text, severity=severity, confidence=confidence, numbers=identity.numbers, where=run.source, settle=settle)
