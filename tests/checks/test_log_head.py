from __future__ import annotations

import pytest

from modelguard.checks.log_head import check
from modelguard.types.findings import Claim, Level, Status
from tests.logs.building import events, lines, log_of, state


def judge(name: str, data: bytes) -> Claim:
    (claim,) = check(log_of({name: data}))
    return claim


@pytest.mark.parametrize("steps", [range(10, 901, 10), range(0, 900, 10), [1, *range(10, 901, 10)], range(49, 2000, 50)])
def test_logs_that_begin_at_the_beginning(steps: list[int]) -> None:
    assert judge("a.jsonl", lines(steps)).status is Status.OK


def test_a_state_without_its_first_rows() -> None:
    claim = judge("trainer_state.json", state(range(210, 1001, 10)))
    assert (claim.status, claim.severity, claim.confidence) == (Status.FOUND, Level.HIGH, Level.HIGH)
    assert claim.text == "the log begins at step 210: 20 records of cadence 10 before it are not there"
    assert {"first_step": 210, "missing": 200, "share": 0.2}.items() <= dict(claim.numbers).items()


def test_other_logs_may_be_a_second_part() -> None:
    assert judge("a.jsonl", lines(range(210, 1001, 10))).severity is Level.MEDIUM
    assert judge("events.out.tfevents.1.h.1.0", events(range(210, 1001, 10))).severity is Level.MEDIUM
    explained = judge("a.jsonl", lines(range(510, 1001, 10), save_steps=500))
    assert explained.status is Status.OK
    assert "begins at a checkpoint (every 500 steps)" in explained.text


def test_too_few_records_do_not_decide() -> None:
    assert judge("a.jsonl", lines([900, 1000])).status is Status.UNKNOWN
    assert judge("a.jsonl", b'{"step": 1, "eval_loss": 2}\n').status is Status.NOT_APPLICABLE
