"""Headline scores that do not follow from the samples behind them.

Where an evaluation log holds every question, its scores are computed again: each question's metric from the logged response, the mean
and the standard error from the metrics, the counts and the hash over all questions. Samples that nobody signed can be written anew as a
whole, so scores that follow are internally consistent and no more.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.evals import EvalLogs
from modelguard.types.findings import Claim, Level, found, not_applicable, ok, unknown
from modelguard.types.logs import Identity, Standing

RULE = "evals-scores"
SETTLE = "the files as the harness wrote them, or the evaluation run again"
# relation -> how bad it is when broken, and how sure
LEVELS = {
    "mean": (Level.HIGH, Level.HIGH),
    "items": (Level.HIGH, Level.HIGH),
    "count": (Level.HIGH, Level.HIGH),
    "stderr": (Level.MEDIUM, Level.HIGH),
    "filtered": (Level.MEDIUM, Level.MEDIUM),
    "task-hash": (Level.MEDIUM, Level.HIGH),
    "hashes": (Level.MEDIUM, Level.MEDIUM),
}


def check(evals: EvalLogs) -> Iterator[Claim]:
    """The scores of the results files follow from the samples files."""
    told = evals.judged(RULE)
    if not told:
        yield unknown("there are scores but no samples file, so nothing says how they came about", settle="the samples (--log_samples)")
    yield from (_claim(identity) for identity in told)


def _claim(identity: Identity) -> Claim:
    if identity.standing is Standing.OPEN:
        return not_applicable(identity.text)
    if identity.standing is Standing.HOLDS:
        return ok(identity.text, numbers=identity.numbers)
    severity, confidence = LEVELS[identity.name]
    return found(identity.text, severity=severity, confidence=confidence, numbers=identity.numbers, settle=SETTLE)
