"""MLflow: its folders of metrics and its database, which a stranger may have filled with anything that SQLite can run."""

from __future__ import annotations

import math
import sqlite3
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.attempt import attempt
from modelguard.errors import Malformed
from modelguard.logs import mlflow_database, mlflow_files
from modelguard.logs.base import read_runs
from modelguard.types.findings import Absence, Level
from modelguard.types.logs import Jump, Run
from tests.logs.boards import MILLISECONDS, database, metric
from tests.logs.building import found, log_of, refusal

RUN, OTHER = "0" * 31 + "a", "0" * 31 + "b"
STEPS = range(10, 1001, 10)


def store(run: str = RUN, steps: range = STEPS, folder: str = "mlruns/0") -> dict[str, bytes]:
    losses = metric((step, 9 / (1 + step / 100)) for step in steps)
    return {
        f"{folder}/{run}/metrics/loss": losses,
        f"{folder}/{run}/metrics/learning_rate": metric((step, 1e-5) for step in steps),
        f"{folder}/{run}/metrics/epoch": metric((step, step / 1000) for step in steps),
        f"{folder}/{run}/metrics/eval/accuracy": metric([(500, 0.5), (1000, 0.75)]),
    }


def test_metrics_of_one_run_are_one_log() -> None:
    log = log_of(store() | store(OTHER, range(10, 501, 10)))
    first, second = log.runs
    assert (first.source, first.run_id, first.format) == (f"mlruns/0/{RUN}", RUN, "mlflow")
    assert (second.source, second.last_step) == (f"mlruns/0/{OTHER}", 500)
    entry = first.records[0]
    assert (entry.step, entry.kind, entry.epoch, entry.time) == (10, "train", 0.01, MILLISECONDS / 1000 + 10)
    assert entry.values == {"loss": 9 / 1.1, "learning_rate": 1e-5}
    assert [(record.step, record.kind) for record in first.records if record.kind != "train"] == [(500, "eval"), (1000, "eval")]
    assert not found(log)


def test_a_stretch_taken_out_of_the_store_is_found() -> None:
    kept = {
        name: b"".join(line for line in data.splitlines(True) if not 410 <= int(line.split()[2]) <= 700) for name, data in store().items()
    }
    (claim,) = found(log_of(kept), Level.HIGH)
    assert claim.numbers["missing"] == 300


@pytest.mark.parametrize("more", [(), ("set", "0a1b"), (RUN,), ("set", "0a1b", RUN)])
def test_lines_of_three_to_six_fields(more: tuple[str, ...]) -> None:
    run = mlflow_files.read("mlruns/0/models/m-1/metrics/loss", metric([(5, 1.5), (6, math.inf)], *more))
    assert [(entry.step, entry.values["loss"]) for entry in run.records] == [(5, 1.5), (6, math.inf)]
    assert run.run_id == (RUN if RUN in more else "m-1")


def test_what_a_model_repeats_of_its_run_counts_once() -> None:
    copy = metric(((step, 9 / (1 + step / 100)) for step in STEPS), RUN)
    (run,) = log_of(store() | {"mlruns/0/models/m-1/metrics/loss": copy}).runs
    assert run.source == f"mlruns/0/{RUN}"
    assert [entry.step for entry in run.training] == list(STEPS)


def test_a_clock_that_was_set_back_moves_no_step() -> None:
    rows = [(step, 1.0, MILLISECONDS + step - (5000 if step > 500 else 0)) for step in STEPS]
    data = "".join(f"{time} {value} {step}\n" for step, value, time in rows).encode()
    (run,) = log_of({f"{RUN}/metrics/loss": data, f"{RUN}/metrics/lr": data}).runs
    assert [entry.step for entry in run.training if "loss" in entry.values] == list(STEPS)


def test_a_resume_with_a_rollback_is_listed_and_excused() -> None:
    rows = [(step, 9 / (1 + step / 100)) for step in (*range(10, 741, 10), *range(510, 1001, 10))]
    lines = [f"{MILLISECONDS + place} {value} {step}\n" for place, (step, value) in enumerate(rows)]
    log = log_of({f"mlruns/0/{RUN}/metrics/train_loss": "".join(lines).encode()})
    assert [(jump.kind, bool(jump.excused)) for jump in log.runs[0].discontinuities] == [(Jump.ROLLBACK, True)]
    assert not found(log)


