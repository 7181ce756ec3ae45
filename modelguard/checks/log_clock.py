"""A clock of the training log that runs backwards, is too even, begins before its file or ends after its commit.

The wall clock alone proves nothing, and is never of high severity: machines correct it, and zones and daylight saving move it by hours.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.findings import Claim, Level
from modelguard.types.identities import claims_of
from modelguard.types.logs import TrainingLog

RULE = "log-clock"
# relation -> how bad it is when broken, and how sure
LEVELS = {
    "backwards": (Level.MEDIUM, Level.MEDIUM),
    "zone": (Level.LOW, Level.LOW),
    "even": (Level.MEDIUM, Level.MEDIUM),
    "early": (Level.MEDIUM, Level.MEDIUM),
    "late": (Level.LOW, Level.LOW),
}


def check(log: TrainingLog) -> Iterator[Claim]:
    """The times of one process only grow, at a pace that varies."""
    return claims_of(log, RULE, LEVELS, settle="a second log of the same steps, or the scheduler record", nothing="no log records times")
