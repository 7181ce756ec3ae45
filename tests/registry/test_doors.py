"""The registry through its doors: `modelguard registry`, `compare` with a fingerprint, and the audit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from demo.hub_server import HubServer
from demo.repository import Repository
from modelguard.cli import main
from modelguard.errors import BadRequest, CannotFetch
from modelguard.known_models import Place, controls
from tests.fingerprint.zoo import Arrays, Tensors, model, permuted, rotated, tuned

BASE, OTHER = model(0), model(1)
CARD = "---\nbase_model: lab/base\nbase_model_relation: finetune\n---\n# A model\n"
NO_BASE = "---\nlicense: mit\n---\n# A model\n"


def saved(folder: Path, tensors: Tensors) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "model.safetensors")
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a registry of `lab/other`, one of whose models is private, and checkpoints."""
    monkeypatch.chdir(tmp_path)
    for name, tensors in {"base": BASE, "other": OTHER, "hidden": model(2), "child": tuned(OTHER, seed=5)}.items():
        saved(tmp_path / name, tensors)
    for arguments in (["other", "--name", "lab/other", "--independent"], ["hidden", "--name", "lab/hidden", "--alias", "project x"]):
        assert main(["registry", "add", *arguments, "--quiet"]) == 0
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_search_exits_0_whatever_it_finds(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    code, out, _ = run(capsys, "registry", "search", "child", "--format", "json", "--quiet")
    document = json.loads(out)
    assert (code, document["schema"], document["searched"]) == (0, "modelguard.registry/1", 2)
    assert [(hit["name"], hit["fired"]) for hit in document["hits"]] == [("lab/other", 4)]
    assert document["run"]["bytes_read"] < document["run"]["bytes_total"]
    code, out, _ = run(capsys, "registry", "search", "base", "--quiet")
    assert (code, "no known model shows" in out) == (0, True)


def test_a_candidate_is_held_against_its_weights_where_they_can_be_had(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    saved(place / "turned", rotated(OTHER))
    code, out, _ = run(capsys, "registry", "search", "turned", "--quiet")
    assert (code, "candidate, not a finding" in out, "must be read" in out) == (0, True, True)
    assert main(["registry", "add", "other", "--name", "lab/other", "--reference", str(place / "other"), "--replace", "--quiet"]) == 0
    code, out, _ = run(capsys, "registry", "search", "turned", "--quiet")
    assert "its own weights say: derived" in out


def test_private_entries_go_by_their_alias_everywhere(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    for arguments in (["list"], ["list", "--format", "json"], ["search", "hidden", "--quiet"], ["export"]):
        code, out, err = run(capsys, "registry", *arguments)
        assert code == 0
        assert "project x" in out
        assert "lab/hidden" not in out + err
    assert "lab/hidden" in run(capsys, "registry", "export", "--private-names")[1]


def test_exit_codes(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    saved(place / "small", model(3, layers=1) | {"model.layers.0.mlp.up_proj.weight": np.ones((64, 128), dtype=np.float32)})
    (place / "torn.sqlite").write_bytes((place / "modelguard-registry.sqlite").read_bytes()[:5000])
    expected = {
        ("registry", "search", "absent"): 2,
        ("registry", "search", "base", "--registry", "absent.sqlite"): 2,
        ("registry", "search", "base", "--registry", "torn.sqlite"): 2,
        ("registry", "list", "--registry", "mysql://x/y"): 3,
        ("registry", "add", "base", "--name", "lab/other"): 3,
        ("registry", "remove", "absent"): 3,
        ("registry", "import", "base/model.safetensors"): 2,
        ("registry", "search", "registry:lab/other"): 3,
        ("compare", "child", "registry:absent"): 2,
    }
    for arguments, code in expected.items():
        quiet = ("--quiet",) if arguments[1] in ("search", "add") or arguments[0] == "compare" else ()
        told, out, err = run(capsys, *arguments, *quiet)
        assert (told, out, len(err.splitlines())) == (code, "", 1), (arguments, err)


def test_export_and_import(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert run(capsys, "registry", "export", "all.jsonl")[0] == 0
    assert run(capsys, "registry", "import", "all.jsonl", "--registry", "second.sqlite")[0] == 0
    _code, out, _ = run(capsys, "registry", "list", "--registry", "second.sqlite", "--format", "json")
    assert [item["name"] for item in json.loads(out)["entries"]] == ["lab/other", "project x"]
    assert run(capsys, "registry", "search", "child", "--registry", "second.sqlite", "--quiet")[1].count("lab/other") == 1


def test_compare_with_a_fingerprint(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    code, out, _ = run(capsys, "compare", "child", "registry:lab/other", "--format", "json", "--quiet")
    document = json.loads(out)
    assert (code, document["relation"], document["basis"], document["right"]["ref"]) == (0, "derived", "exact", "registry:lab/other")
    code, out, _ = run(capsys, "compare", "base", "registry:lab/other", "--format", "json", "--quiet")
    assert (code, json.loads(out)["relation"]) == (0, "inconclusive")


def test_a_secret_registry(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    (place / "secret").write_text("correct horse battery staple\n")
    assert run(capsys, "registry", "add", "base", "--secret", "secret", "--registry", "s.sqlite", "--quiet")[0] == 0
    assert run(capsys, "registry", "search", "base", "--registry", "s.sqlite", "--quiet")[0] == 2
    code, out, _ = run(capsys, "registry", "search", "base", "--registry", "s.sqlite", "--secret", "secret", "--quiet")
    assert (code, "base: related" in out) == (0, True)
    (place / "empty").write_text("\n")
    assert run(capsys, "registry", "search", "base", "--registry", "s.sqlite", "--secret", "empty", "--quiet")[0] == 3


@pytest.fixture
def hub(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer({"lab/base": place / "base", "lab/other": place / "other"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(place / "cache"))
        yield server


def audited(
    capsys: pytest.CaptureFixture[str], place: Path, tensors: Tensors, card: str, *options: str, policy: str = ""
) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """(exit code, the rule's first finding, the document) of an audit of a pull request."""
    repository = Repository(place / "repository")
    registry = {"known.sqlite": place / "modelguard-registry.sqlite"} if "known" in policy else {}
    repository.commit({".modelguard.yml": f"version: 1\n{policy}", "README.md": "more\n", **registry}, "Set the policy")
    repository.branch(
        "pr", {"m/model.safetensors": saved(place / "new", tensors) / "model.safetensors", "m/README.md": card}, "Add a model"
    )
    common = ["--repo", str(repository.path), "--base", "main", "--head", "pr", "--activations", "off", "--format", "json", "--quiet"]
    code, out, err = run(capsys, "audit", *common, *options)
    assert out, err
    document = json.loads(out)
    told = [finding for finding in document["findings"] if finding["rule"] == "weights-undeclared-base"]
    return code, told[0], document


KNOWN = "registry: known.sqlite\n"


def test_without_a_registry_the_rule_does_not_apply(capsys: pytest.CaptureFixture[str], place: Path, hub: HubServer) -> None:
    code, finding, _ = audited(capsys, place, tuned(BASE), CARD)
    assert (code, finding["status"]) == (0, "not-applicable")


def test_an_undeclared_parent_is_found(capsys: pytest.CaptureFixture[str], place: Path, hub: HubServer) -> None:
    """Declared: lab/base, which the weights do not support; in truth a fine-tune of lab/other."""
    code, finding, document = audited(capsys, place, tuned(OTHER, seed=8), CARD, policy=KNOWN)
    assert (code, finding["status"], finding["severity"], finding["confidence"]) == (1, "found", "high", "medium")
    assert "lab/other" in finding["text"]
    assert not [note for note in document["notes"] if "no effect" in note]
    code, finding, _ = audited(capsys, place, tuned(OTHER, seed=8), NO_BASE, policy=KNOWN)
    assert (code, finding["status"], "no base is declared" in finding["text"]) == (1, "found", True)


def test_reading_the_weights_makes_it_sure(capsys: pytest.CaptureFixture[str], place: Path, hub: HubServer) -> None:
    assert main(["registry", "add", "other", "--name", "lab/other", "--reference", "hf:lab/other", "--replace", "--quiet"]) == 0
    _, finding, _ = audited(capsys, place, tuned(OTHER, seed=8), CARD, "--registry", str(place / "modelguard-registry.sqlite"))
    assert (finding["status"], finding["confidence"], "say: derived" in finding["text"]) == ("found", "high", True)


def test_a_second_parent_is_found(capsys: pytest.CaptureFixture[str], place: Path, hub: HubServer) -> None:
    merged = {name: np.float32(0.7) * value + np.float32(0.3) * OTHER[name] for name, value in BASE.items()}
    code, finding, _ = audited(capsys, place, merged, CARD, policy=KNOWN)
    assert (code, finding["status"], finding["severity"]) == (0, "found", "medium")
    assert abs(finding["numbers"]["share"] - 0.3) < 0.02


def test_an_honest_fine_tune_passes(capsys: pytest.CaptureFixture[str], place: Path, hub: HubServer) -> None:
    assert main(["registry", "add", "base", "--name", "lab/base", "--quiet"]) == 0
    assert main(["registry", "add", str(saved(place / "sibling", tuned(BASE, seed=3))), "--name", "lab/sibling", "--quiet"]) == 0
    code, finding, _ = audited(capsys, place, tuned(BASE, seed=4), CARD, policy=KNOWN)
    assert (code, finding["status"], "lab/sibling, a descendant of the declared base" in finding["text"]) == (0, "ok", True)


def test_a_disguised_parent_is_a_reason_to_look(capsys: pytest.CaptureFixture[str], place: Path, hub: HubServer) -> None:
    code, finding, _ = audited(capsys, place, rotated(permuted(OTHER)), NO_BASE, policy=KNOWN)
    assert (code, finding["status"]) == (2, "unknown")
    assert "may be a parent in disguise" in finding["text"]


@pytest.mark.parametrize("policy", ["registry: absent.sqlite\n", "registry: README.md\n", "registry: ../x.sqlite\n"])
def test_a_registry_that_is_no_registry_is_never_a_pass(
    capsys: pytest.CaptureFixture[str], place: Path, hub: HubServer, policy: str
) -> None:
    code, finding, _ = audited(capsys, place, tuned(BASE), CARD, policy=policy)
    assert (code, finding["status"]) == (2, "unknown")


def test_controls_of_a_policy(place: Path) -> None:
    """`registry:` stands for every independent entry whose weights can be had, and nothing else is guessed."""
    again = ["other", "--name", "lab/other", "--reference", "hf:lab/other", "--independent", "--replace", "--quiet"]
    assert main(["registry", "add", *again]) == 0
    opened: list[str] = []

    def opener(reference: str) -> Arrays:
        opened.append(reference)
        return Arrays(OTHER, reference)

    known = Place(address="modelguard-registry.sqlite")
    made = controls(["registry:", "hf:lab/more", "registry:lab/other"], known, opener)
    assert [item.ref for item in made] == ["hf:lab/other", "hf:lab/more"]
    assert opened == ["hf:lab/other", "hf:lab/more"]
    for written, error in {"lab/other": BadRequest, "registry:absent": CannotFetch, "registry:project x": CannotFetch}.items():
        with pytest.raises(error):
            controls([written], known, opener)
    with pytest.raises(BadRequest):
        controls(["registry:"], None, opener)
