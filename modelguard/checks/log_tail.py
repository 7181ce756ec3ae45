"""A training log that ends before the training did.

A log that says nothing about where the run ended cannot end too early; a run that stopped before `max_steps` is no finding.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.findings import Claim, Level, Numbers, found, not_applicable, ok, unknown
from modelguard.types.logs import Jump, Run, TrainingLog


def check(log: TrainingLog) -> Iterator[Claim]:
    """The last training record is of the last steps that the log itself, or the name of its checkpoint folder, claims."""
    yield from (_judge(run) for run in log.judged)
    if not log.judged:
        yield not_applicable("no training record in any log")


def _judge(run: Run) -> Claim:
    if run.undecidable:
        return unknown(f"{run.source}: {run.undecidable}", numbers=_numbers(run), where=run.source, settle="a log with a regular interval")
    cut = run.unexplained(Jump.TAIL)
    if not cut:
        return ok(_fine(run), numbers=_numbers(run), where=run.source)
    # a single record may be lost between the last log and the save; more than one is a stretch of training without a log
    short = cut[0].after - cut[0].before <= run.cadence
    return found(
        f"{cut[0].note}: {cut[0].missing // run.cadence} records of cadence {run.cadence} after it are not there",
        severity=Level.LOW if short else Level.HIGH,
        confidence=Level.HIGH,
        numbers={**_numbers(run), "reached": cut[0].after, "missing": cut[0].missing, "share": cut[0].missing / run.length},
        where=run.source,
        settle="the log of the last steps",
    )


def _numbers(run: Run) -> Numbers:
    claims = {name: run.claimed[name] for name in ("global_step", "max_steps") if name in run.claimed}
    return {"last_step": run.last_step, "cadence": run.cadence, **claims}


def _fine(run: Run) -> str:
    planned = int(run.claimed.get("max_steps", 0))
    text = f"the last training record is of step {run.last_step}"
    if "global_step" in run.claimed:
        text += f", the run claims {int(run.claimed['global_step'])} steps"
    return f"{text} ({planned} were planned)" if planned > run.length else text
