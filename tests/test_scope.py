"""What a workflow asks for beside policy (`models`, `base-model`, `hf-token`, `disclose`): it tightens, and what it leaves out is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save, save_file

from demo.hub_server import HubServer
from modelguard import action
from modelguard.cli import main
from modelguard.errors import BadRequest, ExitCode
from modelguard.policy import default, parse
from modelguard.references import Reach, open_reference
from modelguard.registry.opening import open_registry
from modelguard.scope import held_to
from modelguard.sketches.sketch import fingerprint
from modelguard.types.registry import Entry
from tests.fingerprint.zoo import model
from tests.servers import runner
from tests.servers.github import GitHubServer
from tests.test_action import TOKEN, Job, commit, git, weights

SECRET = "hf_" + "s3cr3t" * 5
PARENT = "acme/hidden-parent"


def card(name: str) -> bytes:
    return f"---\nbase_model: {name}\n---\n".encode()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hub")
    for name, seed in {"base": 0, "other": 1}.items():
        (root / name).mkdir()
        save_file(model(seed), root / name / "model.safetensors")
    return {"base": root / "base", "other": root / "other"}


@pytest.fixture
def hub(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    served = {"lab/base": folders["base"], "lab/other": folders["other"], "lab/private": folders["other"]}
    with HubServer(served, tokens={"lab/private": SECRET}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with GitHubServer(token=TOKEN) as github:
        yield Job(tmp_path, github)


def subjects(document: dict[str, Any]) -> list[str]:
    return sorted(entry["subject"] for entry in document["models"])


def answer(document: dict[str, Any], rule: str) -> dict[str, Any]:
    return dict(next(finding for finding in document["findings"] if finding["rule"] == rule))


def test_models_names_what_is_looked_at_and_the_rest_is_said(job: Job) -> None:
    job.change({f"models/{name}.safetensors": weights(seed) for seed, name in enumerate("abc")})
    job.run()
    assert subjects(job.document) == ["models/a.safetensors", "models/b.safetensors", "models/c.safetensors"]
    assert not any("not looked at" in note for note in job.document["notes"])
    job.run(models="models/a*\n models/c.* \n")
    assert subjects(job.document) == ["models/a.safetensors", "models/c.safetensors"]
    assert job.document["notes"][0] == "1 changed model is outside of what `models` names, and not looked at: models/b.safetensors"
    assert "--models 'models/a*' --models 'models/c.*'" in job.document["reproduce"]


def test_a_change_outside_of_models_is_no_silent_pass(job: Job) -> None:
    job.base = commit(job.repo, {"models/chat/model.safetensors": weights(1)})
    job.change({"models/vision/model.safetensors": weights(2)})
    assert job.run(models="models/chat/**", comment="always") == 0
    assert job.document["models"] == []
    said = "1 changed model is outside of what `models` names, and not looked at: models/vision/model.safetensors"
    assert job.document["headline"] == said
    assert "not looked at" in job.github.comments(7)[0].body
    assert "no model files changed" not in job.document["notes"]


def test_globs_that_name_nothing_are_a_wrong_configuration(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    job.change({"models/a.safetensors": weights(1)})
    assert job.run(models="modles/**") == ExitCode.BAD_REQUEST
    (error,) = runner.run(capsys.readouterr().out)
    assert "modles/" in error.data


def test_base_model_pins_what_the_card_may_claim(job: Job, hub: HubServer) -> None:
    job.change({"m/model.safetensors": save(model(1)), "m/README.md": card("lab/other")})
    assert job.run() == 0
    assert answer(job.document, "weights-base-mismatch")["status"] == "ok"
    assert job.run(base_model=f"hf:lab/base@{hub.commit('lab/base')}") == 1
    assert answer(job.document, "weights-base-mismatch")["status"] == "found"
    assert job.run(base_model="lab/other") == 0
    settings = {setting["key"]: setting for setting in job.document["policy"]["settings"]}
    assert settings["models"]["origin"] == "base-model, of whoever runs this"
    assert "hf:lab/other" in settings["models"]["value"]
    assert "--base-model hf:lab/other" in job.document["reproduce"]


@pytest.mark.parametrize("moved", [False, True])
def test_base_model_changes_no_pin_of_a_policy(job: Job, hub: HubServer, moved: bool) -> None:
    """A pull request that edits the workflow, too, stays held to the base that the base commit's policy names."""
    policy = b"version: 1\nmodels: [{path: 'm/**', base: hf:lab/base}]\n"
    job.base = commit(job.repo, {".modelguard.yml": policy, "m/model.safetensors": save(model(0)), "m/README.md": card("lab/base")})
    if moved:
        git(job.repo, "rm", "--quiet", "-r", "m")
    where = "n" if moved else "m"
    job.change({f"{where}/model.safetensors": save(model(1)), f"{where}/README.md": card("lab/other")})
    assert job.run(base_model="lab/other") == 1
    assert answer(job.document, "weights-base-mismatch")["status"] == "found"
    said = f"{where}/model.safetensors: policy pins hf:lab/base, so that base-model hf:lab/other has no say"
    assert said in job.document["notes"]


