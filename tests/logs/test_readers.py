"""Each reader on what trainers write, and on what they do not."""

from __future__ import annotations

import json
import math

import pytest

from modelguard.errors import Malformed
from modelguard.logs.base import looks_like_log, must_be_log, read_log
from modelguard.types.logs import Run
from tests.logs.building import event, events, lines, record, state


def read(data: bytes, name: str = "x/log") -> Run:
    run = read_log(name, data)
    assert run is not None
    return run


def test_state_rows_and_claims() -> None:
    rows = [
        {"epoch": 0.5, "grad_norm": 2.0, "learning_rate": 1e-5, "loss": 1.5, "step": 5},
        {"epoch": 1.0, "eval_loss": 1.25, "eval_runtime": 3.0, "step": 10},
        {"epoch": 1.0, "step": 10, "total_flos": 1.0, "train_loss": 1.5, "train_runtime": 9.0},
    ]
    run = read(json.dumps({"global_step": 10, "save_steps": 500, "best_metric": None, "log_history": rows}).encode(), "trainer_state.json")
    assert [(entry.step, entry.kind, entry.epoch) for entry in run.records] == [(5, "train", 0.5), (10, "eval", 1.0), (10, "summary", 1.0)]
    assert run.records[0].values == {"grad_norm": 2.0, "learning_rate": 1e-5, "loss": 1.5}
    assert run.claimed == {"global_step": 10.0, "save_steps": 500.0}


def test_a_diverged_loss_is_kept() -> None:
    run = read(b'{"log_history": [{"loss": NaN, "step": 1}, {"loss": Infinity, "step": 2}, {"loss": 1e999, "step": 3}]}')
    assert math.isnan(run.records[0].values["loss"])
    assert [entry.values["loss"] for entry in run.records[1:]] == [math.inf, math.inf]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a" 1}', "trainer_state.json: not JSON (line 1 column 6)"),
        (b"", "trainer_state.json: not JSON (line 1 column 1)"),
        (b"[]", "trainer_state.json: no trainer state"),
        (b'{"log_history": 3}', "trainer_state.json: no trainer state"),
        (b'{"log_history": [3]}', "row 1 of log_history is no object"),
        (b'{"log_history": [{"loss": 1.0}]}', "row 1 of log_history has no whole step"),
        (b'{"log_history": [{"loss": 1.0, "step": -5}]}', "row 1 of log_history has no whole step"),
        (b'{"log_history": [{"loss": 1.0, "step": 1.5}]}', "row 1 of log_history has no whole step"),
        (b'{"log_history": [{"loss": 1.0, "step": NaN}]}', "row 1 of log_history has no whole step"),
        (b'{"log_history": [], "log_history": []}', "ambiguous JSON, the key 'log_history' stands twice"),
        (b'{"log_history": [], "global_step": "many"}', "global_step is no count"),
        (b'{"log_history": [], "global_step": 1e300}', "global_step is no count"),
        (b'{"log_history": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"log_history": ' + b"[" * 1_100_000, "more than 1000000 JSON objects"),
        (b'{"log_history": [{"step": 1' + b"0" * 5000 + b"}]}", "thousands of digits"),
        (b"\xff\xfe{", "not UTF-8 (byte 0)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "a Git LFS pointer"),
    ],
)
def test_a_state_that_is_none_is_refused_in_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        read_log("trainer_state.json", data)
    assert reason in str(caught.value)
    assert str(caught.value).startswith("trainer_state.json")
    assert "\n" not in str(caught.value)
    assert caught.value.advice


def test_a_state_under_another_name_is_a_state() -> None:
    assert read(state([10, 20]), "history.json").format == "hf-trainer"


@pytest.mark.parametrize("key", ["step", "global_step", "_step", "iteration", "current_steps"])
def test_jsonl_step_keys(key: str) -> None:
    run = read(f'{{"{key}": 3, "loss": 1.0, "total_steps": 9, "epoch": 0.1, "timestamp": "2026-01-01T00:00:00+00:00"}}\n'.encode())
    (entry,) = run.records
    assert (run.format, entry.step, entry.values, entry.epoch, entry.time) == ("jsonl", 3, {"loss": 1.0}, 0.1, 1767225600.0)
    assert run.claimed == {"max_steps": 9.0}


def test_jsonl_nested_rows_arrays_and_rows_without_a_step() -> None:
    nested = b'{"config": {"lr": 1}}\n{"name": "training_loss", "data": {"epoch": 0.1, "step": 7, "value": 2.5, "timestamp": "?"}}\n\n'
    run = read(nested)
    assert [(entry.step, entry.kind, entry.values) for entry in run.records] == [(7, "train", {"training_loss": 2.5})]
    assert run.notes == ("1 of 2 rows have no step or no number and are passed over",)
    assert [entry.step for entry in read(b'[\n {"step": 1, "loss": 2}, {"step": 2, "eval_loss": 2}]').records] == [1, 2]


def test_jsonl_a_run_id_that_changes_is_a_restart() -> None:
    run = read(lines([1, 2], run_id="a") + lines([3, 4], run_id="b"))
    assert [entry.session for entry in run.records] == [0, 0, 1, 1]


