"""Losses that were made from other losses by one line: found where they stand, and nothing else is."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from modelguard.types.findings import Level
from tests.logs.building import log_of
from tests.logs.forgeries import Log, as_jsonl, as_state, honest
from tests.logs.forgery_table import found
from tests.logs.test_identities import names, with_rows

Losses = Callable[[int], float | None]


def with_losses(log: Log, loss: Losses) -> Log:
    return with_rows(log, lambda i, row: {"loss": made} if "loss" in row and (made := loss(i)) is not None else {})


def losses(log: Log) -> list[float]:
    return [row["loss"] for row in log.rows if "loss" in row]


@pytest.mark.parametrize("decimals", [4, None])
@pytest.mark.parametrize(("a", "b"), [(0.8, 0.1), (1.3, -0.4), (-0.9, 4.0), (1.0, -0.3), (0.5, 0.0)])
def test_a_stretch_made_from_another_of_the_run_is_found(decimals: int | None, a: float, b: float) -> None:
    log = honest(1, decimals=decimals)
    source = losses(log)

    def made(i: int) -> float | None:
        value = a * source[i - 60] + b
        return (round(value, decimals) if decimals else value) if 70 <= i < 110 else None

    told = log_of({"trainer_state.json": as_state(with_losses(log, made))})
    assert "affine" in names(told)
    (identity,) = [item for run in told.runs for item in run.identities if item.name == "affine"]
    assert float(identity.numbers["factor"]) == pytest.approx(a, rel=0.02)
    assert float(identity.numbers["offset"]) == pytest.approx(b, abs=0.05)


def test_a_run_made_from_another_is_found_and_one_in_another_unit_is_not() -> None:
    one, two = honest(1, decimals=4), honest(2, decimals=4)
    source = losses(one)
    made = with_losses(two, lambda i: round(1.1 * source[i] + 0.05, 4) if i < len(source) else None)
    told = log_of({"a/log.jsonl": as_jsonl(one), "b/log.jsonl": as_jsonl(made)})
    assert "affine-run" in names(told)
    assert {claim.severity for claim in found(told, Level.INFO) if "times the losses" in claim.text} == {Level.LOW}
    bits = with_losses(one, lambda i: round(source[i] / math.log(2), 4))
    assert "affine-run" not in names(log_of({"a/log.jsonl": as_jsonl(one), "b/log.jsonl": as_jsonl(bits)}))


def test_honest_curves_are_not_made_from_one_another() -> None:
    assert not names(log_of({f"{seed}/log.jsonl": as_jsonl(honest(seed, decimals=4, rows=400)) for seed in range(8)})) & {
        "affine",
        "affine-run",
    }
    smooth = with_losses(honest(1, decimals=None), lambda i: 2 + math.sin(i) * 1e-7)
    assert not names(log_of({"a.jsonl": as_jsonl(smooth)})) & {"affine"}
    still = with_losses(honest(1, decimals=4), lambda i: 0.0)
    assert not names(log_of({"a.jsonl": as_jsonl(still)})) & {"affine"}
    one = honest(1, decimals=4)
    noise = random.Random(7)
    near = with_losses(honest(2, decimals=4), lambda i: losses(one)[i] * 1.1 + noise.gauss(0, 0.01) if i < 100 else None)
    assert "affine-run" not in names(log_of({"a/log.jsonl": as_jsonl(one), "b/log.jsonl": as_jsonl(near)}))


def test_a_long_repetition_costs_no_square() -> None:
    rows = honest(1, decimals=4, rows=10_000).rows
    twice = replace(honest(1, decimals=4), rows=tuple({**rows[i % 5000], "step": 10 * (i + 1)} for i in range(10_000)))
    started = time.process_time()
    assert "affine" not in names(log_of({"a.jsonl": as_jsonl(twice)}))
    assert time.process_time() - started < 8
