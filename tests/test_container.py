"""The Action's container: built from the real Dockerfile, run on planted pull requests with what GitHub's runner gives it. Slow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from demo.hub_server import HubServer
from demo.repository import Repository
from modelguard.cli import main
from tests.container import BASE, ROOT, Engine, Ran, available
from tests.fingerprint.zoo import Tensors, model, tuned
from tests.requirement import require
from tests.servers import runner
from tests.servers.git_http import GitServer, git_server
from tests.servers.github import GitHubServer

MIB = 1 << 20
SLIM_ADDS, FULL_ADDS = 220, 1300  # MiB that the images hold beyond their base; measured: 186 and 1145
TORCH = "torch==2.13.0"  # the version whose build for CPUs alone the Makefile installs
NOTHING_TO_DO = 2.0  # seconds inside the container
RUNNER_USER = 1001
CARD = b"---\nbase_model: lab/base\nbase_model_relation: finetune\n---\n"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("container")]  # what the module builds is built once


@dataclass(frozen=True)
class Built:
    """The engine, a container of the slim image and one of the image below it."""

    engine: Engine
    slim: str
    base: str


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    require("container", available(), "needs buildah, debootstrap and root")
    engine = Engine(tmp_path_factory.mktemp("engine"))
    try:
        engine.base()
        yield Built(engine, engine.container(engine.build("slim")), engine.container(BASE))
    finally:
        engine.discard()


def encoded(tensors: Tensors) -> bytes:
    return save({name: np.ascontiguousarray(value) for name, value in tensors.items()})


class Job:
    """The folders of one job as the runner lays them out, owned by its user, and the environment that it gives a container."""

    def __init__(self, root: Path, github: GitHubServer, hub: HubServer) -> None:
        self.github, self.root = github, root
        self.repository = Repository(root / "workspace")
        for name in ("workflow", "file_commands", "runner_temp"):
            (root / name).mkdir()
        self.mounts = {root / name: f"/github/{name}" for name in ("workspace", "workflow", "file_commands", "runner_temp")}
        self.environ = {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_API_URL": github.url,
            "GITHUB_EVENT_NAME": "pull_request",
            "GITHUB_EVENT_PATH": "/github/workflow/event.json",
            "GITHUB_OUTPUT": "/github/file_commands/output",
            "GITHUB_REPOSITORY": github.repository,
            "GITHUB_STEP_SUMMARY": "/github/file_commands/summary",
            "GITHUB_WORKSPACE": "/github/workspace",
            "HF_ENDPOINT": hub.url,
            "HF_HOME": "/tmp/hub",
            "INPUT_COMMENT": "",
            "INPUT_FAIL-ON": "",
            "INPUT_GITHUB-TOKEN": github.token,
            "RUNNER_TEMP": "/github/runner_temp",
        }

    def change(self, files: Mapping[str, bytes]) -> None:
        """A pull request, number 7, with these files, checked out as actions/checkout leaves it."""
        paths = {}
        for number, (name, content) in enumerate(files.items()):
            paths[name] = self.root / f"content-{number}"
            paths[name].write_bytes(content)
        head = self.repository.branch("pr", paths, "Add a model")
        self.repository.git("update-ref", "refs/pull/7/head", head)
        self.repository.git("config", "uploadpack.allowFilter", "true")
        self.repository.git("checkout", "--quiet", "--detach", head)
        base = self.repository.git("rev-parse", "main")
        sides = {side: {"sha": sha, "repo": {"full_name": self.github.repository}} for side, sha in (("base", base), ("head", head))}
        (self.root / "workflow/event.json").write_text(json.dumps({"pull_request": {"number": 7, **sides}}), encoding="utf-8")
        self.github.add_pull(7, head=head, base=base, fork=False)
        subprocess.run(("chown", "--recursive", f"{RUNNER_USER}:{RUNNER_USER}", str(self.root)), check=True)

    def nothing_checked_out(self, server: GitServer) -> None:
        """The workspace is empty, and the repository stands on a server."""
        place = server.root / f"{self.github.repository}.git"
        place.parent.mkdir(parents=True)
        place.symlink_to(self.repository.path)
        (self.root / "empty").mkdir()
        self.mounts = {path: inside for path, inside in self.mounts.items() if inside != "/github/workspace"}
        self.mounts |= {self.root / "empty": "/github/workspace"}
        self.environ |= {"GITHUB_SERVER_URL": server.url, "MODELGUARD_TRUSTED_ORIGINS": server.url}

    def run(self, built: Built, *command: str) -> Ran:
        return built.engine.run(built.slim, self.mounts, self.environ, "/github/workspace", *command)

    @property
    def outputs(self) -> dict[str, str]:
        return runner.outputs((self.root / "file_commands/output").read_text(encoding="utf-8"))


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(encoded(model(0)))
    with HubServer({"lab/base": folder}) as hub, GitHubServer(prefix="/api/v3") as github:  # the path of an Enterprise Server
        yield Job(tmp_path / "job", github, hub)


@pytest.fixture
def server(tmp_path: Path, job: Job) -> Iterator[GitServer]:
    with git_server(tmp_path / "served", job.github.token) as running:
        yield running


def test_a_planted_fake_is_found(built: Built, job: Job) -> None:
    job.change({"m/model.safetensors": encoded(model(1)), "m/README.md": CARD})
    ran = job.run(built)
    assert ran.code == 1, ran.output
    assert "Traceback" not in ran.output
    assert job.outputs["verdict"] == "inconsistent"
    assert [command.name for command in runner.run(ran.output) if command.name == "error"] == ["error"]
    comments = job.github.comments(7)
    assert len(comments) == 1
    assert "weights-base-mismatch" in comments[0].body
    report = json.loads((job.root / "runner_temp/modelguard/report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "inconsistent"
    assert "weights-base-mismatch" in (job.root / "file_commands/summary").read_text(encoding="utf-8")


def test_an_honest_model_passes(built: Built, job: Job) -> None:
    job.change({"m/model.safetensors": encoded(tuned(model(0))), "m/README.md": CARD})
    ran = job.run(built)
    assert (ran.code, job.outputs["verdict"]) == (0, "consistent"), ran.output


def test_a_change_without_models_is_done_at_once(built: Built, job: Job) -> None:
    job.change({"docs/notes.md": b"words\n"})
    taken = min((job.run(built) for _ in range(3)), key=lambda ran: ran.seconds)
    assert (taken.code, job.outputs["verdict"]) == (0, "consistent"), taken.output
    assert "no model files changed" in taken.output
    assert taken.seconds <= NOTHING_TO_DO * float(os.environ.get("MODELGUARD_PATIENCE", "1"))


def test_the_workspace_is_not_on_the_import_path(built: Built, job: Job) -> None:
    bomb = b"import os; print('::error::taken over'); os._exit(0)\n"
    job.change({"modelguard/__init__.py": bomb, "sitecustomize.py": bomb, "json.py": bomb, "m/model.safetensors": b"<!DOCTYPE html>"})
    ran = job.run(built)
    assert ran.code == 2
    assert "taken over" not in ran.output


def test_nothing_is_checked_out_and_the_fake_is_found_all_the_same(built: Built, job: Job, server: GitServer) -> None:
    job.change({"m/model.safetensors": encoded(model(1)), "m/README.md": CARD})
    job.nothing_checked_out(server)
    job.environ["GITHUB_EVENT_NAME"] = "pull_request_target"
    ran = job.run(built)
    assert (ran.code, job.outputs["verdict"]) == (1, "inconsistent"), ran.output
    assert job.github.token not in ran.output
    (comment,) = job.github.comments(7)
    assert "weights-base-mismatch" in comment.body
    assert server.asked
    assert [path.name for path in (job.root / "runner_temp").iterdir()] == ["modelguard"]


def test_image_and_registry_as_files_are_enough(built: Built, job: Job, server: GitServer, tmp_path: Path) -> None:
    """A runner that reaches its own GitHub alone: the image comes from a file, as does what is known of other models."""
    built.engine.save("localhost/modelguard:slim", tmp_path / "modelguard-slim.tar")
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes(encoded(model(1)))
    known = job.root / "runner_temp/known.sqlite"
    assert main(["registry", "add", str(other), "--name", "lab/other", "--registry", str(known), "--quiet"]) == 0
    job.change({"m/model.safetensors": encoded(tuned(model(1))), "m/README.md": b"---\nlicense: mit\n---\n"})
    job.nothing_checked_out(server)
    job.environ |= {"HF_ENDPOINT": "http://127.0.0.1:9", "INPUT_REGISTRY": "/github/runner_temp/known.sqlite"}
    folder = tmp_path / "elsewhere"
    (folder / "action").mkdir(parents=True)
    (folder / "action/Dockerfile").write_text("FROM localhost/modelguard:slim\n", encoding="utf-8")
    engine = Engine(folder)
    try:
        engine.load(tmp_path / "modelguard-slim.tar")
        engine.buildah("bud", "--pull-never", "--tag", "localhost/action", str(folder / "action"))
        ran = job.run(Built(engine, engine.container("localhost/action"), ""))
    finally:
        engine.discard()
    assert ran.code == 1, ran.output
    assert "weights-undeclared-base" in ran.output
    assert "lab/other" in (job.root / "runner_temp/modelguard/report.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(("planted", "code", "verdict"), [("fake", 1, "inconsistent"), ("honest", 0, "consistent")])
def test_the_self_test_is_what_it_is_on_a_runner(built: Built, job: Job, planted: str, code: int, verdict: str) -> None:
    """The plant as selftest.yml runs it; then the runner writes its own event again and takes the entry point from action.yml."""
    job.change({"action.yml": (ROOT / "action.yml").read_bytes()})
    event = job.root / "workflow/event.json"
    plant = (sys.executable, str(ROOT / ".github/selftest/plant.py"), planted, str(event))
    ours = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}  # of the runner's user, not of root
    subprocess.run(plant, cwd=job.repository.path, env=os.environ | ours, check=True)
    job.environ["INPUT_COMMENT"] = "never"
    ran = job.run(built, "/github/workspace/.git/selftest/entry")
    assert (ran.code, job.outputs["verdict"]) == (code, verdict), ran.output


def test_the_image_is_as_small_as_it_is_said_to_be(built: Built) -> None:
    whole, below = built.engine.size(built.slim), built.engine.size(built.base)
    added = (whole - below) / MIB
    print(f"{whole / MIB:.0f} MiB, of them {added:.0f} ours")  # noqa: T201
    assert 20 < added < SLIM_ADDS, f"the slim image adds {added:.0f} MiB to the {below / MIB:.0f} MiB below it"


def test_the_full_image_is_as_small_as_it_is_said_to_be(built: Built, job: Job) -> None:
    """It takes two and a half minutes to build. Its torch knows no GPU, whose libraries would make it four times as large."""
    index = os.environ.get("TORCH_INDEX", "")  # as the Makefile takes it
    full = built.engine.container(built.engine.build("full", TORCH=TORCH, CPU_WHEEL_INDEX=index))
    whole, below = built.engine.size(full), built.engine.size(built.base)
    added = (whole - below) / MIB
    print(f"{whole / MIB:.0f} MiB, of them {added:.0f} ours")  # noqa: T201
    assert 500 < added < FULL_ADDS, f"the full image adds {added:.0f} MiB to the {below / MIB:.0f} MiB below it"
    program = "import torch, transformers, tokenizers, modelguard.activations.comparison; print('cuda', torch.version.cuda)"
    ran = built.engine.run(full, job.mounts, job.environ, "/github/workspace", "python", "-c", program)
    assert (ran.code, "cuda None" in ran.output) == (0, True), ran.output
