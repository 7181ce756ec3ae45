"""The command line and the audit run checkpoints on held-out text: a teacher stands out, strangers do not, and what is missing is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.hub_server import HubServer
from demo.repository import Repository
from modelguard.activations.held_out import documents
from modelguard.activations.model import Model
from modelguard.activations.teaching import teaching
from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.opening import find_entry, open_checkpoint
from modelguard.cli import main
from modelguard.types.evals import TeacherEvidence
from modelguard.types.findings import Missing

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = 400
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": WORDS}


def tokenizer(place: Path, offset: int = 0) -> None:
    vocabulary = {f"w{number}": (number + offset) % WORDS for number in range(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="w0"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save(str(place / "tokenizer.json"))


def model(place: Path, seed: int, *, teacher: int | None = None, offset: int = 0, **more: Any) -> Path:
    """A network with weights of its own, or close to those of its teacher: what it predicts is then close too."""
    config = transformers.AutoConfig.for_model("llama", **(SIZES | more), bos_token_id=None, eos_token_id=None)
    config.initializer_range = 0.08
    torch.manual_seed(seed if teacher is None else teacher)
    network = transformers.AutoModelForCausalLM.from_config(config)
    if teacher is not None:
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
    network.save_pretrained(place)
    tokenizer(place, offset)
    return place


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of two kinds, a teacher with a student, other candidates, and controls."""
    place = tmp_path_factory.mktemp("teaching")
    rng = np.random.default_rng(0)
    for number in range(16):
        (place / "texts" / f"kind{number % 2}").mkdir(parents=True, exist_ok=True)
        words = " ".join(f"w{word}" for word in rng.integers(0, WORDS, 200))
        (place / "texts" / f"kind{number % 2}" / f"{number}.txt").write_text(words)
    for seed in range(1, 7):
        model(place / f"m{seed}", seed)
    model(place / "student", 50, teacher=1)
    return place


def command(world: Path, left: str, right: str, *more: str) -> list[str]:
    controls = [word for name in ("m4", "m5", "m6") for word in ("--control", str(world / name))]
    texts = ["--text", str(world / "texts")]
    return ["compare", str(world / left), str(world / right), "--depth", "header", "--activations", *controls, *texts, *more]


def held(place: Path) -> Model:
    folder = LocalFolder(place, place.name)
    return Model(name=place.name, folder=folder, checkpoint=open_checkpoint(folder, find_entry(folder)))


def evidence(world: Path, suspect: Path, candidates: list[Path], controls: list[Path]) -> TeacherEvidence | Missing:
    files = {str(path): path.read_bytes() for path in sorted((world / "texts").rglob("*.txt"))}
    return teaching(held(suspect), [held(one) for one in candidates], [held(one) for one in controls], texts=documents(files))


