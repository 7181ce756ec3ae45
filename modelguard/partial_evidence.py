"""Evidence for a door that looks at a part only: what it does not look at cannot speak, for or against."""

from __future__ import annotations

from modelguard.types.displacement import Displacement
from modelguard.types.evidence import EVIDENCE_NAMES, Evidence
from modelguard.types.findings import Absence, Missing
from modelguard.types.logs import TrainingLog


def only_log(log: TrainingLog | Missing, displacement: Displacement | Missing | None = None) -> Evidence:
    """Evidence that consists of a training log, and of the weights' movement where it was asked for."""
    return only("the log", log=log, **({} if displacement is None else {"displacement": displacement}))


def only(what: str, **given: object) -> Evidence:
    """Evidence that consists of the named pieces alone."""
    nothing = Missing(f"only {what} is looked at", kind=Absence.INAPPLICABLE)
    return Evidence(**{name: given.get(name, nothing) for name in EVIDENCE_NAMES})  # type: ignore[arg-type]