def test_every_cut_of_a_metric_is_a_crash_and_damage_before_the_end_is_not() -> None:
    whole = metric([(1, 2.5), (2, math.nan), (3, -1e-7)])
    name = f"mlruns/0/{RUN}/metrics/loss"
    for length in range(len(whole) + 1):
        (run,) = read_runs(name, whole[:length]) or ()
        assert len(run.records) <= 3
    assert "breaks off" in mlflow_files.read(name, whole[:-3] + b"\xff").notes[0]
    for damage in (b"x\n", b"1 2 3 4 5 6 7\n", b"1  2 3\n", b"1 0x10 3\n", b"1 " + b"9" * 5000 + b" 3", b"\xff\n"):
        missing = refusal({name: whole + damage + whole})
        assert missing.why == f"{name}: line 4 is no metric (time, value, step)"
        assert missing.kind is Absence.BROKEN
    assert mlflow_files.read(name, whole.replace(b"\n", b"\r\n")).records[0].step == 1
    assert mlflow_files.read(name, b"1700000000000 1.5 -1\n").notes == ("1 values have no step that counts and are passed over",)


@pytest.mark.parametrize(
    "name", ["src/metrics/loss", f"{RUN}/params/loss", "mlruns/0/meta.yaml", "mlruns/0/x/artifacts/metrics/a", f"{RUN}/artifacts/metrics/a"]
)
def test_other_files_are_no_metrics(name: str) -> None:
    assert read_runs(name, metric([(1, 2.0)])) is None
    assert read_runs("mlruns/0/x/metrics/readme", b"Loss goes here.\n") is None


@given(st.binary(max_size=200), st.sampled_from([f"{RUN}/metrics/loss", "mlruns/0/x/metrics/loss", "mlruns/0/models/m-1/metrics/a/b"]))
def test_any_bytes_end_in_a_run_or_one_line(data: bytes, name: str) -> None:
    for content in (data, metric([(1, 2.0)]) + data):
        outcome = attempt(partial(read_runs, name, content), what="reading")
        assert isinstance(outcome, tuple | None) or ("crashed" not in outcome.why and "\n" not in outcome.why)


def test_a_database_holds_a_log_for_each_run(tmp_path: Path) -> None:
    data = database(tmp_path / "x.db", {RUN: STEPS, OTHER: range(1, 50)}, params=[("save_steps", "500"), ("lr", "x"), ("max_steps", "-1")])
    log = log_of({"mlflow.db": data})
    assert [(run.source, run.last_step, run.cadence) for run in log.runs] == [
        (f"mlflow.db (run {RUN})", 1000, 10),
        (f"mlflow.db (run {OTHER})", 49, 1),
    ]
    entry = log.runs[0].records[0]
    assert (entry.step, entry.values, entry.time) == (10, {"loss": 9 / 1.1, "learning_rate": 1e-5}, MILLISECONDS / 1000 + 10)
    assert log.runs[0].claimed == {"save_steps": 500.0}
    assert not found(log)
    cut = database(tmp_path / "cut.db", {RUN: STEPS}, "DELETE FROM metrics WHERE step BETWEEN 410 AND 700")
    assert [claim.numbers["first_missing"] for claim in found(log_of({"a/tracking.sqlite": cut}), Level.HIGH)] == [410]


def test_a_flag_is_nan_and_the_largest_number_is_infinity(tmp_path: Path) -> None:
    values = "INSERT INTO metrics VALUES ('loss', {}, 1, 'r', {}, {})"
    rows = [values.format(0.0, 1, 1), values.format(repr(1.7976931348623157e308), 2, 0), values.format("-1.7976931348623157e308", 3, 0)]
    (run,) = mlflow_database.read("m.db", database(tmp_path / "x.db", {}, *rows))
    found_values = [entry.values["loss"] for entry in run.records]
    assert math.isnan(found_values[0])
    assert found_values[1:] == [math.inf, -math.inf]


