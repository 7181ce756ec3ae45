"""Audits whose evidence a process without secrets collects: the same document to the byte, and one line where that process ends early."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from modelguard.cli import main
from modelguard.confinement.limits import FOR_AUDITS, Limits
from modelguard.confinement.walls import WALLS
from modelguard.pipeline import AuditRequest
from modelguard.pipeline import audit as audited
from modelguard.types.findings import Absence, Verdict
from tests.fingerprint.zoo import model, tuned
from tests.test_audit import BASE, CARD, Place, audit, place

__all__ = ("place",)


def both(place: Place, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    """The document of a confined audit, which is that of an audit in this process but for `run`."""
    code, here = audit(place, capsys, *options)
    confined_code, there = audit(place, capsys, "--confined", *options)
    walls = there["run"].pop("confined")
    assert {"memory", "processor time"} <= set(walls)
    assert set(walls) & set(WALLS)
    assert here.pop("run").keys() == there.pop("run").keys()
    assert confined_code == code
    assert json.dumps(there) == json.dumps(here)
    return there


def database(path: Path) -> Path:
    """A store of MLflow with one run, whose reader works on a copy."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE metrics (key TEXT, value REAL, timestamp INT, run_uuid TEXT, step INT, is_nan INT)")
        rows = [("loss", 2 / (1 + step / 50), 1_700_000_000_000 + step, "a" * 32, step, 0) for step in range(10, 501, 10)]
        connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", rows)
    return path


def test_an_honest_model_with_every_kind_of_paper(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    files: dict[str, str | Path] = {
        "m/model.safetensors": place.weights(tuned(BASE)),
        "m/README.md": CARD,
        "m/trainer_state.json": place.log(range(10, 501, 10)),
        "m/mlflow.db": database(place.folder / "mlflow.db"),
        "m/config.json": '{"model_type": "llama"}',
    }
    place.pull_request(files)
    document = both(place, capsys)
    assert document["verdict"] == "consistent"
    told = {finding["rule"]: finding for finding in document["findings"]}
    assert told["log-gap"]["status"] == told["weights-base-mismatch"]["status"] == "ok"


def test_a_lie_a_gap_and_a_damaged_file(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    broken = place.folder / "broken.safetensors"
    broken.write_bytes(b"\x00" * 64)
    steps = [*range(10, 201, 10), *range(350, 501, 10)]
    place.pull_request(
        {
            "m/model.safetensors": place.weights(model(1)),
            "m/README.md": CARD,
            "m/trainer_state.json": place.log(steps),
            "n/model.safetensors": broken,
            "n/README.md": "---\nbase_model: ../../etc/passwd\n---\n",
        }
    )
    document = both(place, capsys)
    assert document["verdict"] == "inconsistent"
    found = {finding["rule"] for finding in document["findings"] if finding["status"] == "found"}
    assert {"weights-base-mismatch", "log-gap"} <= found


def test_a_base_that_is_not_to_be_had_has_the_same_words(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.pull_request({"m/model.safetensors": place.weights(tuned(BASE)), "m/README.md": CARD})
    assert both(place, capsys, "--offline")["verdict"] == "cannot-determine"
    assert both(place, capsys, "--max-download", "10")["verdict"] == "cannot-determine"
    assert main(["audit", "--confined", "--repo", str(place.repository.path), "--base", "gone", "--head", "pr"]) == 3


def crowded(folder: Path) -> Path:
    """A sound file whose header, of 9 MB, takes some time and room to understand."""
    path = folder / "crowded.safetensors"
    save_file({f"{index:05}{'x' * 360}": np.zeros(1, dtype=np.float32) for index in range(20_000)}, path)
    return path


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (replace(FOR_AUDITS, memory=96 << 20), "needs more memory than there is for it"),
        (replace(FOR_AUDITS, wall=0.5), "stopped after 0 s"),
        (replace(FOR_AUDITS, served=1 << 20), "more bytes were asked for than any audit needs"),
    ],
    ids=["memory", "wall", "bytes"],
)
def test_a_file_that_eats_too_much_is_one_line_and_never_a_pass(place: Place, limits: Limits, words: str) -> None:
    head = place.pull_request({"m/model.safetensors": crowded(place.folder), "m/README.md": "# A model\n"})
    request = AuditRequest(repo=place.repository.path, base="main", head=head, activations="off", confined=limits)
    report = audited(request)
    assert report.verdict is Verdict.CANNOT_DETERMINE
    broken = [finding.claim for finding in report.findings if finding.absence is Absence.BROKEN]
    assert any(words in claim.why for claim in broken), broken
    assert not [claim for claim in broken if "\n" in claim.why]


def test_the_same_file_is_read_where_there_is_room(place: Place) -> None:
    head = place.pull_request({"m/model.safetensors": crowded(place.folder), "m/README.md": "# A model\n"})
    request = AuditRequest(repo=place.repository.path, base="main", head=head, activations="off", confined=FOR_AUDITS)
    told = {finding.rule: finding.status.value for finding in audited(request).findings}
    assert told["checkpoint-readable"] == "ok"
