from __future__ import annotations

from modelguard.checks.log_backwards import check
from modelguard.types.findings import Claim, Level, Status
from tests.logs.building import events, lines, log_of


def judge(data: bytes) -> Claim:
    (claim,) = check(log_of({"a.jsonl": data}))
    return claim


def test_steps_that_only_grow() -> None:
    claim = judge(lines([1, 2, 2, 3]))
    assert (claim.status, claim.text) == (Status.OK, "the steps of 4 training records only grow")


def test_rollbacks_are_listed_and_no_finding() -> None:
    starts = [(10, 500), (410, 800), (710, 1200), (910, 1500)]
    files = {f"events.out.tfevents.{at}.h.1.0": events(range(first, last + 1, 10)) for at, (first, last) in enumerate(starts, start=1)}
    (claim,) = check(log_of(files))
    assert claim.status is Status.OK
    assert claim.numbers["returns"] == 3
    assert "500 to 410 (another process wrote on from there" in claim.text


def test_a_return_that_nothing_explains() -> None:
    claim = judge(lines(range(10, 741, 10)) + lines(range(430, 1001, 10), loss=70.0))
    assert (claim.status, claim.severity) == (Status.FOUND, Level.MEDIUM)
    assert claim.text == "the log returns from step 740 to step 430, with different losses"
    assert dict(claim.numbers) == {"from_step": 740, "to_step": 430, "count": 1}


def test_a_counter_that_restarts_while_the_loss_goes_on() -> None:
    claim = judge(lines(range(10, 741, 10)) + lines(range(10, 741, 10), loss=9 / 8.4))
    assert (claim.status, claim.severity) == (Status.FOUND, Level.LOW)
    assert claim.text == "the step counter restarts at 10 after step 740, the loss goes on"


def test_a_log_without_training_does_not_arise() -> None:
    assert judge(b'{"step": 1, "eval_loss": 2}\n').status is Status.NOT_APPLICABLE