@pytest.mark.slow
def test_the_command_finds_the_teacher_among_candidates(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = command(world, "student", "m1", "--candidate", str(world / "m2"), "--candidate", str(world / "m3"))
    assert main([*arguments, "--format", "json"]) == 0
    first = json.loads(capsys.readouterr().out)
    told = {Path(one["candidate"]).name: one["measures"][0]["value"] for one in first["teacher"]["likenesses"]}
    assert max(told, key=lambda name: told[name]) == "m1"
    found = [one for one in first["findings"] if one["status"] == "found"]
    assert [(one["rule"], one["severity"], str(world / "m1") in one["text"]) for one in found] == [
        ("behaviour-undeclared-teacher", "low", True)
    ]
    assert first["teacher"]["source"].startswith("log-probabilities of next tokens on held-out text (texts-")
    assert main([*arguments, "--format", "json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert {**first, "run": None} == {**second, "run": None}
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "behaviour-undeclared-teacher" in shown
    assert "●" in shown
    assert main([*arguments, "--format", "html"]) == 0
    assert "unusually close" in capsys.readouterr().out


@pytest.mark.slow
def test_a_stranger_is_not_accused(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(world, "m2", "m1", "--format", "json")) == 0
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["status"] == "ok"


def test_without_controls_it_is_unknown_and_says_why(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", str(world / "student"), str(world / "m1"), "--depth", "header", "--activations", "--format", "json"]
    assert main(arguments) == 0
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["status"] == "unknown"
    assert "learned from the same data make the same mistakes" in finding["why"]
    assert main(["compare", str(world / "student"), str(world / "m1"), "--text", str(world / "texts")]) == 3
    assert "--activations" in capsys.readouterr().err


def test_who_writes_in_other_tokens_is_left_out(world: Path, tmp_path: Path) -> None:
    other = model(tmp_path / "other", 9, offset=7)
    found = evidence(world, world / "student", [world / "m1", other], [world / "m4", world / "m5", world / "m6"])
    assert isinstance(found, TeacherEvidence)
    by_name = {one.candidate: one for one in found.likenesses}
    assert by_name["m1"].close
    assert by_name["other"].open == "writes the texts in other tokens than the control models do"
    assert found.notes == ("other was left out: writes the texts in other tokens than the control models do",)
    alien = evidence(world, other, [world / "m1"], [world / "m4", world / "m5"])
    assert isinstance(alien, Missing)
    assert alien.why == "other: writes the texts in other tokens than the control models do"


def test_a_model_without_a_tokenizer_is_read_with_the_controls(world: Path, tmp_path: Path) -> None:
    bare = model(tmp_path / "student", 50, teacher=1)
    (bare / "tokenizer.json").unlink()
    found = evidence(world, bare, [world / "m1"], [world / "m4", world / "m5", world / "m6"])
    assert isinstance(found, TeacherEvidence)
    assert found.likenesses[0].close


@pytest.mark.parametrize("breakage", ["nothing predicts", "not a number", "no configuration", "hostile tokenizer"])
def test_a_broken_control_is_left_out_with_the_reason(breakage: str, world: Path, tmp_path: Path) -> None:
    broken = model(tmp_path / "broken", 8)
    if breakage == "no configuration":
        (broken / "config.json").unlink()
    elif breakage == "hostile tokenizer":
        (broken / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "no such"}}')
    else:
        network = transformers.AutoModelForCausalLM.from_pretrained(broken)
        if breakage == "not a number":
            torch.nn.init.constant_(network.lm_head.weight, float("nan"))
            network.save_pretrained(broken)
        else:
            network.model.save_pretrained(broken)
    found = evidence(world, world / "student", [world / "m1"], [broken, world / "m4", world / "m5", world / "m6"])
    assert isinstance(found, TeacherEvidence)
    kept = {"m4", "m5", "m6"} | ({"broken"} if breakage == "hostile tokenizer" else set())
    assert set(found.controls) == kept  # a model whose tokenizer cannot be run is read with the controls'
    assert found.likenesses[0].close


def test_a_broken_suspect_is_no_evidence(world: Path, tmp_path: Path) -> None:
    broken = model(tmp_path / "broken", 8, teacher=1)
    network = transformers.AutoModelForCausalLM.from_pretrained(broken)
    torch.nn.init.constant_(network.lm_head.weight, float("inf"))
    network.save_pretrained(broken)
    found = evidence(world, broken, [world / "m1"], [world / "m4", world / "m5"])
    assert isinstance(found, TeacherEvidence)
    assert all(one.open and not one.close for one in found.likenesses)
    (broken / "config.json").write_text(json.dumps(SIZES | {"model_type": "llama", "num_hidden_layers": 10**9}))
    found = evidence(world, broken, [world / "m1"], [world / "m4", world / "m5"])
    assert isinstance(found, Missing)
    assert "not a setting that a network is run with" in found.why


POLICY = """version: 1
behaviour:
  references: [hf:lab/m1, hf:lab/m2]
  controls: [hf:lab/m4, hf:lab/m5, hf:lab/m6]
  texts: [texts/*]
"""


@pytest.fixture
def repository(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """A model repository whose policy names candidates, controls and texts, and a hub that serves them."""
    with HubServer({f"lab/m{seed}": world / f"m{seed}" for seed in range(1, 7)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        made = Repository(tmp_path / "repository")
        texts = {f"texts/{path.parent.name}/{path.name}": path for path in sorted((world / "texts").rglob("*.txt"))}
        made.commit({".modelguard.yml": POLICY, **texts}, "Name candidates and controls")
        yield made


def audited(repository: Repository, files: dict[str, str | Path], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The rule's finding, the gravest first, of a pull request that adds a model."""
    repository.branch("pr", files, "Add a model")
    main(["audit", "--repo", str(repository.path), "--base", "main", "--head", "pr", "--format", "json"])
    document = json.loads(capsys.readouterr().out)
    findings = [one for one in document["findings"] if one["rule"] == "behaviour-undeclared-teacher"]
    return max(findings, key=lambda one: one["status"] == "found")


def files_of(place: Path, card: str) -> dict[str, str | Path]:
    return {f"m/{path.name}": path for path in place.iterdir() if path.name != "README.md"} | {"m/README.md": card}


CARD = "---\nbase_model: {}\n---\n# A model\n"


@pytest.mark.slow
def test_the_audit_names_an_undeclared_teacher(world: Path, repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    finding = audited(repository, files_of(world / "student", CARD.format("lab/m2")), capsys)
    assert (finding["status"], finding["severity"]) == ("found", "low")
    assert "hf:lab/m1, which no card declares" in finding["text"]


@pytest.mark.slow
def test_the_audit_is_content_with_a_declared_teacher(world: Path, repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    assert audited(repository, files_of(world / "student", CARD.format("lab/m1")), capsys)["status"] == "ok"


def test_the_audit_says_what_controls_are_for(world: Path, repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    repository.git("checkout", "--quiet", "main")
    repository.commit({".modelguard.yml": POLICY.replace("hf:lab/m4, hf:lab/m5, hf:lab/m6", "hf:lab/m4")}, "One control")
    finding = audited(repository, files_of(world / "student", CARD.format("lab/m1")), capsys)
    assert finding["status"] == "unknown"
    assert "learned from the same data make the same mistakes" in finding["why"]


def test_a_reference_that_cannot_be_had_is_no_finding(world: Path, repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    repository.git("checkout", "--quiet", "main")
    repository.commit({".modelguard.yml": POLICY.replace("hf:lab/m2", "hf:lab/gone")}, "Name what is not there")
    finding = audited(repository, files_of(world / "student", CARD.format("lab/m1")), capsys)
    assert finding["status"] == "unknown"
    assert "gone" in finding["why"]
