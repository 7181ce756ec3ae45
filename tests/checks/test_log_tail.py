from __future__ import annotations

from modelguard.checks.log_tail import check
from modelguard.types.findings import Claim, Level, Status
from tests.logs.building import lines, log_of, state


def judge(name: str, data: bytes) -> Claim:
    (claim,) = check(log_of({name: data}))
    return claim


def test_a_log_that_reaches_what_it_claims() -> None:
    claim = judge("checkpoint-1000/trainer_state.json", state(range(10, 1001, 10), max_steps=5000))
    assert claim.status is Status.OK
    assert claim.text == "the last training record is of step 1000, the run claims 1000 steps (5000 were planned)"
    assert judge("trainer_state.json", state(range(10, 1001, 10), global_step=1009)).status is Status.OK
    assert judge("a.jsonl", lines(range(10, 901, 10), total_steps=1000)).status is Status.OK


def test_a_state_without_its_last_rows() -> None:
    claim = judge("trainer_state.json", state(range(10, 901, 10), global_step=1000))
    assert (claim.status, claim.severity) == (Status.FOUND, Level.HIGH)
    assert claim.text.startswith(
        "the log's own global_step says step 1000, the last training record is of step 900: 10 records of cadence 10"
    )
    assert {"last_step": 900, "reached": 1000, "missing": 100, "share": 0.1}.items() <= dict(claim.numbers).items()


def test_one_lost_record_is_a_hiccup() -> None:
    assert judge("trainer_state.json", state(range(10, 991, 10), global_step=1000)).severity is Level.LOW
    assert judge("trainer_state.json", state(range(10, 981, 10), global_step=1000)).severity is Level.HIGH


def test_the_folders_name_is_a_claim() -> None:
    assert judge("out/checkpoint-1000/trainer_state.json", state(range(10, 501, 10))).severity is Level.HIGH
    assert judge("out/checkpoint-1000/log.jsonl", lines(range(10, 501, 10))).severity is Level.HIGH
    assert judge("checkpoint-1000/second/log.jsonl", lines(range(10, 501, 10))).status is Status.OK
    assert judge("out/checkpoint-500/log.jsonl", lines(range(10, 501, 10))).status is Status.OK


def test_too_few_records_do_not_decide() -> None:
    assert judge("a.jsonl", lines([900, 1000])).status is Status.UNKNOWN
    assert judge("a.jsonl", b'{"step": 1, "eval_loss": 2}\n').status is Status.NOT_APPLICABLE
