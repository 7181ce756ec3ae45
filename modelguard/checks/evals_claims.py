"""Scores in the model card that the evaluation logs do not give.

A claim of the card's `model-index`, or of a table in its text, agrees with every logged score that rounds to what is written, as a
fraction or as a percentage. A claim without an evaluation log of its task stays open.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.evals import EvalLogs
from modelguard.types.findings import Claim, Level, found, not_applicable, ok
from modelguard.types.logs import Identity, Standing

RULE = "evals-claims"


def check(evals: EvalLogs) -> Iterator[Claim]:
    """The card claims no score that its evaluation logs contradict."""
    told = evals.judged(RULE)
    if not told:
        yield not_applicable("no card claims a score")
    yield from (_claim(identity) for identity in told)


def _claim(identity: Identity) -> Claim:
    if identity.standing is Standing.OPEN:
        return not_applicable(identity.text)  # nobody promised a log of every benchmark
    if identity.standing is Standing.HOLDS:
        return ok(identity.text, numbers=identity.numbers)
    settle = "the log of the run that the claim is from, or the claim mended"
    return found(identity.text, severity=Level.HIGH, confidence=Level.MEDIUM, numbers=identity.numbers, settle=settle)
