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

from modelguard import __version__, action
from tests.repositories import Repository
from tests.requirement import require
from tests.servers import runner

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```ya?ml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLANT = ROOT / ".github/selftest/plant.py"
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
def test_a_workflow_with_rights_checks_nothing_out_and_runs_nothing_else(name: str) -> None:
    workflow = yaml.safe_load(shown()[name])
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert [step.get("uses") for step in steps] == ["org/modelguard@v1"]
    assert all(job["permissions"]["contents"] == "read" for job in workflow["jobs"].values())


@pytest.mark.parametrize(("model", "verdict", "code"), [("fake", "inconsistent", 1), ("honest", "consistent", 0)])
@pytest.mark.parametrize("event", ["pull_request", "push"])
def test_the_planted_model_is_judged_as_the_self_test_expects(event: str, model: str, verdict: str, code: int, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "workspace")
    repository.commit({"README.md": b"# ours\n"})
    repository.git("reset", "--quiet", "--hard")
    side = {"sha": "0" * 40, "repo": {"full_name": "org/modelguard"}}
    payload = {"pull_request": {"number": 1, "base": side, "head": dict(side)}} if event == "pull_request" else {"before": "", "after": ""}
    event_file = tmp_path / "event.json"
    event_file.write_text(json.dumps(payload), encoding="utf-8")
    shutil.copy(ROOT / "action.yml", repository.path)
    subprocess.run((sys.executable, str(PLANT), model, str(event_file)), cwd=repository.path, check=True)
    assert json.loads(event_file.read_text(encoding="utf-8")) == payload  # the runner writes it anew before every step
    environ = {
        "GITHUB_EVENT_NAME": event,
        "GITHUB_EVENT_PATH": str(repository.path / ".git/selftest/event.json"),
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


def test_the_planted_entry_point_names_the_planted_event_and_goes_on_as_the_image_does(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "workspace")
    repository.commit({"README.md": b"# ours\n"})
    repository.git("reset", "--quiet", "--hard")
    shutil.copy(ROOT / "action.yml", repository.path)
    (tmp_path / "event.json").write_text("{}", encoding="utf-8")
    subprocess.run((sys.executable, str(PLANT), "fake", str(tmp_path / "event.json")), cwd=repository.path, check=True)
    planted, original = (yaml.safe_load((place / "action.yml").read_text(encoding="utf-8")) for place in (repository.path, ROOT))
    place = planted["runs"].pop("entrypoint").removeprefix("/github/workspace/")
    assert planted == original
    assert os.access(repository.path / place, os.X_OK)
    *_, export, run = (repository.path / place).read_text(encoding="utf-8").splitlines()
    named = export.removeprefix("export GITHUB_EVENT_PATH=/github/workspace/")
    assert json.loads((repository.path / named).read_text(encoding="utf-8"))["after"] == repository.git("rev-parse", "HEAD")
    image = json.loads(re.findall(r"^ENTRYPOINT (.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)[-1])
    assert run.split() == ["exec", *image]


GH = """\
#!/bin/bash
printf '%s\\n' "$*" >> "$NOTES"
case "$*" in
    "run download"*) mkdir -p "$RUNNER_TEMP/digest"; echo "sha256:$(printf 'a%.0s' {1..64})" > "$RUNNER_TEMP/digest/slim" ;;
    *matching-refs*) printf 'refs/tags/%s\\n' $TAGS ;;
    *ref/tags/v1*) exit "$MOVED" ;;
    *blobs*|*trees*|*commits*) cat >> "$NOTES"; echo 1234 ;;
esac
"""


@pytest.mark.parametrize(
    ("tags", "visible", "code", "moves"),
    [
        ("v1.0.0 v1.9.0 v1.10.0", True, 0, True),
        ("v1.0.0 v1.10.0 v1.11.0", True, 0, False),
        ("v1.10.0", False, 1, False),
    ],
)
def test_v1_moves_to_the_newest_release_whose_image_anybody_can_pull(
    tmp_path: Path, tags: str, visible: bool, code: int, moves: bool
) -> None:
    """The script of release.yml, whole; programs under the names of GitHub's and Docker's note what they are asked."""
    require("jq", shutil.which("jq"), "apt install jq")
    repository = Repository(tmp_path / "sources")
    head = repository.commit({"action.yml": (ROOT / "action.yml").read_bytes()})
    repository.git("reset", "--quiet", "--hard")
    programs, notes = tmp_path / "programs", tmp_path / "notes"
    programs.mkdir()
    (programs / "gh").write_text(GH, encoding="utf-8")
    (programs / "docker").write_text(f'#!/bin/sh\nprintf "%s\\n" "docker $*" >> "$NOTES"\nexit {0 if visible else 1}\n', encoding="utf-8")
    for program in programs.iterdir():
        program.chmod(0o755)
    environ = os.environ | {
        "GITHUB_REF_NAME": "v1.10.0",
        "GITHUB_REPOSITORY": "Org/modelguard",
        "GITHUB_RUN_ID": "1",
        "MOVED": "0",
        "NOTES": str(notes),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "RUNNER_TEMP": str(tmp_path),
        "TAGS": tags,
    }
    done = subprocess.run((ROOT / ".github/move-v1",), cwd=repository.path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    asked, image = notes.read_text(encoding="utf-8"), f"ghcr.io/org/modelguard@sha256:{'a' * 64}"
    assert f"nobody manifest inspect {image}\n" in asked
    assert ("--method PATCH repos/Org/modelguard/git/refs/tags/v1 -f sha=1234 -F force=true" in asked) is moves
    if moves:
        assert f'"{head}"' in asked
        assert repository.git("rev-parse", "HEAD^{tree}") in asked
        assert f"image: docker://{image}" in (repository.path / "action.yml").read_text(encoding="utf-8")


def test_a_release_is_attested_tested_as_root_and_held_to_its_version() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["image"]["steps"]
    names = [step.get("uses", "").partition("@")[0] for step in steps]
    assert names.index("docker/setup-buildx-action") < names.index("docker/build-push-action")  # the default builder knows no attestation
    (checked,) = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "__version__" in step.get("run", "")]
    for tag, code in ((f"v{__version__}", 0), (f"v{__version__}1", 1)):
        environ = {"PATH": os.environ["PATH"], "TAG": tag}
        assert subprocess.run(("bash", "-c", checked), cwd=ROOT, env=environ, check=False).returncode == code
