"""Stored activations through the doors: `registry add --activations`, `compare` with an entry, and the audit of a gated base."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.hub_server import HubServer
from demo.repository import Repository
from modelguard.cli import main
from tests.registry.test_doors import run

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8, "vocab_size": 300}
CARD = "---\nbase_model: lab/gated\nbase_model_relation: finetune\n---\n# A model\n"


def network(folder: Path, seed: int, *, noise: float = 0.0, **more: Any) -> Path:
    """A small llama; `noise` moves every matrix by that share of its own spread, as a fine-tune would."""
    config = transformers.LlamaConfig(**(SIZES | more), bos_token_id=None, eos_token_id=None, initializer_range=0.2)
    torch.manual_seed(seed)
    model = transformers.LlamaForCausalLM(config)
    torch.manual_seed(99)
    with torch.no_grad():
        for tensor in model.parameters():
            if noise and tensor.ndim == 2:
                tensor.add_(noise * tensor.std() * torch.randn(tensor.shape))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base`, a child of it, a stranger, and a registry that knows what the base does."""
    place: Path = tmp_path_factory.mktemp("models")
    torch.set_num_threads(1)
    network(place / "base", 0)
    network(place / "child", 0, noise=0.05)
    network(place / "stranger", 1)
    network(place / "shallow", 0, num_hidden_layers=3)
    add = ["registry", "add", str(place / "base"), "--name", "lab/gated", "--activations", "--quiet"]
    assert main([*add, "--registry", str(place / "known.sqlite")]) == 0
    return place


