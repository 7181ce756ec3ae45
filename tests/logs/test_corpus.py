"""Honest logs of public repositories raise no alarm, and the same logs with a stretch taken out do."""

from __future__ import annotations

import io
import json
from collections import Counter, defaultdict

import pytest

from modelguard.checks import log_record_numbers
from modelguard.checks.base import all_checks
from modelguard.checks.base import run as judged
from modelguard.logs import tfrecord
from modelguard.logs.base import assemble, looks_like_log, read_log, read_runs
from modelguard.logs.tensorboard import _event
from modelguard.logs.wandb_records import records
from modelguard.partial_evidence import only_log
from modelguard.policy import default
from modelguard.types.findings import Level, Missing, Status
from modelguard.types.logs import Run, TrainingLog
from tests.logs.boards import framed
from tests.logs.building import CORPUS, claims, corpus_rows, found, log_of, record

KINDS = {"trainer_state", "tfevents", "metrics_csv"}
BOARDS = {"wandb_binary", "wandb_output_log", "mlruns", "text_log"}
# Made by hand as fixtures of another tool, and their notes say so: 10 rows up to step 100 under `"global_step": 200`.
SYNTHETIC = {
    "Mormolykos+trainproof/e3f16f6a/tests/fixtures/trainer_state_diverging.json",
    "Mormolykos+trainproof/e3f16f6a/tests/fixtures/trainer_state_healthy.json",
}


def logs() -> dict[str, bytes]:
    return {row["path"]: (CORPUS / row["path"]).read_bytes() for row in corpus_rows(KINDS)}


def test_every_log_is_read_and_none_raises_an_alarm() -> None:
    alarms = {path: found(log_of({path: data})) for path, data in logs().items()}
    assert len(alarms) >= 90
    assert {path for path, raised in alarms.items() if raised} == SYNTHETIC


def test_folders_as_their_repositories_hold_them_raise_no_alarm() -> None:
    folders: dict[str, dict[str, bytes]] = defaultdict(dict)
    for path, data in logs().items():
        if path not in SYNTHETIC:
            owner, commit, name = path.split("/", 2)
            folders[f"{owner}/{commit}"][name] = data
    assert len(folders) >= 15
    for folder, files in folders.items():
        log = log_of(files)
        assert not found(log), folder
        assert any(claim.status is Status.OK for claim in claims(log)) or len(log.runs) == 1, folder


def named(kinds: set[str]) -> dict[str, bytes]:
    """The files that a walk over their repositories would open, by the path in the corpus."""
    return {row["path"]: (CORPUS / row["path"]).read_bytes() for row in corpus_rows(kinds) if looks_like_log(row["path"])}


def high(log: TrainingLog | Missing) -> list[str]:
    """What every rule on logs alone finds at high severity."""
    findings = judged(tuple(check for check in all_checks() if check.wants == ("log",)), only_log(log), "x", default())
    return [
        f"{found.rule}: {found.claim.text}"
        for found in findings
        if found.claim.status is Status.FOUND and found.claim.severity is Level.HIGH
    ]


def test_every_file_that_a_reader_claims_is_read_and_none_raises_a_high_alarm() -> None:
    formats: Counter[str] = Counter()
    for path, data in named(BOARDS).items():
        runs = read_runs(path, data)
        formats.update(run.format for run in runs or ())
        if runs:
            assert not high(log_of({path: data})), path
    assert formats["wandb"] == 6
    assert formats["mlflow"] == 5
    assert formats["modded-nanogpt"] >= 40
    assert formats["nanogpt"] + formats["hf-stdout"] >= 9


def test_whole_repositories_raise_no_high_alarm() -> None:
    kinds = KINDS | BOARDS | {"chronicle", "eval_results", "train_results_json", "wandb_summary", "hf_results"}
    folders: dict[str, dict[str, bytes]] = defaultdict(dict)
    for path, data in named(kinds).items():
        if path not in SYNTHETIC:
            owner, commit, name = path.split("/", 2)
            folders[f"{owner}/{commit}"][name] = data
    seen: Counter[str] = Counter()
    for folder, files in folders.items():
        log = assemble(files)
        assert not high(log), folder
        if isinstance(log, TrainingLog):
            assert not log.unread, folder
            seen.update(run.format for run in log.runs)
    assert len(folders) >= 30
    assert {"hf-trainer", "tfevents", "csv", "wandb", "mlflow", "nanogpt", "modded-nanogpt"} <= seen.keys()


