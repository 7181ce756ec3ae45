"""A benchmark's manifest against forged coverage: what leaves logs that agree with themselves is seen, and honest logs pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelguard.cli import main
from modelguard.errors import Malformed
from modelguard.evals.manifest import SCHEMA, read_manifest
from tests.evals.building import Rows, answering, sha, write

FIRST, SECOND = answering(10), answering(11, questions=120)


@pytest.fixture
def manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The manifest of a trusted run of another model on the same questions."""
    trusted = write(tmp_path / "trusted", {"sums": answering(20), "words": answering(21, questions=120)})
    place = tmp_path / "manifest.json"
    assert main(["evals", str(trusted), "--write-manifest", str(place)]) == 0
    assert "420 questions of 2 tasks" in capsys.readouterr().out
    return place


def judged(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[tuple[str, str]]]:
    capsys.readouterr()
    code = main(["evals", *map(str, arguments), "--format", "json"])
    document = json.loads(capsys.readouterr().out)
    return code, [(item["status"], item["text"]) for item in document["findings"] if item["rule"] == "evals-coverage"]


def relabelled(rows: Rows) -> Rows:
    """Twenty right answers changed to what the model answered, and every hash made anew: nothing in the logs contradicts it."""
    changed = [json.loads(json.dumps(row)) for row in rows]
    for row in [row for row in changed if row["acc"] == 0.0][:20]:
        values = [float(resp[0]) for resp in row["filtered_resps"]]
        answer = values.index(max(values))
        row["doc"]["answer"], row["target"], row["acc"], row["acc_norm"] = answer, str(answer), 1.0, 1.0
        row["doc_hash"], row["target_hash"] = sha(json.dumps(row["doc"], indent=2, ensure_ascii=False)), sha(str(answer))
    return changed


