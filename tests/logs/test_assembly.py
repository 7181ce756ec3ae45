"""Several files beside one model become one training log."""

from __future__ import annotations

from modelguard.errors import CannotFetch
from modelguard.logs.base import assemble
from modelguard.logs.timeline import timeline
from modelguard.types.findings import Absence, Missing
from modelguard.types.logs import TrainingLog
from tests.logs.building import event, events, lines, log_of, refusal, run_of, state


def test_no_log_is_absence_and_a_damaged_one_is_not() -> None:
    assert refusal({}).kind is Absence.ABSENT
    assert refusal({"data.csv": b"text,label\n"}).kind is Absence.ABSENT
    broken = refusal({"a/trainer_state.json": b'{"a" 1}', "b.jsonl": lines([1, 2, 3])})
    assert (broken.kind, broken.why) == (Absence.BROKEN, "a/trainer_state.json: not JSON (line 1 column 6)")
    assert refusal({"b.jsonl": lines([1]) + b"{\n" + lines([2])}).kind is Absence.BROKEN


def test_a_log_that_cannot_be_read_beside_one_that_can_is_listed() -> None:
    log = log_of({"a.jsonl": lines([1, 2, 3]), "b.jsonl": lines([1]) + b"{\n" + lines([2])})
    assert log.unread == ("b.jsonl: not JSON (line 2 column 2)",)


def test_loaders_are_called_and_their_refusals_are_reasons() -> None:
    def gone() -> bytes:
        raise CannotFetch("trainer_state.json: not on the server", advice="push it")

    missing = assemble({"trainer_state.json": gone})
    assert missing == Missing("trainer_state.json: not on the server", advice="push it", kind=Absence.BROKEN)
    assert isinstance(assemble({"trainer_state.json": lambda: state([10, 20, 30])}), TrainingLog)


def test_a_state_that_opens_a_longer_one_is_counted_once() -> None:
    files = {f"checkpoint-{last}/trainer_state.json": state(range(10, last + 1, 10)) for last in (500, 1000)}
    (run,) = log_of(files).runs
    assert run.notes == ("checkpoint-500/trainer_state.json tells the same run up to step 500",)
    cut = {**files, "checkpoint-500/trainer_state.json": state(range(10, 301, 10), global_step=500)}
    assert len(log_of(cut).runs) == 2
    assert len(log_of({**files, "other/trainer_state.json": state(range(5, 301, 5))}).runs) == 2
    twins = {name: state(range(10, 101, 10)) for name in ("a/trainer_state.json", "b/trainer_state.json")}
    assert [run.source for run in log_of(twins).runs] == ["a/trainer_state.json"]


def test_event_files_of_separate_attempts_stay_separate() -> None:
    names = [f"logs/events.out.tfevents.{start}.host.7.0" for start in (1000, 2000, 3000)]
    log = log_of({name: events(range(10, last, 10)) for name, last in zip(names, (31, 501, 701), strict=True)})
    assert [(run.source, run.last_step) for run in log.runs] == list(zip(names, (30, 500, 700), strict=True))
    assert len(log_of({"a/" + names[0]: events(range(10, 501, 10)), "b/" + names[1]: events(range(510, 901, 10))}).runs) == 2


def test_event_files_are_ordered_by_their_start_not_their_name() -> None:
    late, early = (f"logs/events.out.tfevents.{start}.host.7.0" for start in (10_000, 9_000))
    (run,) = log_of({late: events(range(510, 1001, 10)), early: events(range(10, 501, 10))}).runs
    assert (run.source, run.last_step) == (early, 1000)


def test_evaluations_alone_belong_to_the_run_before_them() -> None:
    first, second = (f"logs/events.out.tfevents.{start}.host.7.{start % 10}" for start in (1000, 2001))
    (run,) = log_of({first: events(range(10, 101, 10)), second: event(0) + event(100, **{"eval/loss": 1.0})}).runs
    assert [entry.kind for entry in run.records][-1] == "eval"


def test_a_timeline_keeps_ends_spikes_and_gaps() -> None:
    steps = [step for step in range(10, 20_001, 10) if not 5000 < step < 6000]
    data = state(steps).replace(b'"loss": 0.0662', b'"loss": NaN')
    picture = timeline(run_of(data))
    assert picture.metric == "loss"
    assert len(picture.points) <= 400
    assert (picture.points[0][0], picture.points[-1][0]) == (10, 20_000)
    assert picture.gaps == ((5000, 6000),)
    assert picture.points == tuple(sorted(picture.points))
    assert "not finite" in picture.caption
    spiked = lines(range(1, 2000)) + lines([2000], loss=99.0) + lines(range(2001, 4000))
    assert (2000, 99.0) in timeline(run_of(spiked, "a.jsonl")).points
    assert timeline(run_of(b'{"step": 1, "lr": 3}\n', "a.jsonl")).metric == "lr"
