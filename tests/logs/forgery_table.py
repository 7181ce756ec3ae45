"""Forgery × format: how many of the forged logs are found. `python -m tests.logs.forgery_table` prints the table."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from modelguard.checks import (
    log_backwards,
    log_clock,
    log_copied,
    log_gap,
    log_head,
    log_learning_rate,
    log_number_format,
    log_tail,
    log_totals,
)
from modelguard.logs.base import assemble
from modelguard.policy import default
from modelguard.types.findings import Claim, Level, Missing, Status
from modelguard.types.logs import TrainingLog
from tests.logs.building import CORPUS, corpus_rows
from tests.logs.forgeries import FORGERIES, FORMATS, Forgery, Log, as_state, honest

RULES = (log_backwards, log_clock, log_copied, log_head, log_learning_rate, log_number_format, log_tail, log_totals)
CORPUS_FORMAT = "state (corpus)"
SEEDS = 40
LEAST_ROWS = 40
Table = dict[str, dict[str, tuple[int, int]]]


def claims(log: TrainingLog) -> Iterator[Claim]:
    """What every rule on the log itself says."""
    yield from log_gap.check(log, default())
    for rule in RULES:
        yield from rule.check(log)


def found(log: TrainingLog, least: Level) -> list[Claim]:
    return [claim for claim in claims(log) if claim.status is Status.FOUND and claim.severity >= least]


def detected(files: Mapping[str, bytes]) -> bool:
    log = assemble(files)
    assert not isinstance(log, Missing), log
    return bool(found(log, Level.MEDIUM))


def corpus_states() -> list[tuple[str, Log]]:
    """The finished trainer states of the corpus whose loss and learning rate move, each run once."""
    runs: dict[str, tuple[str, Log]] = {}
    for row in corpus_rows({"trainer_state"}):
        state = json.loads((CORPUS / row["path"]).read_bytes())
        log = Log(tuple(state["log_history"]), {name: value for name, value in state.items() if name != "log_history"})
        losses = {log.rows[index]["loss"] for index in log.training}
        rates = [log.rows[index].get("learning_rate", 0) for index in log.training]
        if len(log.training) >= LEAST_ROWS and len(losses) > LEAST_ROWS // 2 and any(rates) and "train_loss" in log.rows[-1]:
            runs[json.dumps(log.rows[0])] = (row["path"], log)
    return sorted(runs.values(), key=lambda pair: pair[0])


def cases(form: str) -> Iterator[tuple[int, Log, Log]]:
    """(seed, an honest log, another honest log of the repository)."""
    if form == CORPUS_FORMAT:
        states = corpus_states()
        for seed, (_, log) in enumerate(states):
            yield seed, log, states[(seed + 1) % len(states)][1]
        return
    decimals = FORMATS[form][2]
    for seed in range(SEEDS):
        yield seed, honest(seed, decimals=decimals), honest(1000 + seed, decimals=decimals)


def files(form: str, forged: Log, log: Log, other: Log, forgery: Forgery) -> dict[str, bytes]:
    """The repository: the log in question in its checkpoint's folder, and the log of another run."""
    name, write, _ = FORMATS.get(form, ("trainer_state.json", as_state, None))
    folder = PurePosixPath("a") / (f"checkpoint-{int(log.claims['global_step'])}" if forgery.__name__ == "cut_tail" else "")
    return {f"{folder}/{name}": write(forged), f"b/{name}": write(other)}


def carries(form: str, forgery: Forgery) -> bool:
    """Whether a format holds what a forgery changes: a trainer state has no times."""
    return not (form.startswith("state") and forgery.__name__ == "shifted_timestamps")


def measure(formats: tuple[str, ...] = (CORPUS_FORMAT, *FORMATS)) -> Table:
    """(found, tried) for each forgery and format."""
    table: Table = {}
    for forgery in FORGERIES:
        row = table.setdefault(forgery.__name__, {})
        for form in formats:
            if not carries(form, forgery):
                continue
            hits = [
                detected(files(form, forgery(log, other, random.Random(f"{forgery.__name__} {seed}")), log, other, forgery))
                for seed, log, other in cases(form)
            ]
            row[form] = (sum(hits), len(hits))
    return table


def printed(table: Table) -> str:
    """The table as Markdown."""
    formats = list(next(iter(table.values())))
    lines = [f"| forgery | {' | '.join(formats)} |", "|---" * (len(formats) + 1) + "|"]
    for name, row in table.items():
        cells = (f"{row[form][0]}/{row[form][1]}" if form in row else "–" for form in formats)
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(printed(measure()) + "\n")
