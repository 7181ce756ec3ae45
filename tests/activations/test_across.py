"""Networks of several architectures and tokenizers, run from real files and held against each other beside controls."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelguard.activations.across import compare_across
from modelguard.activations.extent import Extent
from modelguard.activations.model import Model
from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.checks.activations_across_architectures import check
from modelguard.cli import main
from modelguard.types.across import AcrossComparison
from modelguard.types.findings import Absence, Missing, Status
from tests.activations import tokenizers

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {
    "llama": {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4, "initializer_range": 0.2},
    "gpt2": {"n_embd": 48, "n_head": 4, "n_positions": 160, "initializer_range": 0.2},
    "bert": {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4, "initializer_range": 0.2},
}
DEPTH = {"llama": "num_hidden_layers", "gpt2": "n_layer", "bert": "num_hidden_layers"}
MADE = {"words": tokenizers.words, "syllables": tokenizers.syllables}


def network(place: Path, family: str, seed: int, *, layers: int = 2, tokenizer: str = "words") -> Model:
    """A network of those layers and weights, with its tokenizer, in a folder."""
    text = MADE[tokenizer]()
    numbers = SIZES[family] | {DEPTH[family]: layers, "vocab_size": tokenizers.size(text)}
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(family, **numbers, bos_token_id=None, eos_token_id=None)
    transformers.AutoModel.from_config(config).save_pretrained(place)
    (place / "tokenizer.json").write_text(text, encoding="utf-8")
    return member(place)


def member(place: Path) -> Model:
    folder = LocalFolder(place, place.name)
    return Model(name=place.name, folder=folder, checkpoint=open_safetensors(folder.open("model.safetensors")))


def shortened(whole: Model, target: Path, source: Path, layers: int) -> Model:
    """The first layers of a network: a derivative, of another architecture as its configuration says."""
    from safetensors.numpy import load_file, save_file

    target.mkdir()
    kept = {name: value for name, value in load_file(source / "model.safetensors").items() if not name.startswith(f"layers.{layers}.")}
    save_file(kept, target / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text()) | {"num_hidden_layers": layers}
    (target / "config.json").write_text(json.dumps(config))
    (target / "tokenizer.json").write_text((source / "tokenizer.json").read_text(encoding="utf-8"), encoding="utf-8")
    return member(target)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def base(place: Path) -> Model:
    return network(place / "base", "llama", 0, layers=3)


@pytest.fixture(scope="module")
def derived(place: Path, base: Model) -> Model:
    return shortened(base, place / "derived", place / "base", 2)


@pytest.fixture(scope="module")
def controls(place: Path) -> list[Model]:
    return [network(place / f"control {seed}", "llama", seed) for seed in range(10, 15)]


def held(left: Model, right: Model, controls: Sequence[Model], extent: Extent | None = None) -> AcrossComparison:
    made = compare_across(left, right, lambda: controls, extent or Extent())
    assert isinstance(made, AcrossComparison), made
    return made


def refused(left: Model, right: Model, controls: Callable[[], Sequence[Model]]) -> Missing:
    made = compare_across(left, right, controls)
    assert isinstance(made, Missing), made
    return made


def test_a_shortened_model_ranks_first_and_a_stranger_need_not(place: Path, base: Model, derived: Model, controls: list[Model]) -> None:
    made = held(derived, base, controls)
    assert [standing.rank for standing in made.standings] == [1, 1]
    assert made.standings[0].value == pytest.approx(1.0, abs=1e-3)
    assert made.map[0][0] == pytest.approx(1.0, abs=1e-3)
    assert max(made.standings[0].controls) < 0.5
    (claim,) = check(made)
    assert claim.status is Status.OK
    assert "not that one was made from the other" in claim.text
    strangers = [held(network(place / f"stranger {seed}", "llama", seed), base, controls) for seed in range(20, 22)]
    assert sum(one.first for one in strangers) < 2
    assert all(one.standings[0].value < 0.5 for one in strangers)
    answers = [next(check(one)).status for one in strangers]
    assert answers == [Status.OK if one.first else Status.UNKNOWN for one in strangers]


@pytest.mark.parametrize(("family", "tokenizer"), [("gpt2", "words"), ("gpt2", "syllables"), ("bert", "syllables"), ("llama", "syllables")])
def test_every_architecture_and_tokenizer_is_held_against_every_other(
    place: Path, base: Model, controls: list[Model], family: str, tokenizer: str
) -> None:
    left = network(place / f"{family} {tokenizer}", family, 30, tokenizer=tokenizer)
    made = held(left, base, controls[:2])
    assert (len(made.map), len(made.map[0])) == (2, 3)
    assert all(value is not None and abs(value) < 0.6 for row in made.map for value in row)
    assert made.method == f"across-1:probes-v1-257bb4ea:{made.strings}:{made.contrasts}"
    assert made.contrasts >= 40
    assert bool(made.notes) is (family != "llama")  # no control has the model's architecture
    (claim,) = check(made)
    assert claim.status is Status.UNKNOWN
    assert "too few" in claim.text


def test_the_same_comes_out_twice(base: Model, derived: Model, controls: list[Model]) -> None:
    assert held(derived, base, controls[:2]) == held(derived, base, controls[:2])


def test_the_first_layers_alone_are_run_and_said(base: Model, derived: Model, controls: list[Model]) -> None:
    made = held(derived, base, controls[:2], Extent(layers=1))
    assert (len(made.map), len(made.map[0])) == (1, 1)
    assert made.notes == ("the first 1 of 2 layers were run", "base: the first 1 of 3 layers were run")


def test_without_controls_nothing_is_said_and_why(base: Model, derived: Model, controls: list[Model]) -> None:
    for few in ([], controls[:1], [base, controls[0]]):
        missing = refused(derived, base, lambda few=few: few)  # type: ignore[misc]
        assert missing.kind is Absence.ABSENT
        assert "alike whoever made them" in missing.why
        assert "--control" in missing.advice


def test_one_architecture_and_tokenizer_is_left_to_the_exact_tests(place: Path, base: Model, controls: list[Model]) -> None:
    def unopened() -> Sequence[Model]:
        raise AssertionError("controls are opened where nothing needs them")

    missing = refused(controls[0], controls[1], unopened)
    assert missing.kind is Absence.INAPPLICABLE
    other = network(place / "other tokens", "llama", 31, tokenizer="syllables")
    assert isinstance(held(other, base, controls[:2]), AcrossComparison)


def broken(place: Path, source: Path, change: str) -> Model:
    """A control that cannot be run."""
    from safetensors.numpy import load_file, save_file

    place.mkdir()
    tensors = load_file(source / "model.safetensors")
    config = json.loads((source / "config.json").read_text())
    if change == "no tokenizer":
        (place / "config.json").write_text(json.dumps(config))
    else:
        (place / "tokenizer.json").write_text((source / "tokenizer.json").read_text(encoding="utf-8"), encoding="utf-8")
        (place / "config.json").write_text(json.dumps(config | ({"num_hidden_layers": 10**9} if change == "absurd" else {})))
    if change == "not a number":
        tensors = {name: np.full_like(value, np.nan) for name, value in tensors.items()}
    save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
    return member(place)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("no tokenizer", "no tokenizer.json"),
        ("not a number", "not finite"),
        ("absurd", "not a setting"),
    ],
)
def test_what_cannot_be_run_is_left_out_or_the_reason(
    place: Path, base: Model, derived: Model, controls: list[Model], change: str, why: str
) -> None:
    bad = broken(place / change, place / "control 10", change)
    made = held(derived, base, [*controls[1:3], bad])
    assert made.controls == ("control 11", "control 12")
    assert len(made.left_out) == 1
    assert made.left_out[0].startswith(f"{change}: ")
    assert why in made.left_out[0]
    assert why in refused(bad, base, lambda: controls).why
    assert why in refused(base, bad, lambda: controls).why
    few = refused(derived, base, lambda: [controls[1], bad])
    assert few.kind is Absence.ABSENT
    assert "alike whoever made them" in few.why


def test_constant_networks_say_nothing(place: Path, base: Model, controls: list[Model]) -> None:
    from safetensors.numpy import load_file, save_file

    still = place / "still"
    network(still, "llama", 40)
    save_file({name: np.zeros_like(value) for name, value in load_file(still / "model.safetensors").items()}, still / "model.safetensors")
    assert "do not differ" in refused(member(still), base, lambda: controls[:2]).why


def test_networks_for_images_are_not_compared(place: Path, base: Model, controls: list[Model]) -> None:
    config = transformers.AutoConfig.for_model(
        "vit", hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8
    )
    transformers.AutoModel.from_config(config).save_pretrained(place / "vit")
    assert "images" in refused(member(place / "vit"), base, lambda: controls).why


@pytest.mark.slow
@pytest.mark.parametrize("form", ["json", "terminal", "html"])
def test_the_command_shows_rank_map_and_limits(
    place: Path, base: Model, derived: Model, controls: list[Model], form: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    named = [word for one in controls[:2] for word in ("--control", str(place / one.name))]
    code = main(["compare", str(place / "derived"), str(place / "base"), "--activations", *named, "--quiet", "--format", form])
    told = capsys.readouterr().out
    assert code == 0
    if form == "json":
        across = json.loads(told)["across"]
        assert across["standings"][0]["measure"] == "debiased CKA"
        assert across["controls"] == [str(place / one.name) for one in controls[:2]]
        assert json.loads(told)["activations"]["unknown"].startswith("different architecture")
    else:
        assert "rank 1 of 3" in " ".join(told.split())
        assert "layer of the other network" in told
        assert "not that one was made from the other" in " ".join(told.split())
    assert ("<svg" in told) is (form == "html")


@pytest.mark.slow
def test_the_command_says_why_nothing_is_shown(place: Path, base: Model, derived: Model, capsys: pytest.CaptureFixture[str]) -> None:
    sides = [str(place / "derived"), str(place / "base")]
    assert main(["compare", *sides, "--activations", "--quiet"]) == 0
    assert "0 control models are named" in " ".join(capsys.readouterr().out.split())
    assert main(["compare", *sides, "--activations", "--quiet", "--format", "json"]) == 0
    assert "0 control models" in json.loads(capsys.readouterr().out)["across"]["unknown"]
