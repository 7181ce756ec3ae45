"""`BASE+ADAPTER` on the command line: every kind of reference on either side, paths that hold a `+`, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from demo.hub_server import HubServer
from modelguard.adapted import AdapterOnBase
from modelguard.cli import main
from modelguard.errors import BadRequest, CannotRead, ModelguardError
from modelguard.references import Reach, open_reference
from tests.repositories import Repository
from tests.servers.files import Files, file_server
from tests.weights import content_of, encode, opened, random, write

MODULE = "model.layers.0.mlp.up_proj"
SHAPES = {f"{MODULE}.weight": (32, 8), "lm_head.weight": (50, 8), "model.norm.weight": (8,)}
BASE = random(0, SHAPES)
rng = np.random.default_rng(1)
FACTORS = {
    f"base_model.model.{MODULE}.lora_A.weight": rng.integers(-4, 5, (2, 8)).astype(np.float32),
    f"base_model.model.{MODULE}.lora_B.weight": rng.integers(-4, 5, (32, 2)).astype(np.float32),
}
UP = f"base_model.model.{MODULE}.lora_"
SUM = BASE | {f"{MODULE}.weight": BASE[f"{MODULE}.weight"] + 2 * FACTORS[f"{UP}B.weight"] @ FACTORS[f"{UP}A.weight"]}
SETTINGS = json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "lab/base"}).encode()
OF_BASE = {"model.safetensors": encode(BASE), "config.json": b'{"model_type": "llama"}', "README.md": b"of the base"}
OF_ADAPTER = {"adapter_model.safetensors": encode(FACTORS), "adapter_config.json": SETTINGS}


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return content_of(opened(tmp_path / "expected", encode(SUM)))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to stand in, with a base, an adapter, and names that hold the sign."""
    for name in ("base", "a+b", "c++/base"):
        write(tmp_path / "here" / name, OF_BASE)
    for name in ("adapter", "x+y"):
        write(tmp_path / "here" / name, OF_ADAPTER)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize(
    "text", ["base+adapter", "base/model.safetensors+adapter/", "./base+x+y", "a+b+adapter", "a+b+x+y", "c++/base+adapter"]
)
def test_directories_and_files(text: str, place: Path, expected: object) -> None:
    folder, checkpoint = open_reference(text, Reach())
    assert content_of(checkpoint) == expected
    assert isinstance(folder, AdapterOnBase)
    assert "+" in checkpoint.ref
    assert checkpoint.digest is None


@pytest.mark.parametrize("text", ["a+b", "c++/base", "c++/base/model.safetensors", "./a+b/"])
def test_a_path_with_the_sign_is_a_path(text: str, place: Path) -> None:
    _, checkpoint = open_reference(text, Reach())
    assert content_of(checkpoint) == content_of(open_reference("base", Reach())[1])


def test_the_folder_is_the_adapters_with_the_base_s_network(place: Path) -> None:
    write(place / "base", {"trainer_state.json": b"{}", "tokenizer.json": b"{}"})
    folder, _ = open_reference("base+adapter", Reach())
    assert set(folder.sizes) == {"config.json", "tokenizer.json", *OF_ADAPTER}
    assert folder.open("config.json").size == len(OF_BASE["config.json"])
    with pytest.raises(CannotRead, match=r"README\.md"):
        folder.open("README.md")


@pytest.mark.parametrize(
    "text", [f"{left}+{right}" for left in ("git:v1:base", "git:HEAD~1:o+k", "base") for right in ("git:HEAD:adapter", "adapter")]
)
def test_sides_in_a_commit(text: str, place: Path, expected: object) -> None:
    repository = Repository(place.parent / "repo")
    repository.commit({f"{folder}/{name}": content for folder in ("base", "o+k") for name, content in OF_BASE.items()})
    repository.git("tag", "v1")
    repository.commit({f"adapter/{name}": content for name, content in OF_ADAPTER.items()})
    assert content_of(open_reference(text, Reach(repo=repository.path))[1]) == expected