FORGED: dict[str, tuple[Callable[[], dict[str, Rows]], str]] = {
    "a task left out": (lambda: {"sums": FIRST}, "words: "),
    "only right answers kept": (lambda: {"sums": [row for row in FIRST if row["acc"]], "words": SECOND}, "are missing"),
    "right answers changed, hashes made anew": (lambda: {"sums": relabelled(FIRST), "words": SECOND}, "20 of the 300 questions"),
    "a question counted twice": (lambda: {"sums": [*FIRST, FIRST[0]], "words": SECOND}, "1 are not in it"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_coverage_is_seen(capsys: pytest.CaptureFixture[str], tmp_path: Path, manifest: Path, name: str) -> None:
    make, word = FORGED[name]
    logs = write(tmp_path / "suspect", make())
    code, told = judged(capsys, logs, "--manifest", manifest)
    found = [text for status, text in told if status == "found"]
    assert (code, len(found)) == (1, 1)
    assert word in found[0]


def test_without_a_manifest_the_forged_labels_pass(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    logs = write(tmp_path / "suspect", {"sums": relabelled(FIRST), "words": SECOND})
    code, told = judged(capsys, logs)
    assert (code, [status for status, _ in told]) == (0, ["not-applicable"])


def test_honest_logs_hold_all_questions_in_any_order(capsys: pytest.CaptureFixture[str], tmp_path: Path, manifest: Path) -> None:
    logs = write(tmp_path / "suspect", {"sums": FIRST[::-1], "words": SECOND, "more": answering(12, questions=30)})
    code, told = judged(capsys, logs, "--manifest", manifest)
    assert code == 0
    assert [(status, "and no others" in text) for status, text in told] == [("ok", True), ("ok", True)]


def test_another_version_of_the_dataset_accuses_nobody(capsys: pytest.CaptureFixture[str], tmp_path: Path, manifest: Path) -> None:
    other = [{**row, "doc": {**row["doc"], "id": place}} for place, row in enumerate(FIRST)]
    for row in other:
        row["doc_hash"] = sha(json.dumps(row["doc"], indent=2, ensure_ascii=False))
    logs = write(tmp_path / "suspect", {"sums": other, "words": SECOND})
    code, told = judged(capsys, logs, "--manifest", manifest)
    assert (code, sorted(status for status, _ in told)) == (2, ["ok", "unknown"])


def test_a_score_without_samples_stays_open(capsys: pytest.CaptureFixture[str], tmp_path: Path, manifest: Path) -> None:
    logs = write(tmp_path / "suspect", {"sums": FIRST, "words": SECOND})
    next(logs.glob("samples_words_*")).unlink()
    code, told = judged(capsys, logs, "--manifest", manifest)
    assert (code, sorted(status for status, _ in told)) == (2, ["ok", "unknown"])


@pytest.mark.parametrize(("claim", "code"), [(None, 0), ("0.99", 1), (0.99, 1), ("high", 0)])
def test_claims_of_a_manifest_are_held_against_the_scores(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, manifest: Path, claim: object, code: int
) -> None:
    logs = write(tmp_path / "suspect", {"sums": FIRST, "words": SECOND})
    share = sum(row["acc"] for row in FIRST) / len(FIRST)
    document = json.loads(manifest.read_text())
    document["tasks"]["sums"]["claims"] = {"acc": f"{share:.3f}" if claim is None else claim}
    manifest.write_text(json.dumps(document))
    assert main(["evals", str(logs), "--manifest", str(manifest)]) == code
    assert "evals-claims" in capsys.readouterr().out


def test_a_count_alone_is_held_against_the_count(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = tmp_path / "manifest.json"
    logs = write(tmp_path / "suspect", {"sums": FIRST})
    for count, code in ((300, 0), (301, 1)):
        place.write_text(json.dumps({"schema": SCHEMA, "tasks": {"sums": {"n": count}}}))
        assert main(["evals", str(logs), "--manifest", str(place)]) == code


BROKEN: dict[str, Any] = {
    "no object": [],
    "another schema": {"schema": "x/1", "tasks": {"a": {"n": 1}}},
    "no tasks": {"schema": SCHEMA, "tasks": {}},
    "an unknown key": {"schema": SCHEMA, "tasks": {"a": {"n": 1, "root": "x"}}},
    "a count that is none": {"schema": SCHEMA, "tasks": {"a": {"n": 0}}},
    "another count": {"schema": SCHEMA, "tasks": {"a": {"n": 2, "items": ["0" * 16]}}},
    "an item that is none": {"schema": SCHEMA, "tasks": {"a": {"n": 1, "items": ["0" * 15 + "A"]}}},
    "a claim that is none": {"schema": SCHEMA, "tasks": {"a": {"n": 1, "claims": {"acc": []}}}},
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_manifest_is_a_wrong_request(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    place = tmp_path / "manifest.json"
    place.write_text(json.dumps(BROKEN[name]))
    logs = write(tmp_path / "suspect", {"sums": FIRST})
    assert main(["evals", str(logs), "--manifest", str(place)]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["evals", str(logs), "--manifest", str(tmp_path / "none.json")]) == 3


def test_a_manifest_is_not_made_of_nothing(tmp_path: Path) -> None:
    logs = write(tmp_path / "suspect", {"sums": FIRST})
    assert main(["evals", str(logs), "--write-manifest", str(tmp_path / "no/such/folder.json")]) == 2
    next(logs.glob("samples_*")).unlink()
    assert main(["evals", str(logs), "--write-manifest", str(tmp_path / "manifest.json")]) == 2
    assert not (tmp_path / "manifest.json").exists()


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=9),
        lambda one: st.lists(one, max_size=3) | st.dictionaries(st.sampled_from(["schema", "tasks", "n", "items", "a"]), one, max_size=4),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_bytes_break_the_reader(data: bytes) -> None:
    assert "\n" not in refusal(data)


def refusal(data: bytes) -> str:
    """Why these bytes are no manifest; "" where they are one."""
    try:
        return "" if read_manifest(data, "m").tasks else "none"
    except Malformed as error:
        return str(error)
