"""Numbers of a trainer state that are not written as the trainer writes them.

A gradient norm is the value of a float32, and one process either rounds every loss to 4 decimals or none. Rows that do
otherwise between rows that agree are of medium severity; rows at one end may be another version of the trainer, after a resume. The
order of keys and the indentation say only that another program wrote the file since.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.findings import Claim, Level
from modelguard.types.identities import claims_of
from modelguard.types.logs import TrainingLog

RULE = "log-number-format"
# relation -> how bad it is when broken, and how sure
LEVELS = {
    "grad_norm-inside": (Level.MEDIUM, Level.HIGH),
    "grad_norm-end": (Level.LOW, Level.MEDIUM),
    "loss-inside": (Level.MEDIUM, Level.MEDIUM),
    "loss-end": (Level.LOW, Level.LOW),
    "layout": (Level.INFO, Level.HIGH),
}


def check(log: TrainingLog) -> Iterator[Claim]:
    """The numbers of a trainer state are written alike."""
    return claims_of(log, RULE, LEVELS, settle="the file as the trainer wrote it", nothing="no trainer state with at least 10 rows")
