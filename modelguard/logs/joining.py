"""Which files tell of one run: files of processes that follow one another or of single metrics, and states that open a longer one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import reduce

from modelguard.logs.cadence import cadence, main_series
from modelguard.logs.mlflow_points import merge
from modelguard.types.logs import Jump, LogRecord, Run

TFEVENTS = "tfevents"
WANDB = "wandb"
MLFLOW = "mlflow"
MODELS = "models"  # MLflow keeps the metrics of a logged model in a folder of this name, and those of its run beside it
HF_TRAINER = "hf-trainer"
_STARTED = re.compile(r"\.tfevents\.(\d{1,15})\.(.*)$")


def join(runs: Iterable[Run]) -> tuple[Run, ...]:
    """The runs, with files of one run joined: event files of a folder where one goes on from another, in order of their start;
    W&B's files of one run id, a file for each process; MLflow's files of one run, a file for each metric.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    joined: list[Run] = []
    for run in runs:
        if run.format in _IDENTITIES:
            groups.setdefault((run.format, _IDENTITIES[run.format](run)), []).append(run)
        else:
            joined.append(run)
    for (form, _), members in sorted(groups.items()):
        joined += _JOINERS[form](members)
    return tuple(sorted(joined, key=lambda run: run.source))


def _events(runs: Sequence[Run]) -> list[Run]:
    return _chain(sorted(runs, key=_start))


def _processes(runs: Sequence[Run]) -> list[Run]:
    """The files of one W&B run, in order of the processes' start; a copy, or the beginning of another file, is counted once."""
    kept: list[Run] = []
    for run in sorted(runs, key=lambda run: (-len(run.records), run.source)):
        if not run.run_id or not any(_begins(run, other) for other in kept):
            kept.append(run)
    kept.sort(key=lambda run: (run.claimed.get("started", 0.0), run.source))
    return [reduce(_append, kept)] if kept[0].run_id else kept


def _begins(short: Run, long: Run) -> bool:
    """Whether the records of one file open the other's."""
    same = (_content(a) == _content(b) for a, b in zip(short.records, long.records, strict=False))
    return len(short.records) <= len(long.records) and short.claimed.get("started") == long.claimed.get("started") and all(same)


def _metrics(runs: Sequence[Run]) -> list[Run]:
    """The metrics of one MLflow run as one log, named by the folder of its first file."""
    ordered = sorted(runs, key=lambda run: run.source)
    notes = tuple(f"{run.source}: {note}" for run in ordered for note in run.notes)
    source = min((run.source.partition("/metrics/")[0] for run in ordered), key=lambda folder: (f"/{MODELS}/" in folder, folder))
    return [replace(ordered[0], source=source, records=merge([run.records for run in ordered]), notes=notes)]


_IDENTITIES: dict[str, Callable[[Run], str]] = {
    TFEVENTS: lambda run: run.source.rpartition("/")[0],
    WANDB: lambda run: run.run_id or run.source,
    MLFLOW: lambda run: run.run_id,
}
_JOINERS: dict[str, Callable[[Sequence[Run]], list[Run]]] = {TFEVENTS: _events, WANDB: _processes, MLFLOW: _metrics}


def share_claims(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Logs that do not say how far checkpoints lie apart take it from a trainer state, where all states agree on it."""
    said = {run.claimed["save_steps"] for run in runs if run.format == HF_TRAINER and "save_steps" in run.claimed}
    if len(said) != 1:
        return tuple(runs)
    known = {"save_steps": said.pop()}
    return tuple(run if run.format == HF_TRAINER else replace(run, claimed={**known, **run.claimed}) for run in runs)


def without_beginnings(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Each run once: a trainer state whose rows open a longer one's is noted there and left out, unless its own end is missing."""
    kept = {run.source: run for run in runs}
    for short in sorted(runs, key=lambda run: (_extent(run), run.source)):
        longer = next((run for run in kept.values() if _opens(short, run)), None)
        if longer is None or not short.training or short.unexplained(Jump.TAIL):
            continue
        note = f"{short.source} tells the same run up to step {short.last_step}"
        kept[longer.source] = replace(longer, notes=(*longer.notes, note, *_inherited(kept.pop(short.source))))
    return tuple(kept.values())


def _inherited(run: Run) -> tuple[str, ...]:
    """What a run that is left out says of others that were left out in its favour."""
    return tuple(note for note in run.notes if " tells the same run up to step " in note)


def _chain(runs: Sequence[Run]) -> list[Run]:
    """Event files in order of their start: one that begins at the first steps is a new run, one that begins later goes on."""
    chains: list[Run] = []
    for run in runs:
        if chains and _goes_on(chains[-1], run):
            chains[-1] = _append(chains[-1], run)
        else:
            chains.append(run)
    return chains


def _goes_on(before: Run, run: Run) -> bool:
    """Whether a file is not the start of training: it begins above its own first interval and above the other's first step."""
    steps, earlier = [record.step for record in main_series(run)], [record.step for record in main_series(before)]
    if not steps or not earlier:
        return not steps  # evaluations alone belong to the run before them; training after evaluations alone does not
    usual = cadence([steps], 0) or (steps[1] - steps[0] if len(steps) > 1 else 0)
    return steps[0] > max(usual, 1) + 1 and steps[0] > earlier[0]


def _append(before: Run, run: Run) -> Run:
    session = max((record.session for record in before.records), default=0) + 1
    later = tuple(replace(record, session=record.session + session) for record in run.records)
    notes, identities = (*before.notes, f"goes on in {run.source}", *run.notes), (*before.identities, *run.identities)
    return replace(before, records=before.records + later, notes=notes, identities=identities)


def _start(run: Run) -> tuple[int, str]:
    """When the writer of an event file started, from the file's name; then the rest of the name."""
    match = _STARTED.search(run.source)
    first = min((int(record.time) for record in run.records if record.time is not None and abs(record.time) < 1e15), default=0)
    return (int(match[1]), match[2]) if match else (first, run.source)


def _opens(short: Run, long: Run) -> bool:
    """Whether the training records of one state open the other's, step and values alike (a NaN is alike to a NaN)."""
    if short.format != HF_TRAINER or long.format != HF_TRAINER:
        return False
    same = (_content(a) == _content(b) for a, b in zip(short.training, long.training, strict=False))
    return (_extent(short), long.source) < (_extent(long), short.source) and len(short.training) <= len(long.training) and all(same)


def _content(record: LogRecord) -> tuple[int, str]:
    return record.step, repr(sorted(record.values.items()))


def _extent(run: Run) -> tuple[int, float]:
    return len(run.training), run.claimed.get("global_step", 0)
