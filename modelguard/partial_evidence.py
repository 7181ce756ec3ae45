"""Evidence for a door that looks at a part only: what it does not look at cannot speak, for or against."""

from __future__ import annotations

from modelguard.types.evidence import EVIDENCE_NAMES, Evidence
from modelguard.types.findings import Absence, Missing
from modelguard.types.logs import TrainingLog


def only_log(log: TrainingLog | Missing, **held_against: object) -> Evidence:
    """Evidence that consists of a training log, and of what it was held against."""
    return only("the log", log=log, **held_against)


def only(what: str, **given: object) -> Evidence:
    """Evidence that consists of the named pieces alone."""
    nothing = Missing(f"only {what} is looked at", kind=Absence.INAPPLICABLE)
    return Evidence(**{name: given.get(name, nothing) for name in EVIDENCE_NAMES})  # type: ignore[arg-type]