@pytest.fixture
def place(models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(models)
    return models


def test_add_says_what_is_revealed_and_list_shows_who_has_activations(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    code, out, _ = run(capsys, "registry", "add", "base", "--activations", "--layers", "2", "--registry", "n.sqlite", "--quiet")
    assert (code, "its activation fingerprint (" in out, "reveals in 2 of 4 layers" in out, "no weight" in out) == (0, True, True, True)
    arguments = ["registry", "add", "child", "--activations", "--registry", "n.sqlite", "--format", "json", "--quiet"]
    code, out, _ = run(capsys, *arguments)
    document = json.loads(out)
    assert document["activations"].startswith("activation-fingerprint-1:probes-v1-")
    assert 100_000 < document["bytes"] < 4_000_000
    assert "32 likeliest next tokens" in document["reveals_activations"]
    assert run(capsys, "registry", "add", "stranger", "--registry", "n.sqlite", "--quiet")[0] == 0
    _, out, _ = run(capsys, "registry", "list", "--registry", "n.sqlite", "--format", "json")
    assert {item["name"]: item["activations"] for item in json.loads(out)["entries"]} == {"base": True, "child": True, "stranger": False}
    assert run(capsys, "registry", "list", "--registry", "n.sqlite")[1].count("with activations") == 2


def activations(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = run(capsys, "compare", *arguments, "--activations", "--registry", "known.sqlite", "--format", "json", "--quiet")
    assert code == 0, err
    told: dict[str, Any] = json.loads(out)["activations"]
    return told


def test_compare_with_an_entry_without_its_weights(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    child, stranger = (activations(capsys, name, "registry:lab/gated") for name in ("child", "stranger"))
    assert max(child["log10_p_hidden"], child["log10_p_heads"], child["log10_p_units"]) < -9
    assert min(stranger["log10_p_hidden"], stranger["log10_p_heads"], stranger["log10_p_units"]) > -3
    assert child["control_fires"]
    assert child["next_token_agreement"] > 0.3 > stranger["next_token_agreement"]
    assert min(layer["gram_cosine"] for layer in child["layers"]) > 0.5
    assert max(layer["gram_cosine"] for layer in stranger["layers"]) < 0.5
    assert activations(capsys, "child", "registry:lab/gated") == child


def test_either_side_may_be_the_entry_or_both(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert activations(capsys, "registry:lab/gated", "child")["log10_p_hidden"] < -9
    both = activations(capsys, "registry:lab/gated", "registry:lab/gated")
    assert [layer["gram_cosine"] for layer in both["layers"]] == pytest.approx([1.0] * 4)


def test_what_is_not_there_is_unknown_and_what_makes_no_sense_is_refused(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert "different architecture" in activations(capsys, "shallow", "registry:lab/gated")["unknown"]
    assert run(capsys, "registry", "add", "child", "--registry", "bare.sqlite", "--quiet")[0] == 0
    _, out, _ = run(
        capsys, "compare", "child", "registry:child", "--activations", "--registry", "bare.sqlite", "--format", "json", "--quiet"
    )
    assert "holds no activation fingerprint of 'child'" in json.loads(out)["activations"]["unknown"]
    (place / "secret").write_text("correct horse battery staple\n")
    add = ("registry", "add", "base", "--activations", "--registry", "m.sqlite", "--quiet")
    code, out, err = run(capsys, *add, "--secret", "secret")
    assert (code, out, "no secret form" in err) == (3, "", True)
    (place / "bare").mkdir(exist_ok=True)
    (place / "bare" / "model.safetensors").write_bytes((place / "base" / "model.safetensors").read_bytes())
    code, out, err = run(capsys, "registry", "add", "bare", *add[3:])
    assert (code, out, "no config.json" in err, len(err.splitlines())) == (2, "", True, 1)
    assert not (place / "m.sqlite").exists()


def test_an_export_carries_them(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert run(capsys, "registry", "export", "all.jsonl", "--registry", "known.sqlite")[0] == 0
    assert run(capsys, "registry", "import", "all.jsonl", "--registry", "second.sqlite")[0] == 0
    direct = activations(capsys, "child", "registry:lab/gated")
    code, out, _ = run(
        capsys, "compare", "child", "registry:lab/gated", "--activations", "--registry", "second.sqlite", "--format", "json", "--quiet"
    )
    assert (code, json.loads(out)["activations"]) == (0, direct)


@pytest.fixture
def hub(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A hub that does not give out `lab/gated`."""
    with HubServer({"lab/stranger": place / "stranger"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        yield server


def audited(capsys: pytest.CaptureFixture[str], place: Path, folder: Path, model: str, *, card: str = CARD, known: bool = True) -> Any:
    """(the rule's finding, the document) of an audit of a pull request that adds a model, under a policy that names the registry or not."""
    repository = Repository(folder / "repository")
    policy: dict[str, Any] = {"README.md": "more\n", ".modelguard.yml": "version: 1\n" + ("registry: known.sqlite\n" if known else "")}
    repository.commit(policy | ({"known.sqlite": place / "known.sqlite"} if known else {}), "Set the policy")
    files = {f"m/{name}": place / model / name for name in ("model.safetensors", "config.json")}
    repository.branch("pr", files | {"m/README.md": card}, "Add a model")
    common = ["--repo", str(repository.path), "--base", "main", "--head", "pr", "--format", "json", "--quiet"]
    _, out, err = run(capsys, "audit", *common)
    assert out, err
    document = json.loads(out)
    (finding,) = [finding for finding in document["findings"] if finding["rule"] == "activations-base-mismatch"]
    return finding, document


@pytest.mark.parametrize(("model", "status"), [("child", "ok"), ("stranger", "found"), ("shallow", "unknown")])
def test_a_gated_base_is_judged_by_what_the_registry_holds(
    capsys: pytest.CaptureFixture[str], place: Path, hub: HubServer, tmp_path: Path, model: str, status: str
) -> None:
    finding, document = audited(capsys, place, tmp_path, model)
    assert finding["status"] == status, finding
    if status == "unknown":
        assert "and by the registry: different architecture" in finding["why"]
        return
    assert finding["numbers"]["method"].startswith("activation-fingerprint-1:")
    assert document["models"][0]["activations"]["notes"][0] == "the registry's entry lab/gated"


def test_without_the_registry_or_the_entry_it_stays_unknown(
    capsys: pytest.CaptureFixture[str], place: Path, hub: HubServer, tmp_path: Path
) -> None:
    finding, _ = audited(capsys, place, tmp_path / "one", "child", known=False)
    assert finding["status"] == "unknown"
    assert "registry" not in finding["why"]
    finding, _ = audited(capsys, place, tmp_path / "two", "child", card=CARD.replace("lab/gated", "lab/other"))
    assert finding["status"] == "unknown"
    assert "holds no activation fingerprint of 'lab/other'" in finding["why"]
