"""Scores against samples: everything that the harness wrote follows, and each way to edit one of the two is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelguard.checks.evals_scores import check
from modelguard.errors import Malformed
from modelguard.evals.collecting import assemble
from modelguard.evals.harness import read_results
from modelguard.evals.rows import row
from modelguard.types.evals import EvalLogs
from modelguard.types.findings import Absence, Missing, Status
from modelguard.types.logs import Standing
from tests.evals.building import STAMP, Rows, answering, results, sha, write

REAL = Path(__file__).parent / "harness_0.4.13"


def read(folder: Path) -> EvalLogs:
    logs = assemble({str(path): path.read_bytes() for path in sorted(folder.iterdir())})
    assert isinstance(logs, EvalLogs), logs
    return logs


def broken(folder: Path) -> set[str]:
    return {identity.name for identity in read(folder).identities if identity.standing is Standing.BROKEN}


def test_every_score_of_a_real_run_follows_from_its_samples() -> None:
    logs = read(REAL)
    held = [identity for identity in logs.identities if identity.standing is Standing.HOLDS]
    assert not [identity.text for identity in logs.identities if identity.standing is Standing.BROKEN]
    assert [identity.name for identity in held].count("mean") == 4  # acc, acc_norm, exact_match under two filters
    assert [identity.name for identity in held].count("items") == 4
    assert [identity.name for identity in held].count("task-hash") == 2
    assert {(one.task, one.filter, len(one.answers)) for one in logs.answers} == {
        ("sums", "none", 60),
        ("products", "strict-match", 20),
        ("products", "flexible-extract", 20),
    }
    assert {claim.status for claim in check(logs)} == {Status.OK, Status.NOT_APPLICABLE}


def _claim_more(told: dict[str, Any], _samples: dict[str, Rows]) -> None:
    told["results"]["sums"]["acc,none"] += 0.01


def _lower_error(told: dict[str, Any], _samples: dict[str, Rows]) -> None:
    told["results"]["sums"]["acc_stderr,none"] *= 0.5


def _drop_wrong(_told: dict[str, Any], samples: dict[str, Rows]) -> None:
    samples["sums"][:] = [one for one in samples["sums"] if one["acc"]]


def _drop_wrong_and_claim_it(told: dict[str, Any], samples: dict[str, Rows]) -> None:
    _drop_wrong(told, samples)
    told["results"] = results(samples)["results"]
    told["n-samples"] = results(samples)["n-samples"]


def _score_up(told: dict[str, Any], samples: dict[str, Rows]) -> None:
    for one in samples["sums"]:
        one["acc"] = 1.0
    told["results"] = results(samples)["results"]


def _other_question(_told: dict[str, Any], samples: dict[str, Rows]) -> None:
    samples["sums"][0]["doc"]["q"] = "an easier question"


EDITS: dict[str, tuple[Callable[..., None], set[str]]] = {
    "a higher score": (_claim_more, {"mean"}),
    "a smaller error": (_lower_error, {"stderr"}),
    "wrong answers left out": (_drop_wrong, {"mean", "count", "task-hash"}),
    "wrong answers left out everywhere but in the hash": (_drop_wrong_and_claim_it, {"task-hash"}),
    "metrics set to one": (_score_up, {"items"}),
    "a question edited": (_other_question, {"hashes"}),
}


@pytest.mark.parametrize("name", EDITS)
def test_each_edit_is_found(name: str, tmp_path: Path) -> None:
    edit, expected = EDITS[name]
    assert broken(write(tmp_path / "honest", {"sums": answering(3)})) == set()
    folder = write(tmp_path / "edited", {"sums": answering(3)}, edit=edit)
    assert broken(folder) == expected
    assert Status.FOUND in {claim.status for claim in check(read(folder))}


def test_what_is_written_anew_as_a_whole_is_not_seen(tmp_path: Path) -> None:
    """The documented limit: nothing in these files is signed."""

    def relabel(told: dict[str, Any], samples: dict[str, Rows]) -> None:
        for one in samples["sums"]:
            best = max(range(4), key=lambda place: float(one["filtered_resps"][place][0]))
            one["target"], one["acc"], one["acc_norm"], one["target_hash"] = str(best), 1.0, 1.0, sha(str(best))
        told |= {key: results(samples)[key] for key in ("results", "task_hashes")} if len({r["acc"] for r in samples["sums"]}) > 1 else {}

    assert "items" not in broken(write(tmp_path, {"sums": answering(3)}, edit=relabel))


def test_a_filtered_answer_that_the_model_never_gave_is_found(tmp_path: Path) -> None:
    for path in REAL.iterdir():
        data = path.read_text(encoding="utf-8")
        if "products" in path.name:
            listed = [json.loads(line) for line in data.splitlines()]
            wrong = next(one for one in listed if one["filter"] == "strict-match" and not one["exact_match"])
            wrong |= {"resps": [[" I do not know"]], "filtered_resps": [wrong["target"]], "exact_match": 1.0}
            data = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in listed)
        (tmp_path / path.name).write_text(data, encoding="utf-8")
    assert broken(tmp_path) == {"filtered", "mean"}


def test_limited_runs_are_told_and_not_accused(tmp_path: Path) -> None:
    def limit(told: dict[str, Any], _samples: dict[str, Rows]) -> None:
        told["n-samples"]["sums"]["original"] = 1000
        told["config"]["limit"] = 300.0

    logs = read(write(tmp_path, {"sums": answering(3)}, edit=limit))
    assert [identity.text for identity in logs.identities if identity.name == "limited"] == [
        "sums: 300 of 1000 questions were asked, as the run's limit says"
    ]
    assert Status.FOUND not in {claim.status for claim in check(logs)}


def test_scores_without_samples_stay_open(tmp_path: Path) -> None:
    folder = write(tmp_path, {"sums": answering(3)})
    next(folder.glob("samples_*")).unlink()
    (claim,) = check(read(folder))
    assert claim.status is Status.UNKNOWN


HOSTILE = {
    "not JSON": b"{",
    "a list": b"[]\n",
    "no hashes": b'{"doc_id": 0, "acc": 1.0}\n',
    "hash of the wrong length": b'{"doc_hash": "00", "prompt_hash": "00", "target_hash": "00", "acc": 1.0}\n',
    "no metric": json.dumps({"doc_hash": "0" * 64, "prompt_hash": "0" * 64, "target_hash": "0" * 64}).encode(),
    "a key twice": b'{"acc": 1.0, "acc": 0.0}\n',
    "nested": b'{"a": ' + b"[" * 100_000 + b"\n",
    "not UTF-8": b'{"\xff": 1}\n',
    "a long line": b'{"a": "' + b"x" * (9 << 20) + b'"}\n',
    "empty": b"",
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "huge integer": b'{"acc": ' + b"9" * 5000 + b"}\n",
    "NaN metric": json.dumps({"doc_hash": "0" * 64, "prompt_hash": "0" * 64, "target_hash": "0" * 64, "acc": float("nan")}).encode(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_samples_are_broken_evidence_with_a_reason(name: str) -> None:
    file = f"samples_sums_{STAMP}.jsonl"
    found = assemble({file: HOSTILE[name]})
    assert isinstance(found, Missing)
    assert found.kind is Absence.BROKEN
    assert file in found.why
    assert "crashed" not in found.why
    assert "\n" not in found.why


@pytest.mark.parametrize("data", [b"{", b"\xff", b'{"results": {"a": 1}, "results": 2}', b"[" * 100_000])
def test_hostile_results_are_broken_evidence(data: bytes) -> None:
    found = assemble({f"results_{STAMP}.json": data})
    assert isinstance(found, Missing)
    assert (found.kind, "crashed" in found.why) == (Absence.BROKEN, False)


def test_other_json_is_not_taken_for_results() -> None:
    found = assemble({"results.json": b'{"results": [1, 2]}'})
    assert isinstance(found, Missing)
    assert found.kind is Absence.ABSENT


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
keys = ("results", "config", "configs", "n-samples", "task_hashes", "groups", "model_name", "versions")


@given(st.dictionaries(st.sampled_from(keys), json_values | st.dictionaries(st.just("sums"), json_values, max_size=1)))
def test_any_results_are_read_or_refused(value: dict[str, Any]) -> None:
    with suppress(Malformed):  # anything else fails
        found = read_results("results.json", json.dumps(value).encode())
        assert found is None or all(isfinite(score.value) for score in found.scores)


fields = ("doc", "target", "arguments", "resps", "filtered_resps", "filter", "acc", "acc_norm", "exact_match")


@given(
    st.dictionaries(st.sampled_from(fields), json_values),
    st.dictionaries(st.sampled_from(("metric_list", "filter_list", "target_delimiter")), json_values),
)
def test_any_row_is_read_or_refused(value: dict[str, Any], config: dict[str, Any]) -> None:
    hashes = dict.fromkeys(("doc_hash", "prompt_hash", "target_hash"), "0" * 64)
    with suppress(Malformed):
        assert row({**value, **hashes}, "samples line 1", config).scores
