"""The whole line, through the command line, on real git repositories and against a hub on loopback: verdicts, exit codes, contracts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from demo.hub_server import HubServer
from demo.repository import Repository
from modelguard.cli import main
from tests.evals import building as evaluations
from tests.fingerprint.zoo import Tensors, model, permuted, rotated, tuned

BASE = model(0)
NAME = "lab/base"
CARD = "---\nbase_model: lab/base\nbase_model_relation: finetune\n---\n# A model\n"


@dataclass(frozen=True)
class Place:
    """A model repository, the hub that serves its base, and a folder for files."""

    repository: Repository
    hub: HubServer
    folder: Path

    def weights(self, tensors: Tensors, name: str = "weights.safetensors") -> Path:
        path = self.folder / name
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, path)
        return path

    def log(self, steps: range | list[int], final: int | None = None) -> str:
        rows = [{"step": step, "epoch": step / 100, "loss": 2.0 / (1 + step / 50), "learning_rate": 1e-4} for step in steps]
        state = {"global_step": final or steps[-1], "max_steps": final or steps[-1], "logging_steps": 10, "save_steps": 500}
        return json.dumps({**state, "log_history": rows}, indent=2, sort_keys=True)

    def pull_request(self, files: dict[str, str | Path]) -> str:
        return self.repository.branch("pr", files, "Add a model")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    folder = tmp_path / "base"
    folder.mkdir()
    save_file(BASE, folder / "model.safetensors")
    with HubServer({NAME: folder}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        yield Place(Repository(tmp_path / "repository"), hub, tmp_path)


def audit(place: Place, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    """(exit code, JSON document) of an audit of the pull request."""
    repo = str(place.repository.path)
    code = main(["audit", "--repo", repo, "--base", "main", "--head", "pr", "--activations", "off", "--format", "json", *options])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, document


def statuses(document: dict[str, Any]) -> dict[str, str]:
    return {finding["rule"]: finding["status"] for finding in document["findings"]}


def test_an_honest_fine_tune_is_consistent(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.pull_request(
        {"m/model.safetensors": place.weights(tuned(BASE)), "m/README.md": CARD, "m/trainer_state.json": place.log(range(10, 501, 10))}
    )
    code, document = audit(place, capsys)
    assert (code, document["verdict"], document["schema"]) == (0, "consistent", "modelguard.audit/1")
    assert statuses(document)["weights-base-mismatch"] == "ok"
    assert statuses(document)["log-gap"] == "ok"
    assert document["models"][0]["base"].startswith(f"hf:{NAME}@{place.hub.commit(NAME)}")


@pytest.mark.parametrize("disguise", [rotated, permuted, lambda base: permuted(rotated(base))], ids=["rotated", "permuted", "both"])
def test_an_honest_release_in_another_frame_is_not_accused(place: Place, capsys: pytest.CaptureFixture[str], disguise: Any) -> None:
    place.pull_request({"model.safetensors": place.weights(disguise(tuned(BASE))), "README.md": CARD})
    code, document = audit(place, capsys)
    assert code != 1
    assert statuses(document)["weights-base-mismatch"] in ("ok", "unknown")


def test_another_initialisation_is_a_mismatch_with_its_tests_and_controls(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.pull_request({"model.safetensors": place.weights(model(1)), "README.md": CARD})
    code, document = audit(place, capsys)
    assert (code, document["verdict"]) == (1, "inconsistent")
    finding = next(finding for finding in document["findings"] if finding["rule"] == "weights-base-mismatch")
    assert (finding["status"], finding["severity"], finding["confidence"]) == ("found", "high", "medium")
    assert "main" in finding["text"]  # the card names no revision, and the finding says so
    weights = document["models"][0]["weights"]
    assert {test["method"].split("-")[0] for test in weights["evidence"]} == {"t0", "t1", "t2", "t3", "t4"}
    assert [power["detectable"] for power in weights["power"] if "copy of the base" in power["transformation"]] == [True] * 3


def test_a_pinned_revision_makes_a_mismatch_certain(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    card = CARD.replace("lab/base", f"lab/base@{place.hub.commit(NAME)}")
    place.pull_request({"model.safetensors": place.weights(model(1)), "README.md": card})
    _, document = audit(place, capsys)
    assert next(finding for finding in document["findings"] if finding["rule"] == "weights-base-mismatch")["confidence"] == "high"


def test_steps_cut_out_of_the_log_are_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [step for step in range(10, 501, 10) if not 200 <= step <= 300]
    place.pull_request({"model.safetensors": place.weights(tuned(BASE)), "README.md": CARD, "trainer_state.json": place.log(steps, 500)})
    code, document = audit(place, capsys)
    assert (code, document["verdict"]) == (1, "inconsistent")
    finding = next(finding for finding in document["findings"] if finding["rule"] == "log-gap")
    assert (finding["numbers"]["first_missing"], finding["numbers"]["last_missing"]) == (200, 300)


def test_a_change_of_papers_alone_is_audited(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.repository.commit({"model.safetensors": place.weights(model(1)), "README.md": "# no base\n"}, "Add weights")
    place.pull_request({"README.md": CARD})
    assert audit(place, capsys)[0] == 1


def test_no_model_files_is_a_pass_that_says_so(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.pull_request({"notes.txt": "hello"})
    code, document = audit(place, capsys)
    assert (code, document["verdict"], document["notes"]) == (0, "consistent", ["no model files changed"])


def test_nothing_declared_and_no_log_is_not_a_pass(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.pull_request({"m/model.safetensors": place.weights(model(1))})
    code, document = audit(place, capsys)
    assert (code, document["verdict"]) == (2, "cannot-determine")


def test_the_policy_is_the_base_commits(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    lenient = "version: 1\nrules:\n  weights-base-mismatch: {severity: low}\n"
    place.pull_request({"model.safetensors": place.weights(model(1)), "README.md": CARD, ".modelguard.yml": lenient})
    code, document = audit(place, capsys)
    assert code == 1
    assert any(".modelguard.yml" in note for note in document["notes"])


def test_policy_pins_waives_and_requires(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"model.safetensors": place.weights(model(1)), "README.md": CARD}
    waiver = "{rule: weights-base-mismatch, subject: model.safetensors, reason: known, owner: me, expires: 2999-01-01}"
    place.repository.commit({".modelguard.yml": f"version: 1\nwaivers:\n  - {waiver}\n"}, "Waive")
    place.pull_request(files)
    code, document = audit(place, capsys)
    assert code == 0
    assert next(finding for finding in document["findings"] if finding["rule"] == "weights-base-mismatch")["waived"]
    place.repository.commit({".modelguard.yml": "version: 1\nrequire: [log]\n"}, "Require a log")
    place.pull_request({**files, "model.safetensors": place.weights(tuned(BASE))})
    assert audit(place, capsys)[0] == 2


def test_a_sharded_model_is_one_model(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = tuned(BASE)
    names = sorted(tensors)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    files: dict[str, str | Path] = {
        f"m/{shard}": place.weights({key: tensors[key] for key in keys}, shard) for shard, keys in halves.items()
    }
    index = {"metadata": {}, "weight_map": {key: shard for shard, keys in halves.items() for key in keys}}
    place.pull_request({**files, "m/model.safetensors.index.json": json.dumps(index), "m/README.md": CARD})
    code, document = audit(place, capsys)
    assert code == 0
    assert [model["kind"] for model in document["models"]] == ["sharded"]


def test_an_adapter_is_held_against_shapes_only(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    module = "base_model.model.model.layers.0.mlp.up_proj"
    factors = {
        f"{module}.lora_A.weight": np.ones((4, 128), dtype=np.float32),
        f"{module}.lora_B.weight": np.ones((1280, 4), dtype=np.float32),
    }
    config = json.dumps({"base_model_name_or_path": NAME, "peft_type": "LORA", "r": 4})
    place.pull_request({"a/adapter_model.safetensors": place.weights(factors), "a/adapter_config.json": config})
    code, document = audit(place, capsys)
    assert (code, statuses(document)["adapter-fits-base"], statuses(document)["weights-base-mismatch"]) == (0, "ok", "not-applicable")
    wrong = {name: np.ascontiguousarray(value.T[:7].T if "_B" in name else value[:, :9]) for name, value in factors.items()}
    place.pull_request({"a/adapter_model.safetensors": place.weights(wrong), "a/adapter_config.json": config})
    assert audit(place, capsys)[0] == 1


def test_audits_are_the_same_from_run_to_run(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.pull_request({"model.safetensors": place.weights(tuned(BASE)), "README.md": CARD})
    documents = [audit(place, capsys)[1] for _ in range(2)]
    for document in documents:
        document.pop("run")
    assert documents[0] == documents[1]


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "ab" * 32 + "\nsize 1234\n"
INDEX = json.dumps({"weight_map": {"x": "model-00001-of-00002.safetensors", "y": "model-00002-of-00002.safetensors"}})
BAD_INPUT: dict[str, tuple[dict[str, str], str]] = {
    "truncated": ({"model.safetensors": "TRUNCATED", "README.md": CARD}, "model.safetensors"),
    "pointer without object": ({"model.safetensors": POINTER, "README.md": CARD}, "git lfs pull"),
    "html": ({"model.safetensors": "<!DOCTYPE html><html>not found</html>", "README.md": CARD}, "HTML"),
    "index without shards": ({"model.safetensors.index.json": INDEX, "README.md": CARD}, "model-00001-of-00002.safetensors"),
    "unknown base": ({"model.safetensors": "WEIGHTS", "README.md": CARD.replace("lab/base", "lab/none")}, "lab/none"),
    "hostile base": ({"model.safetensors": "WEIGHTS", "README.md": CARD.replace("lab/base", "http://169.254.169.254/x")}, "README.md"),
    "log that is not JSON": ({"model.safetensors": "WEIGHTS", "README.md": CARD, "trainer_state.json": "{oops"}, "trainer_state.json"),
    "card that is not YAML": ({"model.safetensors": "WEIGHTS", "README.md": "---\nbase_model: [a\n---\n"}, "README.md"),
    "torch pickle": ({"pytorch_model.bin": "PK\x03\x04archive/data.pkl", "README.md": CARD}, "pytorch_model.bin"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_neither_a_pass_nor_an_accusation_nor_a_traceback(place: Place, capsys: pytest.CaptureFixture[str], case: str) -> None:
    files, named = BAD_INPUT[case]
    honest = place.weights(tuned(BASE))
    cut = place.folder / "cut.safetensors"
    cut.write_bytes(honest.read_bytes()[:-100])
    place.pull_request({name: {"WEIGHTS": honest, "TRUNCATED": cut}.get(content, content) for name, content in files.items()})
    code, document = audit(place, capsys)
    assert (code, document["verdict"]) == (2, "cannot-determine")
    reasons = [
        finding for finding in document["findings"] if finding["status"] == "unknown" and named in finding["why"] + finding["settle"]
    ]
    assert reasons, [finding["why"] for finding in document["findings"]]
    assert all("\n" not in finding["why"] and "Traceback" not in finding["why"] for finding in document["findings"])
    assert all(finding["settle"] for finding in reasons)
    assert not [finding for finding in document["findings"] if finding["status"] == "found"]


@pytest.mark.parametrize("fault", ["500", "gated", "cut", "wrong"])
def test_a_base_that_cannot_be_had_is_not_a_pass(place: Place, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    place.hub.faults["model.safetensors" if fault in ("cut", "wrong") else "api"] = fault
    place.pull_request({"model.safetensors": place.weights(tuned(BASE)), "README.md": CARD})
    code, document = audit(place, capsys)
    assert (code, statuses(document)["weights-base-mismatch"]) == (2, "unknown")


def test_offline_uses_the_cache(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.pull_request({"model.safetensors": place.weights(tuned(BASE)), "README.md": CARD})
    assert audit(place, capsys, "--offline")[0] == 2
    assert audit(place, capsys)[0] == 0
    assert audit(place, capsys, "--offline")[0] == 0


def test_a_download_beyond_the_limit_is_refused_before_it_starts(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.pull_request({"model.safetensors": place.weights(tuned(BASE)), "README.md": CARD})
    code, document = audit(place, capsys, "--max-download", "1000")
    assert code == 2
    assert any("1,000" in finding["why"] for finding in document["findings"])
    assert not [asked for asked in place.hub.requests if "model.safetensors" in str(asked) and "GET" in str(asked)]


def test_reports_are_written_and_repeatable(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.pull_request({"model.safetensors": place.weights(tuned(BASE)), "README.md": CARD})
    _, document = audit(place, capsys, "--out", str(place.folder / "out"))
    assert json.loads((place.folder / "out" / "report.json").read_text()) | {"run": 0} == document | {"run": 0}
    assert "consistent" in (place.folder / "out" / "comment.md").read_text()
    assert json.loads((place.folder / "out" / "report.sarif").read_text())["runs"][0]["properties"]["verdict"] == document["verdict"]
    assert "modelguard: consistent" in (place.folder / "out" / "report.html").read_text()
    assert document["reproduce"].startswith("modelguard audit --base ")


def test_evaluation_logs_beside_the_model_are_held_against_samples_and_card(
    place: Place, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = evaluations.write(tmp_path / "evals", {"sums": evaluations.answering(3)})
    logs: dict[str, str | Path] = {f"m/evals/{path.name}": path for path in folder.iterdir()}
    place.pull_request({"m/model.safetensors": place.weights(tuned(BASE)), "m/README.md": CARD, **logs})
    code, document = audit(place, capsys)
    assert code == 0
    told = [finding for finding in document["findings"] if finding["rule"] == "evals-scores"]
    assert {finding["status"] for finding in told} == {"ok"}
    assert statuses(document)["behaviour-undeclared-teacher"] == "not-applicable"
    table = "\n| Benchmark | Score |\n|---|---|\n| sums | 99.9 |\n"
    place.repository.git("checkout", "-q", "main")
    place.repository.branch("claims", {"m/model.safetensors": place.weights(tuned(BASE)), "m/README.md": CARD + table, **logs}, "Claim")
    repo = str(place.repository.path)
    assert main(["audit", "--repo", repo, "--base", "main", "--head", "claims", "--activations", "off", "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [finding["rule"] for finding in document["findings"] if finding["status"] == "found"] == ["evals-claims"]


def test_a_changed_evaluation_log_alone_concerns_its_model(place: Place, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place.repository.commit({"m/model.safetensors": place.weights(tuned(BASE)), "m/README.md": CARD}, "A model")

    def more(told: dict[str, Any], _samples: object) -> None:
        told["results"]["sums"]["acc,none"] += 0.1

    folder = evaluations.write(tmp_path / "evals", {"sums": evaluations.answering(3)}, edit=more)
    place.pull_request({f"m/evals/{path.name}": path for path in folder.iterdir()})
    code, document = audit(place, capsys)
    assert code == 1
    assert [finding["rule"] for finding in document["findings"] if finding["status"] == "found"] == ["evals-scores"]
