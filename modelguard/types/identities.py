"""What the identities of a log come to as claims: the one sentence structure that every rule on identities shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from modelguard.types.findings import Claim, Level, found, not_applicable, ok
from modelguard.types.logs import Identity, Run, Standing, TrainingLog

Levels = Mapping[str, tuple[Level, Level]]  # relation -> how bad it is when broken, and how sure


def claims_of(log: TrainingLog, rule: str, levels: Levels, *, settle: str, nothing: str) -> Iterator[Claim]:
    """A claim for each relation that a rule speaks of; `nothing` says why there is none, `settle` what would decide a broken one."""
    told = log.identities(rule)
    if not told:
        yield not_applicable(nothing)
    yield from (_claim(run, identity, levels, settle) for run, identity in told)


def _claim(run: Run, identity: Identity, levels: Levels, settle: str) -> Claim:
    if identity.standing is Standing.OPEN:
        return not_applicable(f"{run.source}: {identity.text}")
    if identity.standing is Standing.HOLDS:
        return ok(identity.text, numbers=identity.numbers, where=run.source)
    severity, confidence = levels[identity.name]
    return found(identity.text, severity=severity, confidence=confidence, numbers=identity.numbers, where=run.source, settle=settle)
