"""Evaluation logs that hold other questions than the benchmark has.

Samples that are left out, or given other right answers with every hash made anew, leave logs that agree with themselves. A manifest of
the benchmark, made elsewhere, names every question and its right answer by a hash; the logs must hold those and no others. Logs that
share no question with it are of another version of the dataset or the harness, and leave the answer open.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.evals import EvalLogs
from modelguard.types.findings import Claim, Level, found, not_applicable, ok, unknown
from modelguard.types.logs import Identity, Standing

RULE = "evals-coverage"
SETTLE = "the samples of every question, or the evaluation run again on the whole benchmark"


def check(evals: EvalLogs) -> Iterator[Claim]:
    """The evaluation logs hold the benchmark's questions, all of them and no others."""
    told = evals.judged(RULE)
    if not told:
        yield not_applicable("no manifest of a benchmark is named")
    yield from (_claim(identity) for identity in told)


def _claim(identity: Identity) -> Claim:
    if identity.standing is Standing.OPEN:
        return unknown(identity.text, numbers=identity.numbers, settle="a manifest of the same version, and the samples (--log_samples)")
    if identity.standing is Standing.HOLDS:
        return ok(identity.text, numbers=identity.numbers)
    return found(identity.text, severity=Level.HIGH, confidence=Level.HIGH, numbers=identity.numbers, settle=SETTLE)
