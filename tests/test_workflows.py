"""Every workflow that this repository has or shows: zizmor finds nothing in it, actions are pinned, and the self-test's plant works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from modelguard import action
from tests.repositories import Repository
from tests.requirement import require
from tests.servers import runner

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```ya?ml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PINNED = re.compile(r"(?:[\w.-]+/)+[\w.-]+@[0-9a-f]{40}")


def shown() -> dict[str, str]:
    """The workflows in the fences of the pages, by a file name."""
    fences = ((page.stem, text) for page in PAGES for text in FENCE.findall(page.read_text(encoding="utf-8")))
    return {f"{number}-{name}.yml": text for number, (name, text) in enumerate(fences) if "\njobs:" in text}


def everything() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in WORKFLOWS} | shown()


def test_there_are_workflows_to_look_at() -> None:
    assert {path.name for path in WORKFLOWS} >= {"release.yml", "selftest.yml"}
    assert len([name for name in shown() if "README" in name]) >= 1
    assert len([name for name in shown() if "forks" in name]) >= 2


def zizmor(folder: Path, *inputs: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("zizmor", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    require("zizmor", program, "pip install zizmor")
    command = (str(program), "--offline", "--persona=pedantic", "--no-progress", "--strict-collection", "--format", "json")
    config = ("--config", str(ROOT / ".github/zizmor.yml"))
    return subprocess.run((*command, *config, *inputs), cwd=folder, capture_output=True, text=True, check=False)


def test_zizmor_finds_nothing(tmp_path: Path) -> None:
    folder = tmp_path / ".github/workflows"
    folder.mkdir(parents=True)
    for name, text in everything().items():
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "action.yml", tmp_path / "action.yml")
    shutil.copy(ROOT / ".pre-commit-hooks.yaml", tmp_path / ".pre-commit-hooks.yaml")
    done = zizmor(tmp_path, "--collect=all", ".")
    assert [(finding["ident"], finding["locations"][0]["symbolic"]["key"]) for finding in json.loads(done.stdout)] == []
    assert done.returncode == 0, done.stderr


def test_zizmor_would_find_something(tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text(shown_badly(), encoding="utf-8")
    found = {finding["ident"] for finding in json.loads(zizmor(tmp_path, "bad.yml").stdout)}
    assert {"template-injection", "unpinned-uses", "excessive-permissions"} <= found


def shown_badly() -> str:
    steps = "    - uses: actions/checkout@v6\n    - run: echo ${{ github.event.pull_request.title }}\n"
    return f"on: pull_request\npermissions: write-all\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n{steps}"


@pytest.mark.parametrize("name", everything())
def test_every_action_is_pinned(name: str) -> None:
    for job in yaml.safe_load(everything()[name])["jobs"].values():
        for step in job["steps"]:
            used = step.get("uses", "./")
            assert PINNED.fullmatch(used) or used in ("./", "org/modelguard@v1"), used


@pytest.mark.parametrize("name", [name for name in shown() if "forks" in name])
def test_a_workflow_with_rights_checks_no_head_out(name: str) -> None:
    workflow = yaml.safe_load(shown()[name])
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert [step["with"].keys() & {"ref", "repository", "submodules", "lfs"} for step in checkouts] == [set()]
    assert all("git checkout" not in step.get("run", "") and "download-artifact" not in step.get("uses", "") for step in steps)


@pytest.mark.parametrize(("model", "verdict", "code"), [("fake", "inconsistent", 1), ("honest", "consistent", 0)])
@pytest.mark.parametrize("event", ["pull_request", "push"])
def test_the_planted_model_is_judged_as_the_self_test_expects(event: str, model: str, verdict: str, code: int, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "workspace")
    repository.commit({"README.md": b"# ours\n"})
    repository.git("reset", "--quiet", "--hard")
    side = {"sha": "0" * 40, "repo": {"full_name": "org/modelguard"}}
    payload = {"pull_request": {"number": 1, "base": side, "head": dict(side)}} if event == "pull_request" else {"before": "", "after": ""}
    (tmp_path / "event.json").write_text(json.dumps(payload), encoding="utf-8")
    plant = (sys.executable, str(ROOT / ".github/selftest/plant.py"), model, str(tmp_path / "event.json"))
    subprocess.run(plant, cwd=repository.path, check=True)
    environ = {
        "GITHUB_EVENT_NAME": event,
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_WORKSPACE": str(repository.path),
        "INPUT_COMMENT": "never",
        "RUNNER_TEMP": str(tmp_path),
    }
    assert action.main(environ) == code
    assert runner.outputs((tmp_path / "output").read_text(encoding="utf-8"))["verdict"] == verdict
    matrix = yaml.safe_load((ROOT / ".github/workflows/selftest.yml").read_text(encoding="utf-8"))["jobs"]["selftest"]["strategy"]["matrix"]
    expected = {entry["model"]: (entry["verdict"], entry["outcome"]) for entry in matrix["include"]}
    assert expected[model] == (verdict, "failure" if code else "success")
