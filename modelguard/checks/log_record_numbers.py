"""Records that are missing from the middle of a log that numbers them.

W&B writes a contiguous number into every record of a run file. Where one number does not follow another, records were taken out,
put in or moved after W&B wrote the file; an end that breaks off leaves no such trace.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.findings import Claim, Level, found, not_applicable, ok
from modelguard.types.logs import Standing, TrainingLog

RULE = "log-record-numbers"


def check(log: TrainingLog) -> Iterator[Claim]:
    """The numbers of a log's records follow one another."""
    told = log.identities(RULE)
    if not told:
        yield not_applicable("no log numbers its records")
    for run, identity in told:
        if identity.standing is Standing.BROKEN:
            yield found(
                f"{run.source}: {identity.text}",
                severity=Level.MEDIUM,
                confidence=Level.HIGH,
                numbers=identity.numbers,
                where=run.source,
                settle="the run file as W&B wrote it, or the history from its server",
            )
        else:
            yield ok(f"{run.source}: {identity.text}", numbers=identity.numbers, where=run.source)
