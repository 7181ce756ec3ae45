from __future__ import annotations

import pytest

from modelguard.checks.log_gap import check
from modelguard.policy import default
from modelguard.types.findings import Claim, Level, Status
from tests.logs.building import events, lines, log_of, policy, state


def judge(steps: list[int], text: str = "") -> Claim:
    (claim,) = check(log_of({"trainer_state.json": state(steps)}), policy(text) if text else default())
    return claim


def without(first: int, last: int, end: int = 1000) -> list[int]:
    return [step for step in range(10, end + 1, 10) if not first <= step <= last]


def test_a_whole_log_is_ok() -> None:
    claim = judge(without(0, 0))
    assert claim.status is Status.OK
    assert claim.text == "100 training records of cadence 10, up to step 1000, leave no step out"
    assert claim.where == "trainer_state.json"
    assert claim.numbers["records"] == 100


def test_a_stretch_is_named() -> None:
    claim = judge(without(200, 260))
    assert (claim.status, claim.severity, claim.confidence) == (Status.FOUND, Level.HIGH, Level.HIGH)
    assert claim.text == "steps 200 to 260 are not in the log: 7 records of cadence 10"
    expected = {"first_missing": 200, "last_missing": 260, "missing": 70, "share": 0.07, "cadence": 10, "holes": 1}
    assert expected.items() <= dict(claim.numbers).items()
    assert claim.settle


@pytest.mark.parametrize(
    ("steps", "severity"),
    [
        (without(200, 200), Level.LOW),
        (without(200, 210), Level.LOW),
        (without(200, 220), Level.HIGH),
        (without(200, 290, end=10_000), Level.LOW),
        (without(200, 300, end=10_000), Level.HIGH),
    ],
)
def test_up_to_two_records_or_one_percent_is_a_hiccup(steps: list[int], severity: Level) -> None:
    assert judge(steps).severity is severity


def test_policy_moves_the_share() -> None:
    assert judge(without(200, 260), "rules: {log-gap: {max-missing: 10%}}").severity is Level.LOW
    assert judge(without(200, 300, end=10_000), "rules: {log-gap: {max-missing: 0%}}").severity is Level.HIGH


def test_small_holes_add_up_and_the_longest_are_named() -> None:
    steps = [step for step in range(10, 1001, 10) if step % 150 and step != 310]
    claim = judge(steps)
    assert claim.severity is Level.HIGH
    assert claim.numbers["missing"] == 70
    assert "steps 300 to 310" in claim.text
    assert "and 2 shorter stretches are not in the log: 7 records" in claim.text
    assert judge(without(500, 500)).text == "step 500 is not in the log: 1 record of cadence 10"


def test_a_first_step_logged_beside_the_rhythm_does_not_move_the_names() -> None:
    claim = judge([1, *without(0, 200)])
    assert (claim.numbers["first_missing"], claim.numbers["last_missing"]) == (10, 200)


def test_too_few_or_irregular_records_do_not_decide() -> None:
    log = log_of({"a.jsonl": lines([10, 500])})
    (claim,) = check(log, default())
    assert (claim.status, claim.why) == (Status.UNKNOWN, "a.jsonl: fewer than 3 training records")
    (claim,) = check(log_of({"a.jsonl": lines([3, 10, 14, 30, 31, 55, 70, 100])}), default())
    assert claim.why == "a.jsonl: the training records have no regular cadence"
    (claim,) = check(log_of({"a.jsonl": b'{"step": 1, "eval_loss": 2}\n'}), default())
    assert claim.why == "no training record in any log"


def test_an_abandoned_start_beside_a_whole_log_is_set_aside() -> None:
    first, second = check(log_of({"a.jsonl": lines([10]), "b.jsonl": lines(range(10, 1001, 10))}), default())
    assert (first.status, second.status) == (Status.NOT_APPLICABLE, Status.OK)


def test_a_log_that_could_not_be_read_is_no_pass() -> None:
    claims = tuple(check(log_of({"a.jsonl": lines(range(9)), "b.csv": b"step,loss\n1\n2\n"}), default()))
    assert [claim.status for claim in claims] == [Status.UNKNOWN, Status.OK]
    assert claims[0].why == "b.csv: line 2 does not fit the header"


def test_an_excused_hole_is_told() -> None:
    names = [f"events.out.tfevents.{start}.host.7.0" for start in (1, 2)]
    files = {names[0]: events(range(10, 401, 10)), names[1]: events(range(510, 1001, 10)), "trainer_state.json": state(range(10, 1001, 10))}
    claims = tuple(check(log_of(files), default()))
    assert {claim.status for claim in claims} == {Status.OK}
    assert "1 holes are explained: at a restart" in claims[0].text
