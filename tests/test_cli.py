"""The command line's contracts: exit codes, documents, one-line errors, a hook that is quick and quiet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from demo.repository import Repository
from modelguard.cli import main
from tests.fingerprint.zoo import model, tuned

COMPARE_KEYS = ["schema", "left", "right", "relation", "kinds", "details", "direction", "basis", "log10_p", "score", "share_explained"]
COMPARE_KEYS += ["power", "layers", "evidence", "unknown", "difference", "run"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    for name, tensors in (("child", tuned(model(0))), ("parent", model(0))):
        (folder / name).mkdir()
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / name / "model.safetensors")
    return folder / "child", folder / "parent"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_compare_follows_its_contract(capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path]) -> None:
    code, out, _ = run(capsys, "compare", str(pair[0]), str(pair[1] / "model.safetensors"), "--format", "json")
    document = json.loads(out)
    assert code == 0
    assert list(document) == COMPARE_KEYS
    assert (document["schema"], document["relation"], document["basis"]) == ("modelguard.compare/1", "derived", "exact")
    assert set(document["evidence"][0]) >= {"method", "statistic", "log10_p", "log10_p_adjusted", "n", "null", "note"}
    assert set(document["layers"][0]) == {"name", "matched", "relation", "score", "log10_p"}
    assert set(document["run"]) == {"bytes_read", "bytes_total", "seconds"}
    assert document["left"]["parameters"] == sum(value.size for value in model(0).values())


def test_compare_is_the_same_from_run_to_run(pair: tuple[Path, Path]) -> None:
    command = (sys.executable, "-m", "modelguard", "compare", str(pair[0]), str(pair[1]), "--format", "json")
    documents = []
    for seed in ("1", "2"):
        done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        documents.append(json.loads(done.stdout) | {"run": None})
    assert documents[0] == documents[1]


def test_compare_reads_a_commit(capsys: pytest.CaptureFixture[str], tmp_path: Path, pair: tuple[Path, Path]) -> None:
    repository = Repository(tmp_path / "repository")
    repository.commit({"models/m/model.safetensors": pair[0] / "model.safetensors"}, "Add")
    for reference in ("git:main:models/m", "git:main:models/m/model.safetensors"):
        code, out, _ = run(capsys, "compare", reference, str(pair[0]), "--repo", str(repository.path), "--format", "json")
        assert (code, json.loads(out)["relation"]) == (0, "identical")


def test_pages_and_sarif_come_from_every_door_that_offers_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    repository = Repository(tmp_path / "repository")
    base = repository.commit({"README.md": "# Models\n"}, "Begin")
    repository.commit({"models/m/model.safetensors": pair[0] / "model.safetensors"}, "Add")
    asked = ("audit", "--repo", str(repository.path), "--base", base, "--head", "main", "--activations", "off", "--offline")
    code, written, _ = run(capsys, *asked, "--format", "sarif")
    assert json.loads(written)["version"] == "2.1.0"
    assert run(capsys, *asked, "--format", "html")[0] == code
    whole = ("audit", "--repo", str(repository.path), "--base", "main", "--head", "main", "--activations", "off", "--offline")
    subjects = [len(json.loads(run(capsys, *whole, *more, "--format", "json")[1])["models"]) for more in ((), ("--whole",))]
    assert subjects == [0, 1]
    log = state(tmp_path, list(range(10, 101, 10)), 100)
    for arguments in (("compare", str(pair[0]), str(pair[1])), ("log", str(log)), asked):
        page = run(capsys, *arguments, "--format", "html")[1]
        assert page.startswith("<!doctype html>")
        assert "Content-Security-Policy" in page


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("compare", "missing", "{parent}"), 2, "missing"),
        (("compare", "{parent}", "{empty}"), 2, "no safetensors"),
        (("compare", "{parent}", "http://example.org/model.safetensors"), 3, "https"),
        (("compare", "{parent}", "git:main"), 3, "git:REV:path"),
        (("compare", "{parent}"), 3, "RIGHT"),
        (("audit", "--base", "a", "--head", "b", "--repo", "{empty}"), 3, "git"),
        (("log", "{empty}/none.json"), 3, "no such file"),
        (("explain", "no-such-rule"), 3, "no-such-rule"),
        (("nonsense",), 3, "nonsense"),
        (("inspect", "{junk}"), 2, "junk"),
    ],
    ids=lambda value: "-".join(value)[:40] if isinstance(value, tuple) else str(value),
)
def test_errors_are_one_line_and_the_right_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pair: tuple[Path, Path], arguments: tuple[str, ...], code: int, named: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk.safetensors").write_bytes(b"\x07" * 50)
    places = {"parent": pair[1], "empty": tmp_path / "empty", "junk": tmp_path / "junk.safetensors"}
    try:
        got, out, err = run(capsys, *(argument.format(**places) for argument in arguments))
    except SystemExit as left:  # argparse leaves by itself
        got, err, out = int(str(left.code)), capsys.readouterr().err, ""
    lines = [line for line in err.splitlines() if not line.startswith(("usage", " "))]
    assert got == code
    assert out == ""
    assert len(lines) == 1
    assert named in lines[0]


def log_document(capsys: pytest.CaptureFixture[str], *paths: Path) -> tuple[int, dict[str, Any]]:
    code, out, _ = run(capsys, "log", *map(str, paths), "--format", "json")
    document: dict[str, Any] = json.loads(out)
    return code, document


def state(tmp_path: Path, steps: list[int], final: int) -> Path:
    rows = [{"step": step, "epoch": step / 100, "loss": 1.0} for step in steps]
    path = tmp_path / "trainer_state.json"
    state = {"global_step": final, "max_steps": final, "logging_steps": 10, "log_history": rows}
    path.write_text(json.dumps(state, indent=2, sort_keys=True) + "\n")
    return path


def test_log_follows_its_contract(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, document = log_document(capsys, state(tmp_path, list(range(10, 401, 10)), 400))
    assert (code, document["schema"], document["verdict"]) == (0, "modelguard.log/1", "consistent")
    assert document["runs"][0]["steps"] == {"first": 10, "last": 400, "count": 40, "cadence": 10}
    assert document["runs"][0]["segments"]
    gapped = [step for step in range(10, 401, 10) if not 100 <= step < 200]
    code, document = log_document(capsys, state(tmp_path, gapped, 400))
    assert (code, document["verdict"]) == (1, "inconsistent")
    assert [finding["rule"] for finding in document["runs"][0]["findings"] if finding["status"] == "found"] == ["log-gap"]


@pytest.mark.parametrize("content", ["{oops", "not a log at all"])
def test_a_log_that_cannot_be_read_is_undetermined(capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str) -> None:
    path = tmp_path / ("trainer_state.json" if content.startswith("{") else "notes.txt")
    path.write_text(content)
    code, document = log_document(capsys, path)
    assert (code, document["verdict"]) == (2, "cannot-determine")


def test_rules_and_explanations(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "rules")
    names = [line.split()[0] for line in out.splitlines()]
    assert {"weights-base-mismatch", "log-gap"} <= set(names)
    for name in names:
        assert run(capsys, "explain", name)[1].startswith(name)


def test_inspect_says_what_a_header_says(capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path]) -> None:
    _, out, _ = run(capsys, "inspect", str(pair[0]), "--format", "json")
    assert json.loads(out)["files"][0]["tensors"] == len(model(0))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def stage(repository: Repository, **files: str | bytes) -> None:
    for name, content in files.items():
        path = repository.path / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    repository.git("add", "--all")


def hook(capsys: pytest.CaptureFixture[str], repository: Repository) -> tuple[int, str, str]:
    return run(capsys, "hook", "--staged", "--repo", str(repository.path))


def test_the_hook_is_silent_without_models(capsys: pytest.CaptureFixture[str], repository: Repository) -> None:
    stage(repository, notes__txt="hello")
    assert hook(capsys, repository) == (0, "", "")


def test_the_hook_is_silent_when_all_is_well(
    capsys: pytest.CaptureFixture[str], repository: Repository, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    log = state(tmp_path, list(range(10, 401, 10)), 400).read_bytes()
    stage(
        repository,
        model__safetensors=(pair[0] / "model.safetensors").read_bytes(),
        README__md="---\nbase_model: a/b\n---\n",
        trainer_state__json=log,
    )
    assert hook(capsys, repository) == (0, "", "")


def test_the_hook_says_what_is_wrong_in_a_line(
    capsys: pytest.CaptureFixture[str], repository: Repository, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    stage(repository, model__safetensors=b"<!DOCTYPE html>")
    code, out, _ = hook(capsys, repository)
    assert (code, out.count("\n")) == (2, 1)
    assert "HTML" in out
    gapped = state(tmp_path, [step for step in range(10, 401, 10) if not 100 <= step < 200], 400).read_bytes()
    stage(repository, model__safetensors=(pair[0] / "model.safetensors").read_bytes(), trainer_state__json=gapped)
    code, out, _ = hook(capsys, repository)
    assert (code, out.count("\n")) == (1, 1)
    assert "100" in out


def test_the_hook_reads_the_index_and_not_the_working_tree(capsys: pytest.CaptureFixture[str], repository: Repository) -> None:
    stage(repository, model__safetensors=b"<!DOCTYPE html>")
    (repository.path / "model.safetensors").unlink()
    assert hook(capsys, repository)[0] == 2


def test_the_hook_works_before_the_first_commit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "new")], check=True)
    (tmp_path / "new" / "model.safetensors").write_bytes(b"PK\x03\x04")
    subprocess.run(["git", "-C", str(tmp_path / "new"), "add", "."], check=True)
    code, out, _ = run(capsys, "hook", "--repo", str(tmp_path / "new"))
    assert (code, "zip archive" in out) == (2, True)
