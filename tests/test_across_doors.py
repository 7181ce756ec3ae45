"""A model of another architecture than its declared base in the audit: controls come from policy, and the rank blocks nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from demo.hub_server import HubServer
from demo.repository import Repository
from modelguard.cli import main

pytest.importorskip("torch")
pytest.importorskip("transformers")
from tests.activations.test_across import network, shortened

RULE = "activations-across-architectures"
CARD = "---\nbase_model: lab/base\nbase_model_relation: finetune\n---\n"
NAMES = ("config.json", "model.safetensors", "tokenizer.json")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place: Path = tmp_path_factory.mktemp("models")
    base = network(place / "base", "llama", 0, layers=3)
    shortened(base, place / "derived", place / "base", 2)
    for seed in range(10, 15):
        network(place / f"c{seed}", "llama", seed)
    return {path.name: path for path in place.iterdir()}


def audited(
    models: dict[str, Path], left: str, rules: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, Any]]:
    """(exit code, the document) of the audit of a pull request that adds a model."""
    tmp_path.mkdir(exist_ok=True)
    repository, policy = Repository(tmp_path / "repository"), tmp_path / "policy.yml"
    policy.write_text(f"version: 1\n{rules}")
    with HubServer({f"lab/{name}": path for name, path in models.items()}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        repository.branch("pr", {f"m/{name}": models[left] / name for name in NAMES} | {"m/README.md": CARD}, "Add")
        asked = ["--base", "main", "--head", "pr", "--policy", str(policy), "--quiet", "--format", "json"]
        code = main(["audit", "--repo", str(repository.path), *asked])
    return code, json.loads(capsys.readouterr().out)


def ours(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What our rule says."""
    return [finding for finding in document["findings"] if finding["rule"] == RULE]


CONTROLS = "controls: [hf:lab/c10, hf:lab/c11, hf:lab/c12, hf:lab/c13, hf:lab/c14]\n"


@pytest.mark.slow
def test_a_derivative_is_closer_than_the_controls_of_policy(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, document = audited(models, "derived", CONTROLS, tmp_path, monkeypatch, capsys)
    (finding,) = ours(document)
    assert finding["status"] == "ok", finding
    assert finding["numbers"]["debiased_cka_rank"] == 1
    assert finding["numbers"]["controls"] == 5
    drawn = [picture for picture in document["models"][0]["exhibits"] if "across architectures" in picture["title"]]
    assert [picture["kind"] for picture in drawn] == ["band", "band", "matrix"]


@pytest.mark.slow
def test_without_controls_the_question_is_not_asked_and_decides_nothing(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = audited(models, "derived", "", tmp_path / "plain", monkeypatch, capsys)
    (finding,) = ours(document)
    assert finding["status"] == "not-applicable"
    assert "names no control models" in finding["text"]
    disabled = f"rules: {{{RULE}: {{enabled: false}}}}\n"
    same, without = audited(models, "derived", disabled, tmp_path / "disabled", monkeypatch, capsys)
    assert not ours(without)
    assert (code, document["verdict"], document["headline"]) == (same, without["verdict"], without["headline"])


@pytest.mark.slow
def test_one_architecture_is_left_to_the_exact_tests(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (finding,) = ours(audited(models, "base", CONTROLS, tmp_path, monkeypatch, capsys)[1])
    assert finding["status"] == "not-applicable"
    assert "exact tests" in finding["text"]