def test_jsonl_a_last_line_that_breaks_off_is_a_crash_and_damage_before_it_is_not() -> None:
    cut = lines([1, 2, 3])[:-20]
    run = read(cut)
    assert [entry.step for entry in run.records] == [1, 2]
    assert "breaks off" in run.notes[0]
    with pytest.raises(Malformed, match=r"x/log: not JSON \(line 3 column"):
        read(cut + b"\n" + lines([4]))
    with pytest.raises(Malformed, match="line 2 has more than 1048576 characters"):
        read(lines([1]) + b'{"step": 2, "loss": 1, "x": "' + b"x" * (1 << 20) + b'"}\n')


def test_csv_of_lightning() -> None:
    run = read(b"epoch,step,train_loss,val_loss\n0,49,2.5,\n0,99,,2.25\n0,99,nan,\n")
    assert [(entry.step, entry.kind, entry.epoch) for entry in run.records] == [(49, "train", 0.0), (99, "eval", 0.0), (99, "train", 0.0)]
    assert math.isnan(run.records[2].values["train_loss"])


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_csv_plain_with_a_restart_and_a_crash(end: bytes) -> None:
    run = read(end.join([b"step,loss", b"1,2.0", b"2,1.5", b"step,loss", b"2,1.5", b"3"]))
    assert [(entry.step, entry.session) for entry in run.records] == [(1, 0), (2, 0), (2, 1)]
    assert "breaks off" in run.notes[0]


@pytest.mark.parametrize(
    "data", [b"step,loss\n1\n2,1.0\n", b"step,loss\nx,1\n", b"step,loss\n1,2,3\n", b"step,loss,loss\n1,2,3\n", b'step,loss\n"1,2\n3,4\n']
)
def test_csv_ragged_lines_are_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data)


def test_events_merge_scalars_of_one_step_and_kind() -> None:
    data = event(0) + event(10, **{"train/loss": 2.0}) + event(10, **{"train/learning_rate": 0.5}) + event(10, **{"eval/loss": 1.0})
    data += event(10, **{"train/train_runtime": 5.0}) + event(10, **{"train/train_loss": 2.0})
    run = read(data)
    assert [(entry.step, entry.kind, dict(entry.values)) for entry in run.records] == [
        (10, "train", {"train/loss": 2.0, "train/learning_rate": 0.5}),
        (10, "eval", {"eval/loss": 1.0}),
        (10, "summary", {"train/train_runtime": 5.0, "train/train_loss": 2.0}),
    ]
    assert run.records[0].time == 1.7e9 + 10


def test_events_a_checksum_that_fails_before_the_end_is_refused() -> None:
    data = bytearray(events(range(1, 9)))
    data[60] ^= 1
    with pytest.raises(Malformed, match="record 2 at byte 42 does not match its checksum"):
        read(bytes(data))
    assert "breaks off" in read(events(range(1, 9)) + bytes(512)).notes[0]
    with pytest.raises(Malformed, match="record 2 is no event"):
        read(event(0) + record(b"\xff"))


def test_every_cut_of_an_event_file_is_a_crash_or_no_log() -> None:
    whole = events(range(1, 6))
    for length in range(len(whole)):
        run = read(whole[:length], "events.out.tfevents.1.h.1.0")
        assert len(run.records) < 5
        assert all(entry.step == position for position, entry in enumerate(run.records, start=1))
    assert len(read(whole).records) == 5


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("config.json", b'{"step": 1, "loss": 2}x'),
        ("train.jsonl", b'{"text": "step 1", "label": 0}\n'),
        ("prm.jsonl", b'{"step": "1", "loss": "low"}\n'),
        ("prm.jsonl", b'{"step": 1, "label": 1}\n'),
        ("data.csv", b"text,label\nhello,1\n"),
        ("data.csv", b"step\n1\n"),
        ("model.safetensors", bytes(200)),
        ("empty.jsonl", b""),
        ("all_results.json", b'{"epoch": 3.0, "train_loss": 1.0}'),
    ],
)
def test_what_no_reader_claims(name: str, data: bytes) -> None:
    assert read_log(name, data) is None


def test_two_claims_on_one_file_are_refused() -> None:
    with pytest.raises(Malformed, match="looks like jsonl and tfevents at once"):
        read_log("events.out.tfevents.1.h.1.0", lines([1]))


def test_names() -> None:
    must = ["trainer_state.json", "a/checkpoint-5/trainer_state.json", "logs/events.out.tfevents.17.host.1.0"]
    may = ["metrics.csv", "a/training_logs.jsonl", "log_history.json", "trainer_log.json"]
    no = [
        "config.json",
        "tokenizer.json",
        "vocab.json",
        "training_config.json",
        "model.safetensors.index.json",
        "README.md",
        "my_trainer_state.json.txt",
    ]
    assert all(must_be_log(name) and looks_like_log(name) for name in must)
    assert all(looks_like_log(name) and not must_be_log(name) for name in may)
    assert not any(looks_like_log(name) for name in no)