def test_an_entry_without_a_base_is_no_way_around_the_pin() -> None:
    rules = parse(b"version: 1\nmodels: [{path: 'm/**'}, {path: 'n/**', base: hf:lab/n}]\n", "policy.yml")
    held = held_to(rules, "hf:lab/base")
    assert [held.base_of(path) for path in ("m/x", "n/x", "o/x")] == ["hf:lab/base", "hf:lab/n", "hf:lab/base"]
    assert held.digest != rules.digest
    assert held.origin_of("models") == "policy.yml + base-model, of whoever runs this"
    assert held_to(rules, None) is rules
    assert default().base_of("o/x") is None


@pytest.mark.parametrize("text", ["https://example.org/x", "../x", "a b", "lab/base@../x", "hf:"])
def test_a_base_that_names_no_model_is_a_wrong_configuration(text: str) -> None:
    with pytest.raises(BadRequest, match="base-model"):
        action.read_inputs({"INPUT_BASE-MODEL": text})
    assert action.read_inputs({"INPUT_BASE-MODEL": "hf:lab/base"}).base_model == "hf:lab/base"


def test_the_hubs_token_goes_with_a_base_that_the_operator_names(job: Job, hub: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    job.change({"m/model.safetensors": save(model(1)), "m/README.md": card("lab/private")})
    assert job.run(base_model="lab/private", hf_token=SECRET) == 0
    assert f"Bearer {SECRET}" in {asked.authorization for asked in hub.requests}
    written = capsys.readouterr().out + "".join(path.read_text() for path in (job.temp / "modelguard").iterdir())
    assert "s3cr3t" not in written + job.github.comments(7)[0].body
    assert "s3cr3t" not in repr(action.read_inputs({"INPUT_HF-TOKEN": SECRET}))


def test_it_goes_with_a_base_that_policy_pins(job: Job, hub: HubServer) -> None:
    job.base = commit(job.repo, {".modelguard.yml": b"version: 1\nmodels: [{path: 'm/**', base: hf:lab/private}]\n"})
    job.change({"m/model.safetensors": save(model(1)), "m/README.md": card("lab/private")})
    assert job.run() == 2  # anonymous
    assert job.run(hf_token=SECRET) == 0


def test_a_card_does_not_send_the_token_anywhere(job: Job, hub: HubServer) -> None:
    job.change({"m/model.safetensors": save(model(1)), "m/README.md": card("lab/private")})
    assert job.run(hf_token=SECRET) == 2
    assert {asked.authorization for asked in hub.requests} == {None}
    assert job.run(hf_token=SECRET, base_model="lab/base") == 1  # a named base beside it changes nothing for the card's
    assert not [asked for asked in hub.requests if asked.authorization and "private" in asked.path]


@pytest.fixture
def lie(job: Job, hub: HubServer, folders: dict[str, Path]) -> Path:
    """Weights of a model that the registry knows and the card does not name; the registry."""
    path = job.repo.parent / "known.sqlite"
    store = open_registry(str(path), create=True)
    store.add([Entry(name=PARENT, fingerprint=fingerprint(open_reference(str(folders["other"]), Reach())[1]))])
    store.close()
    job.change({"m/model.safetensors": save(model(1)), "m/README.md": card(f"lab/base@{hub.commit('lab/base')}")})
    return path


def everything_posted(job: Job, printed: str) -> str:
    """What everybody reads: log, summary, comment, threads, check."""
    github = job.github
    words = [printed, Path(job.environ["GITHUB_STEP_SUMMARY"]).read_text(), *(item.body for item in github.everything)]
    return "\n".join([*words, *(json.dumps([made.body, made.notes]) for made in github.checks)])


def test_an_undeclared_parent_is_named_where_the_workflow_allows_it(job: Job, lie: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.run(registry=str(lie), disclose="report", check="on") == 1
    assert answer(job.document, "weights-undeclared-base")["status"] == "found"
    assert PARENT in answer(job.document, "weights-undeclared-base")["text"]
    told = everything_posted(job, capsys.readouterr().out)
    assert len(job.github.threads(7)) == 2  # the base that is not supported, and the one that is not declared
    assert "hidden-parent" not in told
    assert told.count("a known model, which the report names,") >= 5
    for name in ("report.json", "report.html", "report.sarif", "report.md"):
        assert "hidden-parent" in (job.temp / "modelguard" / name).read_text(), name


def test_by_default_it_is_named_in_the_comment(job: Job, lie: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.run(registry=str(lie)) == 1
    assert "hidden-parent" in job.github.comments(7)[0].body
    assert "hidden-parent" in everything_posted(job, capsys.readouterr().out)
    assert "which the report names" not in job.github.comments(7)[0].body


def test_the_command_line_takes_the_same(
    job: Job, hub: HubServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    head = job.change({"m/model.safetensors": save(model(1)), "m/README.md": card("lab/private"), "n/model.safetensors": weights(1)})
    where = ["audit", "--repo", str(job.repo), "--base", job.base, "--head", head, "--quiet", "--activations", "off", "--format", "json"]
    monkeypatch.setenv("MODELGUARD_HUB_TOKEN", SECRET)
    assert main([*where, "--models", "m/*"]) == 2
    capsys.readouterr()
    assert main([*where, "--models", "m/*", "--base-model", "lab/private"]) == 0
    assert subjects(json.loads(capsys.readouterr().out)) == ["m/model.safetensors"]
    assert main([*where, "--base-model", "/etc/passwd"]) == ExitCode.BAD_REQUEST
