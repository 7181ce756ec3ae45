"""Geometry: honest discontinuities have a class and an excuse, and what is taken out has neither."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelguard.types.logs import Discontinuity, Jump, Run
from tests.logs.building import events, found, lines, log_of, run_of, state

FIRST, SECOND, THIRD = (f"logs/events.out.tfevents.{start}.host.7.0" for start in (1000, 2000, 3000))


def jump(run: Run, kind: Jump) -> Discontinuity:
    (only,) = (entry for entry in run.discontinuities if entry.kind is kind)
    return only


HONEST = {
    "plain": range(10, 1001, 10),
    "first step logged too": [1, *range(10, 1001, 10)],
    "from step 0": range(0, 1000, 10),
    "from step 1 by tens": range(1, 1000, 10),
    "zero based": range(49, 2000, 50),
    "a short last row": [*range(10, 1001, 10), 1003],
    "rows at epochs' ends too": sorted({*range(10, 1001, 10), *range(63, 1001, 63)}),
    "the interval shrinks at a resume": [500, 1000, 1500, *range(1510, 3000, 10)],
    "the interval grows": [*range(1, 100), *range(100, 3000, 100)],
    "three intervals": [*range(1, 10), *range(10, 100, 10), *range(100, 2000, 100)],
    "two records": [10, 20],
    "one record": [10],
    "powers of two": [2**power for power in range(12)],
    "steps with no rhythm": [3, 10, 14, 30, 31, 55, 70, 100],
    "a float interval": [round(step * 7.5) for step in range(1, 200)],
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_rhythms_raise_nothing(name: str) -> None:
    assert not found(log_of({"log.jsonl": lines(HONEST[name])}))
    assert not found(log_of({"events.out.tfevents.1.h.1.0": events(HONEST[name])}))


@pytest.mark.parametrize("name", ["plain", "first step logged too", "a short last row", "two records", "one record"])
def test_honest_states_raise_nothing(name: str) -> None:
    assert not found(log_of({"trainer_state.json": state(HONEST[name])}))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (HONEST["plain"], 10),
        (HONEST["first step logged too"], 10),
        (HONEST["rows at epochs' ends too"], 10),
        (HONEST["three intervals"], 100),
        (HONEST["powers of two"], 0),
        (HONEST["steps with no rhythm"], 0),
        ([5, 5, 5, 5], 0),
        ([10, 20, 40, 90], 0),
    ],
)
def test_cadence(steps: list[int], expected: int) -> None:
    assert run_of(lines(steps), "a.jsonl").cadence == expected


def test_a_stated_interval_decides_where_records_are_few() -> None:
    assert run_of(state([10, 40])).cadence == 10
    assert run_of(state([10, 40], logging_steps=7)).cadence == 0
    epochs = b'{"logging_steps": 500, "log_history": [{"epoch": 1.0, "loss": 2, "step": 313}, {"epoch": 2.0, "loss": 1, "step": 626}]}'
    assert run_of(epochs).cadence == 313


@given(st.integers(1, 40), st.integers(30, 120), st.data())
def test_a_stretch_that_is_taken_out_is_named_exactly(cadence: int, count: int, data: st.DataObject) -> None:
    steps = [cadence * index for index in range(1, count + 1)]
    start = data.draw(st.integers(3, count - 10))
    length = data.draw(st.integers(1, min(count // 3, count - start - 4)))
    run = run_of(lines(steps[:start] + steps[start + length :]), "a.jsonl")
    hole = jump(run, Jump.MISSING)
    assert (run.cadence, hole.before, hole.after, hole.missing) == (cadence, steps[start - 1], steps[start + length], length * cadence)
    assert not hole.excused


def test_a_resume_is_no_gap() -> None:
    run = log_of({FIRST: events(range(10, 501, 10)), SECOND: events(range(510, 1001, 10))}).runs[0]
    assert jump(run, Jump.RESUME).excused
    assert (len(run.segments), run.segments[0].last, run.cadence) == (1, 1000, 10)
    assert run.notes == (f"goes on in {SECOND}",)


def test_a_rollback_is_listed() -> None:
    log = log_of({FIRST: events(range(10, 741, 10)), SECOND: events(range(510, 1001, 10))})
    back = jump(log.runs[0], Jump.ROLLBACK)
    assert (back.before, back.after) == (740, 510)
    assert back.excused == "another process wrote on from there: a rollback to a checkpoint"
    assert [segment.first for segment in log.runs[0].segments] == [10, 510]
    assert not found(log)


def test_rollbacks_without_a_restart_need_a_checkpoint_or_like_losses() -> None:
    replayed = run_of(lines(chain(range(10, 741, 10), range(430, 1001, 10))), "a.jsonl")
    assert jump(replayed, Jump.ROLLBACK).excused == "the steps are replayed with similar losses"
    other = lines(range(10, 741, 10)) + lines(range(430, 1001, 10), loss=70.0)
    assert not jump(run_of(other, "a.jsonl"), Jump.REWIND_SKIP).excused
    known = lines(range(10, 741, 10), save_steps=420) + lines(range(430, 1001, 10), loss=70.0)
    assert jump(run_of(known, "a.jsonl"), Jump.REWIND_SKIP).excused == "a rollback to a checkpoint (every 420 steps)"


def test_a_counter_that_restarts() -> None:
    over = run_of(lines(range(10, 741, 10)) * 2, "a.jsonl")
    assert jump(over, Jump.COUNTER_RESET).excused == "training starts again from the beginning"
    goes_on = lines(range(10, 741, 10)) + lines(range(10, 741, 10), loss=9 / 8.4)
    assert not jump(run_of(goes_on, "a.jsonl"), Jump.COUNTER_RESET).excused
    within = b"".join(lines(range(10, 101, 10), epoch=epoch, loss=2.0 - epoch) for epoch in (0, 1))
    assert jump(run_of(within, "a.jsonl"), Jump.COUNTER_RESET).excused == "steps are counted within epochs"


def test_holes_at_a_restart_are_excused_by_what_the_log_says_of_checkpoints() -> None:
    pieces = {FIRST: events(range(10, 401, 10)), SECOND: events(range(510, 1001, 10))}
    assert not jump(log_of(pieces).runs[0], Jump.MISSING).excused
    for save, excuse in ((100, "no longer than the 100 steps"), (250, "from a checkpoint (every 250 steps)"), (37, "")):
        beside = {"out/trainer_state.json": state(range(10, 1001, 10), save_steps=save)}
        pieces[SECOND] = events(range(510 if save != 250 else 760, 1001, 10))
        run = next(run for run in log_of(pieces | beside).runs if run.format == "tfevents")
        assert excuse in jump(run, Jump.MISSING).excused
        assert bool(excuse) == bool(jump(run, Jump.MISSING).excused)


def test_a_hole_in_a_state_has_no_excuse_because_states_carry_their_history() -> None:
    run = run_of(state([*range(10, 401, 10), *range(510, 1001, 10)], save_steps=500))
    assert jump(run, Jump.MISSING).missing == 100
    assert not jump(run, Jump.MISSING).excused


def test_wall_time_alone_is_nothing() -> None:
    late = lines(range(10, 501, 10), timestamp=1e9) + lines(range(510, 1001, 10), timestamp=1.5e9)
    assert not run_of(late, "a.jsonl").discontinuities


def test_head_and_tail() -> None:
    assert jump(run_of(state(range(210, 1001, 10))), Jump.HEAD).missing == 200
    assert jump(run_of(state(range(10, 901, 10), global_step=1000)), Jump.TAIL).missing == 100
    assert jump(run_of(state(range(10, 901, 10)), "out/checkpoint-1000/trainer_state.json"), Jump.TAIL).after == 1000
    assert not run_of(state(range(10, 901, 10)), "out/checkpoint-900/trainer_state.json").discontinuities
    assert not run_of(state(range(10, 901, 10), global_step=909, max_steps=5000)).discontinuities
    assert jump(run_of(lines(range(510, 1001, 10), save_steps=500), "a.jsonl"), Jump.HEAD).excused


def test_newest_first_is_read_backwards() -> None:
    run = run_of(lines(range(1000, 0, -10)), "a.jsonl")
    assert (run.cadence, run.segments[0].first, run.discontinuities) == (10, 10, ())


def test_a_dashboards_sample_is_not_held_against_the_log() -> None:
    steps = [step for step in range(10, 10001, 10) if step % 130]
    data = b"Wall time,Step,Value\n" + b"".join(b"1.5,%d,2.0\n" % step for step in steps)
    assert not found(log_of({"export.csv": data}))
    assert found(log_of({"own.csv": data.replace(b"Wall time,Step,Value", b"wall_time,step,loss")}))


def test_a_log_thinner_than_it_says_is_noted() -> None:
    assert run_of(state(range(50, 1001, 50))).notes == ("the log states an interval of 10 steps, its records are 50 apart",)
    assert not run_of(state(range(1000, 9001, 1000), logging_steps=500)).notes
