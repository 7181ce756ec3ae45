"""An organisation's commands on real repositories: one sweep with trends, a policy tried out, a ruleset as GitHub describes it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from modelguard.cli import main
from modelguard.types.findings import Verdict
from modelguard.types.sweep import Sweep, Swept
from tests.repositories import Content, Repository
from tests.requirement import require
from tests.servers.github_files import FilesServer
from tests.test_weakening import CARD, GAP, ONLY_LOGS, log

HONEST: dict[str, Content] = {**GAP, "m/trainer_state.json": log(whole=True)}
POLICY = ".modelguard.yml"
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str]:
        code = main(["org", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


@pytest.fixture
def clones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of clones: an honest repository, one whose log has a hole, one without models, one without commits."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "somebody@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    Repository(tmp_path / "clones/honest").commit({**HONEST, POLICY: ONLY_LOGS.encode()})
    Repository(tmp_path / "clones/gap").commit({**GAP, POLICY: ONLY_LOGS.encode()})
    Repository(tmp_path / "clones/plain").commit({"README.md": CARD, POLICY: b"version: 1\n"})
    Repository(tmp_path / "clones/empty")
    return tmp_path / "clones"


def rows(text: str) -> dict[str, dict[str, Any]]:
    return {row["repository"]: row for row in json.loads(text)["repositories"]}


def test_a_sweep_says_what_each_default_branch_comes_to(run: Run, clones: Path, tmp_path: Path) -> None:
    code, text = run("audit", clones, "--format", "json", "--out", tmp_path / "out")
    found = rows(text)
    assert code == 1
    assert {name: row["verdict"] for name, row in found.items()} == {
        "empty": "cannot-determine",
        "gap": "inconsistent",
        "honest": "consistent",
        "plain": "consistent",
    }
    assert [model["subject"] for model in found["gap"]["models"]] == ["m/model.safetensors"]
    assert "log-gap" in found["gap"]["models"][0]["rules"]
    assert "no commit" in found["empty"]["why"]
    assert {row["trend"] for row in found.values()} == {"new"}
    assert json.loads((tmp_path / "out/sweep.json").read_text()) == json.loads(text)
    assert "4 repositories: 1 inconsistent, 1 cannot determine, 2 consistent" in (tmp_path / "out/sweep.md").read_text()
    page = (tmp_path / "out/sweep.html").read_text()
    assert "<td>gap</td>" in page
    assert "script" not in page.replace("default-src", "")


def test_a_sweep_shows_how_verdicts_moved(run: Run, clones: Path, tmp_path: Path) -> None:
    run("audit", clones, "--out", tmp_path / "out")
    Repository(clones / "honest").commit({"m/trainer_state.json": log(whole=False)})
    Repository(clones / "gap").commit({"m/trainer_state.json": log(whole=True)})
    (clones / "plain").rename(clones / "moved")
    previous = tmp_path / "out/sweep.json"
    code, text = run("audit", clones, "--previous", previous, "--format", "json")
    trends = {name: row["trend"] for name, row in rows(text).items()}
    assert trends == {"empty": "unchanged", "gap": "was inconsistent", "honest": "was consistent", "moved": "new"}
    assert (code, json.loads(text)["gone"]) == (1, ["plain"])
    assert "| was consistent |" in run("audit", clones, "--previous", previous)[1].replace("`", "")
    (tmp_path / "other.json").write_text("{}")
    assert run("audit", clones, "--previous", tmp_path / "other.json")[0] == 3


def test_a_sweep_stands_under_the_organisations_policy(run: Run, clones: Path, tmp_path: Path) -> None:
    above = tmp_path / "above.yml"
    above.write_text(ONLY_LOGS + "  log-gap: {severity: low}\n")
    _, text = run("audit", clones / "gap", "--policy", above, "--format", "json")
    assert rows(text)["gap"]["verdict"] == "consistent"
    assert rows(text)["gap"]["found"] >= 1
    assert run("audit", tmp_path / "none")[0] == 3


def test_a_stranger_cannot_speak_through_the_page() -> None:
    from modelguard.render import sweep as render

    hostile = "a<script>alert(1)</script>|b\n::error::x"
    row = Swept(repository=hostile, commit="", verdict=Verdict.CONSISTENT, models=(), found=0, undecided=0, notes=(hostile,), why=hostile)
    sweep = Sweep(rows=(row,), gone=(hostile,), policy="", version="1")
    assert "<script" not in render.page(sweep)
    assert "<script" not in render.as_markdown(sweep).replace("`", "")
    assert not [line for line in render.as_markdown(sweep).splitlines() if line.startswith("::")]


def test_a_policy_is_tried_on_clones(run: Run, clones: Path, tmp_path: Path) -> None:
    proposed = tmp_path / "proposed.yml"
    proposed.write_text("version: 1\nblock: {severity: medium}\n")
    Repository(clones / "honest").commit({POLICY: b"version: 1\nblock: {severity: low}\n"})
    Repository(clones / "plain").commit({POLICY: b"version: 1\nblok: 1\n"})
    code, text = run("policy", "check", proposed, clones, "--format", "json")
    found = rows(text)
    assert {name: row["answer"] for name, row in found.items()} == {
        "empty": "unread",
        "gap": "refused",
        "honest": "unchanged",
        "plain": "not understood",
    }
    assert code == 1
    assert any("rules.weights-base-mismatch.enabled to false: refused" in line for line in found["gap"]["details"])
    assert "blok" in found["plain"]["details"][0]
    assert run("policy", "check", proposed, clones / "honest")[0] == 0
    proposed.write_text("version: 1\nrules: {no-such-rule: {enabled: false}}\n")
    assert run("policy", "check", proposed, clones / "honest")[0] == 3
    assert run("policy", "check", tmp_path / "none.yml", clones / "honest")[0] == 3
    assert run("policy", "check", proposed)[0] == 3


def test_a_change_of_policy_is_shown_against_the_current_one(run: Run, clones: Path, tmp_path: Path) -> None:
    current, proposed = tmp_path / "current.yml", tmp_path / "proposed.yml"
    current.write_text("version: 1\n")
    proposed.write_text("version: 1\nrequire: [log]\n")
    _, text = run("policy", "check", proposed, clones / "plain", "--current", current, "--format", "json")
    assert (rows(text)["plain"]["answer"], rows(text)["plain"]["details"]) == ("changed", ['require: [] becomes ["log"]'])


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[FilesServer]:
    monkeypatch.setenv("GITHUB_TOKEN", "a-token")
    with FilesServer(page=2) as server:
        monkeypatch.setenv("GITHUB_API_URL", server.url)
        yield server


def test_a_policy_is_tried_on_an_organisation_through_the_interface(run: Run, github: FilesServer, tmp_path: Path) -> None:
    proposed = tmp_path / "proposed.yml"
    proposed.write_text("version: 1\nblock: {severity: medium}\n")
    github.put("acme/a", {POLICY: b"version: 1\nblock: {severity: high, confidence: high}\n"})
    github.put("acme/b", {"README.md": b""})
    github.put("acme/c", {POLICY: b"version: 1\nblock: {severity: low}\n"})
    code, text = run("policy", "check", proposed, "--organisation", "acme", "--settings-only", "--format", "json")
    assert code == 1
    answers = {name: (row["answer"], len(row["details"])) for name, row in rows(text).items()}
    assert answers == {"acme/a": ("refused", 3), "acme/b": ("changed", 1), "acme/c": ("unchanged", 0)}
    github.refuse("GET", 403, path="acme/b")
    _, text = run("policy", "check", proposed, "--organisation", "acme", "--settings-only", "--format", "json")
    assert rows(text)["acme/b"]["answer"] == "unread"
    github.refuse("GET", 500, path="orgs")
    assert run("policy", "check", proposed, "--organisation", "acme")[0] == 2


def test_the_ruleset_and_its_workflow_belong_together(run: Run) -> None:
    place = "acme/.github//modelguard.yml@main"
    code, text = run("rulesets", "--repository-id", 7, "--only", "workflow", "--policy", place, "--uses", "acme/modelguard@" + "a" * 40)
    assert code == 0
    workflow = yaml.load(text, Loader=yaml.BaseLoader)
    assert workflow["on"] == {"pull_request": "", "merge_group": ""}
    assert list(workflow["jobs"]) == ["modelguard"]
    assert workflow["jobs"]["modelguard"]["name"] == "modelguard"
    assert not {"concurrency"} & ({*workflow} | {*workflow["jobs"]["modelguard"]})
    (action,) = workflow["jobs"]["modelguard"]["steps"]
    assert action == {"uses": "acme/modelguard@" + "a" * 40, "with": {"github-token": "${{ github.token }}", "policy": place}}
    known = set(yaml.safe_load((Path(__file__).parents[1] / "action.yml").read_text())["inputs"])
    assert set(action["with"]) <= known
    _, text = run("rulesets", "--repository-id", 7, "--only", "ruleset")
    ruleset = json.loads(text)
    assert (ruleset["enforcement"], ruleset["rules"][0]["parameters"]["workflows"][0]["repository_id"]) == ("evaluate", 7)
    assert run("rulesets", "--repository-id", 7, "--uses", "x")[0] == 3
    assert run("rulesets", "--repository-id", 7, "--policy", "x")[0] == 3


PINNED = ("--uses", f"acme/modelguard@{'a' * 40}")
NPM = Path(os.environ.get("MODELGUARD_NPM") or Path.home() / ".cache/modelguard-tests/npm")


def test_github_would_take_the_ruleset(run: Run) -> None:
    described = NPM / "node_modules/@octokit/openapi/generated/api.github.com.deref.json"
    require("openapi", described.is_file(), "npm install @octokit/openapi below MODELGUARD_NPM")
    operation = json.loads(described.read_bytes())["paths"]["/orgs/{org}/rulesets"]["post"]
    validator = jsonschema.Draft202012Validator(operation["requestBody"]["content"]["application/json"]["schema"])
    ruleset = json.loads(run("rulesets", "--repository-id", 7, "--only", "ruleset", "--enforcement", "active")[1])
    assert not list(validator.iter_errors(ruleset))
    del ruleset["rules"][0]["parameters"]["workflows"][0]["repository_id"]
    assert list(validator.iter_errors(ruleset))


def test_zizmor_finds_nothing_in_the_workflow(run: Run, tmp_path: Path) -> None:
    program = shutil.which("zizmor") or shutil.which("zizmor", path=str(Path(sys.executable).parent))
    require("zizmor", program, "pip install zizmor")
    assert program is not None
    place = tmp_path / ".github/workflows/modelguard.yml"
    place.parent.mkdir(parents=True)
    place.write_text(run("rulesets", "--repository-id", 7, "--only", "workflow", *PINNED)[1])
    done = subprocess.run((program, "--offline", "--pedantic", str(place)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    place.write_text(run("rulesets", "--repository-id", 7, "--only", "workflow")[1])
    done = subprocess.run((program, "--offline", "--pedantic", str(place)), capture_output=True, text=True, check=False)
    assert "unpinned-uses" in done.stdout
