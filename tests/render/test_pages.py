"""`compare`, `log` and `evals` as Markdown and as pages: read by GitHub's own renderer, with the pictures that the terminal shows."""

from __future__ import annotations

import json
from pathlib import Path

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options

from modelguard.cli import main
from tests.evals import building
from tests.fingerprint.zoo import model, tuned
from tests.registry.test_doors import saved
from tests.test_weakening import log

HOSTILE = "a|b`<script>alert(1)<"


def rendered(text: str) -> str:
    return cmarkgfm.github_flavored_markdown_to_html(text, Options.CMARK_OPT_UNSAFE)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    capsys.readouterr()
    code = main(list(map(str, arguments)))
    return code, capsys.readouterr().out


def test_a_comparison_as_markdown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    base, child = saved(tmp_path / "base", model(0)), saved(tmp_path / "child", tuned(model(0), seed=3))
    code, text = run(capsys, "compare", child, base, "--format", "markdown", "--quiet")
    page = rendered(text)
    assert code == 0
    assert "<h3>modelguard: derived" in page
    assert f"<td><code>{child}" in page
    assert page.count("<table>") >= 3
    assert "Exact tests" in page
    assert "could the tests have seen" in page
    assert "weights, layer by layer" in page
    assert run(capsys, "compare", child, base, "--format", "markdown", "--quiet")[1] == text


def test_names_of_strangers_stay_in_their_cells(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    base, child = saved(tmp_path / "base", model(0)), saved(tmp_path / HOSTILE, model(1))
    _, text = run(capsys, "compare", child, base, "--format", "markdown", "--quiet")
    page = rendered(text)
    assert "<script" not in page
    assert "alert(1)" in page
    logs = tmp_path / HOSTILE / "trainer_state.json"
    logs.write_bytes(log(whole=False))
    for form in ("markdown", "html"):
        _, text = run(capsys, "log", logs, "--format", form)
        assert "<script" not in (rendered(text) if form == "markdown" else text)


@pytest.mark.parametrize("whole", [True, False])
def test_a_log_as_markdown(capsys: pytest.CaptureFixture[str], tmp_path: Path, whole: bool) -> None:
    (tmp_path / "trainer_state.json").write_bytes(log(whole=whole))
    code, text = run(capsys, "log", tmp_path, "--format", "markdown")
    page = rendered(text)
    assert code == (0 if whole else 1)
    assert f"modelguard: {'consistent' if whole else 'inconsistent'} (training log)" in page
    assert ("<strong>log-gap</strong>" in page) == (not whole)
    assert "<td>log-gap" in page
    assert "<code>" in page.partition("<table>")[0]  # the timeline


@pytest.fixture
def evals(tmp_path: Path) -> Path:
    """The logs of a student, of its teacher, and of two controls, on one task."""
    made = {"teacher": building.answering(13), "student": building.answering(50, teacher=13)}
    made |= {f"control{seed}": building.answering(seed) for seed in (16, 17)}
    for name, listed in made.items():
        building.write(tmp_path / name, {"task": listed}, f"org/{name}")
    return tmp_path


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_evaluation_logs_in_every_form(capsys: pytest.CaptureFixture[str], evals: Path, form: str) -> None:
    references = ("--reference", evals / "teacher", "--control", evals / "control16", evals / "control17")
    code, text = run(capsys, "evals", evals / "student", *references, "--format", form)
    page = rendered(text) if form == "markdown" else text
    document = json.loads(run(capsys, "evals", evals / "student", *references, "--format", "json")[1])
    assert code in (0, 2)
    rules = {item["rule"] for item in document["findings"]}
    assert {"behaviour-undeclared-teacher", "evals-scores"} < rules
    assert not [rule for rule in rules if rule not in page]
    assert "org/teacher" in page
    assert "controls reach" in page  # the band


def llama(folder: Path, seed: int) -> Path:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    numbers = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 8, "vocab_size": 300, "intermediate_size": 96}
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model("llama", **numbers, bos_token_id=None, eos_token_id=None, initializer_range=0.2)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_activations_are_drawn_wherever_they_are_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    base = llama(tmp_path / "base", 0)
    for form in ("terminal", "markdown", "html"):
        _, text = run(capsys, "compare", base, base, "--activations", "--format", form, "--quiet")
        assert "activations, layer by layer" in text, form
        assert "hidden states at most 10^-" in text.replace("`", ""), form
        _, text = run(capsys, "compare", base, base, "--format", form, "--quiet")
        assert "activations, layer by layer" not in text, form


@pytest.mark.slow
def test_activations_that_could_not_be_had_are_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    base = saved(tmp_path / "base", model(0))
    for form in ("terminal", "markdown", "html"):
        code, text = run(capsys, "compare", base, base, "--activations", "--format", form, "--quiet")
        assert (code, "activations" in text, "layer by layer: cosine" in text) == (0, True, False)