def test_records_taken_out_of_a_wandb_file_show_in_its_numbers() -> None:
    for path, data in named({"wandb_binary"}).items():
        bodies = [body for body in records(io.BytesIO(data), path) if body is not None]
        assert framed(bodies) == data, path
        middle = len(bodies) // 2
        (whole,) = log_record_numbers.check(log_of({path: data}))
        (cut,) = log_record_numbers.check(log_of({path: framed(bodies[:middle] + bodies[middle + 2 :])}))
        assert (whole.status, whole.numbers["missing"]) == (Status.OK, 0)
        assert (cut.status, cut.numbers["missing"]) == (Status.FOUND, 2)


def test_checkpoints_of_one_run_are_counted_once() -> None:
    files = {path: data for path, data in logs().items() if path.startswith("syGOAT+")}
    (run,) = log_of(files).runs
    assert run.source.endswith("2f1cd7a9/trainer_state.json")
    assert sum("tells the same run up to step" in note for note in run.notes) == len(files) - 1 == 17


def test_pointers_are_no_logs() -> None:
    row = next(row for row in corpus_rows({"lfs_pointer"}) if row["path"].endswith("trainer_state.json"))
    log = assemble({row["path"]: (CORPUS / row["path"]).read_bytes()})
    assert isinstance(log, Missing)
    assert log.why.endswith("a Git LFS pointer, not the log")


def long_runs(least: int) -> list[tuple[str, bytes, Run]]:
    """The logs with at least this many training records, of which a tenth is more than the two that a logger may lose."""
    runs = ((path, data, read_log(path, data)) for path, data in logs().items() if path not in SYNTHETIC)
    return [(path, data, run) for path, data, run in runs if run and len({record.step for record in run.training}) >= least]


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_a_tenth_taken_out_is_found(place: float) -> None:
    cases = long_runs(28)
    missed = []
    for path, data, run in cases:
        steps = sorted({record.step for record in run.training})
        start = int(len(steps) * place)
        out = range(steps[start], steps[start + max(3, len(steps) // 10) - 1] + 1)
        raised = found(log_of({path: without(run.format, data, out)}), Level.HIGH)
        if not any(claim.numbers.get("first_missing") in out and claim.numbers.get("last_missing") in out for claim in raised):
            missed.append(path)
    assert len(cases) >= 45
    assert not missed


def test_a_tail_taken_out_of_a_state_is_found() -> None:
    cases = [case for case in long_runs(10) if case[2].format == "hf-trainer"]
    for path, data, run in cases:
        steps = sorted({record.step for record in run.training})
        out = range(steps[-max(3, len(steps) // 10)], 1 << 40)
        raised = found(log_of({path: without(run.format, data, out)}), Level.HIGH)
        assert len(raised) == 1, path
        assert raised[0].numbers["reached"] == run.claimed["global_step"]
    assert len(cases) >= 50


def test_a_head_taken_out_is_found() -> None:
    cases = long_runs(28)
    for path, data, run in cases:
        steps = sorted({record.step for record in run.training})
        raised = found(log_of({path: without(run.format, data, range(steps[len(steps) // 10]))}), Level.MEDIUM)
        assert len(raised) == 1, path
    assert len(cases) >= 45


def without(form: str, data: bytes, steps: range) -> bytes:
    """The same log without any row of these steps, in the bytes of its own format."""
    if form == "hf-trainer":
        whole = json.loads(data)
        whole["log_history"] = [row for row in whole["log_history"] if row["step"] not in steps]
        return json.dumps(whole, indent=2).encode()
    if form == "csv":
        header, *rows = io.StringIO(data.decode()).readlines()
        column = header.strip().split(",").index("step")
        return "".join([header, *(row for row in rows if int(row.split(",")[column]) not in steps)]).encode()
    bodies = (body for body in tfrecord.records(data, "") if body is not None)
    events = ((position, body, _event(body, position)) for position, body in enumerate(bodies, start=1))
    return b"".join(record(body) for _, body, event in events if not event.scalars or event.step not in steps)
