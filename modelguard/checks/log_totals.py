"""Sums that a finished run writes about itself and that its rows do not come to.

The mean loss of a run follows from its rows exactly, so rows that were changed or invented afterwards no longer come to it. A resume
is understood (the last process sums up its own steps), and steps after the last row leave room: then the severity is medium.
Rates, batches of an evaluation and steps per epoch are held against one another too; honest trainers change those at a resume.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.findings import Claim, Level
from modelguard.types.identities import claims_of
from modelguard.types.logs import TrainingLog

RULE = "log-totals"
# relation -> how bad it is when broken, and how sure
LEVELS = {
    "train-loss": (Level.HIGH, Level.HIGH),
    "train-loss-tail": (Level.MEDIUM, Level.HIGH),
    "steps-rate": (Level.MEDIUM, Level.MEDIUM),
    "epoch-steps": (Level.MEDIUM, Level.MEDIUM),
    "epoch-back": (Level.MEDIUM, Level.MEDIUM),
    "eval-batches": (Level.LOW, Level.MEDIUM),
}


def check(log: TrainingLog) -> Iterator[Claim]:
    """The totals of a run are those of its rows."""
    return claims_of(
        log, RULE, LEVELS, settle="the state of the last checkpoint, or the console output of the run", nothing="no run sums itself up"
    )
