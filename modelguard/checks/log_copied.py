"""Stretches of the training log that stand elsewhere too.

Many records in a row with the losses (and gradient norms) of other steps, or of the middle of another run of the repository, do not
come about twice, and neither do losses that are another stretch's times one number plus another. Runs that begin alike, replays after
a rollback and one run that is logged twice are honest, and are known by where the stretch begins.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.findings import Claim, Level
from modelguard.types.identities import claims_of
from modelguard.types.logs import TrainingLog

RULE = "log-copied"
# relation -> how bad it is when broken, and how sure
LEVELS = {
    "copied-norms": (Level.HIGH, Level.HIGH),
    "copied": (Level.MEDIUM, Level.HIGH),
    "spliced": (Level.MEDIUM, Level.HIGH),
    "affine": (Level.MEDIUM, Level.HIGH),
    "affine-run": (Level.LOW, Level.MEDIUM),
}


def check(log: TrainingLog) -> Iterator[Claim]:
    """No stretch of the log repeats another."""
    return claims_of(
        log,
        RULE,
        LEVELS,
        settle="the console output of these steps, or a second log of the run",
        nothing="no run has as many records with a loss that moves",
    )