def test_a_write_ahead_database_is_read_with_a_note(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "x.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    (run,) = mlflow_database.read("m.db", database(tmp_path / "x.db", {RUN: range(5)}))
    assert "write-ahead" in run.notes[0]


def test_a_locked_database_is_read_from_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    database(path, {RUN: range(5)})
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        assert len(log_of({"mlflow.db": path.read_bytes()}).runs) == 1
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def test_a_database_without_metrics_is_no_log(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "x.db")
    connection.execute("CREATE TABLE collections (id TEXT)")
    connection.commit()
    connection.close()
    data = (tmp_path / "x.db").read_bytes()
    assert read_runs("chroma.sqlite3", data) is None
    assert read_runs("mlflow.db", data) == ()
    assert refusal({"chroma.sqlite3": data, "mlflow.db": data}).kind is Absence.ABSENT


COMPUTED = "CREATE TABLE metrics (run_uuid, key, timestamp, step, is_nan, value AS (length(hex(zeroblob(1 << 22)))))"
HOSTILE = {
    "a view in place of the table": ["ALTER TABLE metrics RENAME TO m", "CREATE VIEW metrics AS SELECT * FROM m"],
    "an endless view": [
        "DROP TABLE metrics",
        "CREATE VIEW metrics AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS step FROM n",
    ],
    "computed columns": ["DROP TABLE metrics", COMPUTED, "INSERT INTO metrics VALUES ('r', 'loss', 1, 1, 0)"],
    "a virtual table": ["DROP TABLE metrics", "CREATE VIRTUAL TABLE metrics USING fts5(run_uuid, key, timestamp, value, step, is_nan)"],
    "other columns": ["DROP TABLE metrics", "CREATE TABLE metrics (x)", "INSERT INTO metrics VALUES (1)"],
    "no rowid": ["DROP TABLE metrics", "CREATE TABLE metrics (run_uuid, key PRIMARY KEY, timestamp, value, step, is_nan) WITHOUT ROWID"],
    "texts for numbers": ["INSERT INTO metrics VALUES ('loss', 'much', 1, 'r', 1, 0)"],
    "a run named as a path": ["INSERT INTO metrics VALUES ('loss', 1.0, 1, '../../r', 1, 0)"],
    "a run named by nothing": ["INSERT INTO metrics VALUES ('loss', 1.0, 1, x'00', 1, 0)"],
    "a key of 2 MB": ["INSERT INTO metrics VALUES (hex(zeroblob(1000000)), 1.0, 1, 'r', 1, 0)"],
    "a key of 2000 characters": ["INSERT INTO metrics VALUES (hex(zeroblob(1000)), 1.0, 1, 'r', 1, 0)"],
    "a text that is none": ["INSERT INTO metrics VALUES (CAST(x'ff' AS TEXT), 1.0, 1, 'r', 1, 0)"],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_database_is_one_line(tmp_path: Path, what: str) -> None:
    missing = refusal({"mlflow.db": database(tmp_path / "x.db", {}, *HOSTILE[what])})
    assert missing.kind is Absence.BROKEN
    assert missing.why.startswith("mlflow.db: ")
    assert "\n" not in missing.why
    assert "crashed" not in missing.why
    assert missing.advice


def test_views_and_triggers_beside_the_tables_are_not_run(tmp_path: Path) -> None:
    extra = [
        "CREATE VIEW latest_metrics AS SELECT load_extension('evil')",
        "CREATE TRIGGER t AFTER INSERT ON metrics BEGIN SELECT writefile('/tmp/owned', 'x'); END",
        "CREATE INDEX i ON metrics (abs(value))",
    ]
    (run,) = mlflow_database.read("m.db", database(tmp_path / "x.db", {RUN: range(5)}, *extra))
    assert len(run.training) == 5


def test_what_takes_too_long_or_is_too_much_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = database(tmp_path / "x.db", {RUN: range(20_000)})
    monkeypatch.setattr(mlflow_database, "SECONDS", 0.0)
    with pytest.raises(Malformed, match=r"mlflow.db: SQLite cannot read it \('interrupted'\)"):
        mlflow_database.read("mlflow.db", data)
    monkeypatch.setattr(mlflow_database, "MAX_DATABASE", 1 << 16)
    with pytest.raises(Malformed, match="more than 65536 bytes"):
        mlflow_database.read("mlflow.db", data)


def test_no_private_copy_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = database(tmp_path / "x.db", {RUN: range(5)})
    private = tmp_path / "private"
    private.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(private))
    mlflow_database.read("m.db", data)
    with pytest.raises(Malformed):
        mlflow_database.read("m.db", data[:-100])
    assert not list(private.iterdir())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return database(tmp_path_factory.mktemp("db") / "small.db", {RUN: range(4)}, page=512)


def test_every_cut_of_a_database_is_one_line(small: bytes) -> None:
    for length in (*range(200), *range(200, len(small), 23), len(small) - 1):
        outcome = attempt(partial(mlflow_database.read, "mlflow.db", small[:length]), what="reading")
        assert not isinstance(outcome, tuple), length
        assert "crashed" not in outcome.why
        assert "\n" not in outcome.why


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 20), st.integers(0, 255))
def test_a_changed_byte_never_crashes(small: bytes, place: int, value: int) -> None:
    data = bytearray(small)
    data[place % len(data)] = value
    outcome = attempt(partial(mlflow_database.read, "mlflow.db", bytes(data)), what="reading")
    if not isinstance(outcome, tuple):
        assert "crashed" not in outcome.why
        assert "\n" not in outcome.why
    else:
        assert all(isinstance(run, Run) for run in outcome)


@given(st.binary(max_size=300))
def test_any_bytes_after_the_mark_are_refused(data: bytes) -> None:
    for content in (data, mlflow_database.MAGIC + data):
        outcome = attempt(partial(mlflow_database.read, "mlflow.db", content), what="reading")
        assert not isinstance(outcome, tuple)
        assert "crashed" not in outcome.why
