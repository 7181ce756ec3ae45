"""Learning rates that leave the schedule of the run and come back to it.

A scheduler is a function of its step count: the rates of a run lie on a warm-up, a plateau and a decay to the last digit that the log
has. Rates between two stretches of one curve that do not lie on it were not written by that scheduler. A schedule that is
not known here, or that changes once (a resume with other settings), is no finding; one that ends well after the planned steps is
of low severity.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.findings import Claim, Level
from modelguard.types.identities import claims_of
from modelguard.types.logs import TrainingLog

RULE = "log-learning-rate"
# relation -> how bad it is when broken, and how sure
LEVELS = {
    "rewritten": (Level.MEDIUM, Level.HIGH),
    "schedule-end": (Level.LOW, Level.MEDIUM),
}


def check(log: TrainingLog) -> Iterator[Claim]:
    """The learning rates lie on one schedule."""
    return claims_of(
        log,
        RULE,
        LEVELS,
        settle="the scheduler settings of the run, or its console output",
        nothing="no log has a learning rate for 8 steps",
    )
