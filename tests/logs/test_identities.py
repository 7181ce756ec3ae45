"""What an unedited log keeps: each relation on a log that keeps it, on one that breaks it, and on what must not be accused."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from modelguard.checks.base import all_checks
from modelguard.logs.base import assemble
from modelguard.types.findings import Level, Missing
from modelguard.types.logs import Standing, TrainingLog
from tests.logs.building import CORPUS, corpus_rows, log_of
from tests.logs.forgeries import Log, as_events, as_jsonl, as_state, factor, honest
from tests.logs.forgery_table import found

RULES = {"log-totals", "log-learning-rate", "log-number-format", "log-copied", "log-clock"}


def names(log: TrainingLog, standing: Standing = Standing.BROKEN) -> set[str]:
    return {identity.name for run in log.runs for identity in run.identities if identity.standing is standing}


def state(log: Log) -> TrainingLog:
    return log_of({"trainer_state.json": as_state(log)})


def with_rows(log: Log, change: Callable[[int, dict[str, Any]], dict[str, Any]]) -> Log:
    return replace(log, rows=tuple({**row, **change(index, row)} for index, row in enumerate(log.rows)))


def with_rates(rate: Callable[[int], float], rows: int = 100, every: int = 10, **claims: float) -> Log:
    rng = random.Random(5)
    made = [
        {"step": s, "loss": 2 + rng.random(), "learning_rate": rate(s), "epoch": s / (rows * every)}
        for s in range(every, every * rows + 1, every)
    ]
    return Log(tuple(made), {"global_step": rows * every, "max_steps": rows * every, "logging_steps": every, **claims})


def test_every_new_rule_is_shipped() -> None:
    assert {check.rule for check in all_checks()} >= RULES


def test_no_log_of_the_corpus_breaks_a_relation() -> None:
    folders: dict[str, dict[str, bytes]] = defaultdict(dict)
    for row in corpus_rows({"trainer_state", "tfevents", "metrics_csv", "wandb_binary", "wandb_output_log"}):
        owner, commit, _ = row["path"].split("/", 2)
        folders[f"{owner}/{commit}"][row["path"]] = (CORPUS / row["path"]).read_bytes()
        folders[owner][row["path"]] = (CORPUS / row["path"]).read_bytes()
    judged = 0
    for files in folders.values():
        log = assemble(files)
        if isinstance(log, Missing):
            continue
        assert names(log) <= {"layout"}
        judged += sum(identity.standing is Standing.HOLDS for run in log.runs for identity in run.identities)
    assert judged > 300


@pytest.mark.parametrize("seed", range(6))
def test_honest_runs_keep_every_relation(seed: int) -> None:
    log = honest(seed, decimals=4 if seed % 2 else None)
    assert names(state(log)) == set()
    assert names(state(log), Standing.HOLDS) >= {"train-loss", "steps-rate", "epoch-steps", "schedule", "grad_norm", "loss", "copied"}
    assert names(log_of({"events.out.tfevents.1700000000.h.1.0": as_events(log)}), Standing.HOLDS) >= {"train-loss", "schedule", "clock"}
    assert names(log_of({"a.jsonl": as_jsonl(log)})) == set()


def test_totals_of_other_runs_are_found() -> None:
    log = honest(2, decimals=4)
    last = len(log.rows) - 1
    for change, name in (({"train_loss": 1.5}, "train-loss"), ({"train_runtime": 3.0}, "steps-rate")):
        assert name in "".join(names(state(log.changed({last: change}))))
    jumped = with_rows(log, lambda index, row: {"epoch": row["epoch"] * 1.5} if 30 <= index < 60 else {})
    assert names(state(jumped)) & {"epoch-steps", "epoch-back"}
    assert not names(state(log.changed({last: {"train_loss": math.nan}})))


def test_evaluations_of_other_sizes_are_of_low_severity() -> None:
    log = honest(4, decimals=4)
    rows = [
        {"step": 50 * i, "eval_loss": 1.0, "eval_runtime": 2.0 + i, "eval_steps_per_second": round(80 / (2.0 + i), 3)} for i in range(1, 5)
    ]
    assert "eval-batches" in names(state(replace(log, rows=(*log.rows, *rows))), Standing.HOLDS)
    rows[2]["eval_runtime"] = 9.0
    odd = state(replace(log, rows=(*log.rows, *rows)))
    assert "eval-batches" in names(odd)
    assert not [claim for claim in found(odd, Level.MEDIUM) if "batches" in claim.text]


SCHEDULES: dict[str, Callable[[int], float]] = {
    "constant": lambda s: 3e-5,
    "warm-up and constant": lambda s: 3e-5 * min(1, s / 200),
    "linear after the step": lambda s: 5e-5 * factor("linear", s, 100, 1000),
    "linear before the step": lambda s: 5e-5 * factor("linear", s - 1, 0, 1000),
    "cosine": lambda s: 2e-4 * factor("cosine", s - 1, 30, 1000),
    "cosine of another length": lambda s: 2e-4 * factor("cosine", s, 0, 1015),
    "cosine with a floor": lambda s: 3e-4 * (0.1 + 0.9 * factor("cosine", s, 50, 1000)),
    "polynomial": lambda s: (1e-4 - 1e-7) * (1 - s / 1000) + 1e-7,
    "polynomial of power 2": lambda s: 1e-4 * (1 - s / 1001) ** 2,
    "inverse square root": lambda s: 1e-4 * min(s / 100, (100 / s) ** 0.5),
    "warm-up, stable, decay": lambda s: 6e-4 * min(1, s / 100, (1000 - s) / 200),
    "exponential": lambda s: 1e-3 * 0.999**s,
    "steps": lambda s: 1e-3 * 0.5 ** (s // 300),
    "steps skipped by mixed precision": lambda s: 5e-5 * factor("linear", s - (s > 5) - (s > 400) - (s > 402), 0, 1000),
    "a resume under another version": lambda s: 5e-5 * factor("cosine", s - (s > 500), 50, 1000),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_known_and_a_rewritten_stretch_is_found(name: str) -> None:
    rate = SCHEDULES[name]
    assert names(state(with_rates(rate)), Standing.HOLDS) >= {"schedule"}
    assert not names(state(with_rates(rate)))
    for more in (0.4, 0.97, 1.5):
        forged = state(with_rates(lambda s, more=more: rate(s) * (more if 560 <= s < 700 else 1)))
        if name != "steps":  # a schedule of constants may have any others between
            assert "rewritten" in names(forged), more


def test_schedules_that_are_not_known_are_left_open() -> None:
    rng = random.Random(1)
    log = state(with_rates(lambda s: 1e-4 * rng.random()))
    assert "schedule" in names(log, Standing.OPEN)
    assert not names(log)
    changed = state(with_rates(lambda s: 5e-5 * factor("linear", s, 0, 1000) if s < 500 else 2e-5 * factor("cosine", s, 0, 2000)))
    assert not {"rewritten"} & names(changed)


def test_a_schedule_beyond_the_planned_steps_is_of_low_severity() -> None:
    log = state(with_rates(lambda s: 5e-5 * factor("linear", s, 0, 3000)))
    (claim,) = found(log, Level.INFO)
    assert (claim.severity, claim.numbers["schedule_end"]) == (Level.LOW, 3000)


def test_typed_numbers_are_found() -> None:
    log = honest(3, decimals=4)
    assert "grad_norm-inside" in names(
        state(with_rows(log, lambda i, row: {"grad_norm": round(row["grad_norm"], 3)} if 40 <= i < 50 else {}))
    )
    assert "grad_norm-end" in names(state(with_rows(log, lambda i, row: {"grad_norm": 1.23} if 100 <= i < 120 else {})))
    assert "loss-inside" in names(state(with_rows(log, lambda i, row: {"loss": row["loss"] * 1.0001} if 40 <= i < 50 else {})))
    doubles = with_rows(log, lambda i, row: {"grad_norm": row["grad_norm"] * 1.1} if "grad_norm" in row and i % 5 else {})
    assert not names(state(doubles)) & {"grad_norm-inside", "grad_norm-end"}


def test_layout_is_worth_a_note() -> None:
    whole = json.loads(as_state(honest(3, decimals=4)))
    log = log_of({"trainer_state.json": json.dumps(whole).encode()})
    assert names(log) == {"layout"}
    assert {claim.severity for claim in found(log, Level.INFO)} == {Level.INFO}
    assert not names(log_of({"trainer_state.json": as_state(honest(3, decimals=4)).replace(b"\n", b"\r\n")}))


def test_honest_likeness_is_no_copy() -> None:
    one, two = honest(1, decimals=4), honest(2, decimals=4)
    start = with_rows(two, lambda i, row: {k: one.rows[i][k] for k in ("loss", "grad_norm")} if i < 60 else {})
    assert not names(log_of({"a/log.jsonl": as_jsonl(one), "b/log.jsonl": as_jsonl(start)})) & {"spliced", "copied", "copied-norms"}
    twice = {"a/trainer_state.json": as_state(one), "a/events.out.tfevents.1700000000.h.1.0": as_events(one)}
    assert not names(log_of(twice))
    still = with_rows(one, lambda i, row: {"loss": 0.0, "grad_norm": 0.0} if "loss" in row else {})
    assert not names(state(still)) & {"copied", "copied-norms"}
    frozen = with_rows(one, lambda i, row: {"loss": 1 + i % 20 / 10, "learning_rate": 0.0} if "loss" in row else {})
    assert not names(state(frozen)) & {"copied", "copied-norms"}


def test_clocks() -> None:
    log = honest(1, decimals=4)
    back = with_rows(log, lambda i, row: {"time": row["time"] - 5000} if i > 50 else {})
    assert names(log_of({"a.jsonl": as_jsonl(back)})) == {"backwards"}
    zone = with_rows(log, lambda i, row: {"time": row["time"] - 3600} if i > 50 else {})
    assert names(log_of({"a.jsonl": as_jsonl(zone)})) == {"zone"}
    even = with_rows(log, lambda i, row: {"time": 1.7e9 + 0.25 * row["step"]})
    assert names(log_of({"a.jsonl": as_jsonl(even)})) == {"even"}
    early = {"events.out.tfevents.1700009000.h.1.0": as_events(log)}
    assert names(log_of(early)) == {"early"}
    assert all(claim.severity < Level.HIGH for files in (early, {"a.jsonl": as_jsonl(even)}) for claim in found(log_of(files), Level.INFO))
    folder = {"wandb/run-20231120_120000-ab12/files/a.jsonl": as_jsonl(log)}
    assert names(log_of(folder)) == {"early"}
    assert not names(log_of({"wandb/run-20231115_120000-ab12/files/a.jsonl": as_jsonl(log)}))
    for moment, broken in ((1.7e9 + 1e5, set[str]()), (1.7e9 - 1e5, {"late"}), (None, set[str]())):
        told = assemble({"a.jsonl": as_jsonl(log)}, committed=moment)
        assert isinstance(told, TrainingLog)
        assert names(told) == broken
    seconds = with_rows(log, lambda i, row: {"time": 1_700_000_000 + 60 * i})
    assert not names(log_of({"a.jsonl": as_jsonl(seconds)}))


@pytest.mark.parametrize("value", [1e308, -1e308, 5e-324, 1e-300, math.inf, -math.inf, math.nan, 2.0**53, -1.0, 0.0])
@pytest.mark.parametrize("name", ["loss", "grad_norm", "learning_rate", "epoch", "time", "train_loss", "train_runtime", "save_steps"])
def test_wild_numbers_crash_nothing(name: str, value: float) -> None:
    log = honest(1, decimals=4, rows=40)
    wild = with_rows(log, lambda i, row: {name: value} if name in row and i % 3 == 0 else {})
    wild = replace(wild, claims={**log.claims, "save_steps": 1, name: value})
    for told in (state(wild), log_of({"a.jsonl": as_jsonl(wild)})):
        assert not [identity.text for run in told.runs for identity in run.identities if identity.name == "arithmetic"]


def test_repeating_values_cost_no_square() -> None:
    rows = tuple({"step": s, "loss": 1 + s % 9 / 16, "learning_rate": 1e-5} for s in range(1, 40_001))
    assert names(log_of({"a.jsonl": as_jsonl(Log(rows))})) >= {"copied"}


def test_a_replay_after_a_resume_in_a_second_log_is_no_copy() -> None:
    one = honest(1, decimals=4)
    rows = [dict(row) for row in one.rows[40:120]]
    rows[0]["loss"] += 0.01  # the first mean after a resume is over fewer steps
    assert not names(log_of({"a/log.jsonl": as_jsonl(one), "b/log.jsonl": as_jsonl(Log(tuple(rows)))})) & {"spliced", "copied"}