@pytest.fixture
def hub(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer({"lab/base": place / "base", "lab/adapter": place / "adapter"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(place.parent / "cache"))
        yield server


@pytest.mark.parametrize("text", ["hf:lab/base+hf:lab/adapter", "hf:lab/base@main+adapter", "base+hf:lab/adapter@main"])
def test_sides_on_the_hub(text: str, hub: HubServer, expected: object) -> None:
    assert content_of(open_reference(text, Reach())[1]) == expected


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    with file_server() as files:
        files.content |= {f"/b+c/{name}": content for name, content in OF_BASE.items()}
        files.content |= {f"/adapter/{name}": content for name, content in OF_ADAPTER.items()}
        monkeypatch.setenv("MODELGUARD_TRUSTED_ORIGINS", files.url)
        yield files


def test_sides_on_the_web(server: Files, place: Path, expected: object) -> None:
    base = f"{server.url}/b+c/model.safetensors"
    assert content_of(open_reference(base, Reach())[1]) == content_of(open_reference("base", Reach())[1])
    assert content_of(open_reference(f"{base}+adapter", Reach())[1]) == expected
    assert content_of(open_reference(f"base+{server.url}/adapter/adapter_model.safetensors", Reach())[1]) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base+absent", "'absent' is not"),
        ("absent+adapter", "'absent' is not"),
        ("base+", "'' is not"),
        ("+adapter", "'' is not"),
        ("no+where", "'no' is not"),
        ("base+lab/adapter", "'lab/adapter' is not"),
        ("base+adapter+adapter", "is not"),
        ("base+registry:name", "'registry:name' is not"),
        ("base+git:HEAD:adapter", "is not"),
        ("hf:a b+adapter", "'hf:a b' is not"),
        ("base+\x1b[31m\n", "\\\\x1b"),
        ("base+base", "no adapter"),
        ("adapter+base", "no adapter"),
        ("adapter+adapter", "no one matrix"),
        ("base+" + "x" * 5000, "is not"),
    ],
)
def test_what_is_refused(text: str, said: str, place: Path) -> None:
    with pytest.raises(CannotRead, match=said) as caught:
        open_reference(text, Reach())
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600
    assert caught.value.advice


def test_two_ways_to_read_it_are_refused(place: Path) -> None:
    write(place / "base+x", OF_BASE)
    write(place / "y", OF_ADAPTER)
    with pytest.raises(BadRequest, match="2 ways"):
        open_reference("base+x+y", Reach())


def test_an_adapter_without_its_settings_or_of_another_shape(place: Path) -> None:
    write(place / "bare", {"adapter_model.safetensors": OF_ADAPTER["adapter_model.safetensors"]})
    write(place / "narrow", {"model.safetensors": encode(random(0, SHAPES | {f"{MODULE}.weight": (32, 4)}))})
    for text, said in (("base+bare", r"adapter_config\.json"), ("narrow+adapter", "do not fit")):
        with pytest.raises(ModelguardError, match=said):
            open_reference(text, Reach())


def compared(capsys: pytest.CaptureFixture[str], left: str, right: str) -> tuple[int, dict[str, object]]:
    code = main(["compare", left, right, "--quiet", "--format", "json"])
    return code, json.loads(capsys.readouterr().out)


def test_compare_takes_it_on_either_side(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(place / "merged", {"model.safetensors": encode(SUM)})
    for sides in (("base+adapter", "merged"), ("merged", "base+adapter"), ("base+adapter", "base+adapter")):
        code, document = compared(capsys, *sides)
        assert (code, document["relation"]) == (0, "identical"), sides
    code, document = compared(capsys, "base+adapter", "base")
    assert (code, document["relation"] == "identical") == (0, False)


def test_refusals_are_one_line_of_the_command(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "base+absent", "base", "--quiet"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "absent" in captured.err


def test_help_tells_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "BASE+ADAPTER" in capsys.readouterr().out
