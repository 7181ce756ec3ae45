"""The hooks as people get them: the real pre-commit installs this repository and runs them on real commits and pushes. Slow."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.logs.building import state
from tests.repositories import pointer
from tests.requirement import require
from tests.weights import adapter, encode, random

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "modelguard", ".pre-commit-hooks.yaml")
WEIGHTS = encode(random())
TRACKED = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
CARD = b"---\nbase_model: acme/base\n---\n"
FACTORS = encode(adapter({"model.layers.0.self_attn.q_proj": (8, 8)}, rank=4))
SETTINGS = {"peft_type": "LORA", "base_model_name_or_path": "acme/base", "r": 4}

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pre-commit")]  # what the module builds is built once


@dataclass(frozen=True)
class Scratch:
    """A repository of somebody's with our hooks installed in it, and a bare one to push to."""

    path: Path
    environment: Mapping[str, str]

    def run(self, *command: str) -> tuple[int, str]:
        done = subprocess.run(command, cwd=self.path, env=self.environment, capture_output=True, text=True, check=False, timeout=300)
        return done.returncode, done.stdout + done.stderr

    def sure(self, *command: str) -> str:
        code, said = self.run(*command)
        assert code == 0, said
        return said

    def commit(self, files: Mapping[str, bytes]) -> tuple[int, str]:
        """A commit of these files, through the hooks."""
        for name, content in files.items():
            place = self.path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        self.sure("git", "add", "--all")
        return self.run("git", "commit", "--message", "a change")

    def undo(self) -> None:
        self.sure("git", "reset", "--quiet", "--hard")

    def store(self, content: bytes) -> bytes:
        text = pointer(content)
        oid = re.findall(rb"[0-9a-f]{64}", text)[0].decode()
        place = self.path / ".git/lfs/objects" / oid[:2] / oid[2:4] / oid
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return text


def _hooks_repository(folder: Path, environment: Mapping[str, str]) -> str:
    """This working tree as a repository with a release tag, which is how pre-commit takes hooks."""
    folder.mkdir(parents=True)
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "release"], ["tag", "v1.0.0"]):
        subprocess.run(["git", *command], cwd=folder, env=environment, check=True)
    return str(folder)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    """The scratch repository, with pre-commit's own environment of the hooks built once."""
    program = shutil.which("pre-commit", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    require("pre-commit", program, "pip install pre-commit")
    folder = tmp_path_factory.mktemp("pre-commit")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "GITHUB_", "PYTHON"))}
    who = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org"}
    quiet = {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "PRE_COMMIT_HOME": str(folder / "cache"),
        "PRE_COMMIT_COLOR": "never",
    }
    environment = kept | who | quiet
    hooks = _hooks_repository(folder / "hooks", environment)
    made = Scratch(folder / "work", environment)
    made.path.mkdir()
    subprocess.run(["git", "init", "--quiet", "--bare", str(folder / "remote.git")], env=environment, check=True)
    made.sure("git", "init", "--quiet", "--initial-branch=main")
    made.sure("git", "remote", "add", "origin", str(folder / "remote.git"))
    config = {"repos": [{"repo": hooks, "rev": "v1.0.0", "hooks": [{"id": "modelguard"}, {"id": "modelguard-deep"}]}]}
    (made.path / ".pre-commit-config.yaml").write_text(json.dumps(config), encoding="utf-8")
    assert program is not None
    made.sure(program, "install", "--install-hooks", "--hook-type", "pre-commit", "--hook-type", "pre-push")
    (made.path / "notes.txt").write_text("nothing of ours\n", encoding="utf-8")
    made.sure("git", "add", "--all")
    made.sure("git", "commit", "--message", "start")
    made.sure("git", "push", "--quiet", "origin", "main")
    return made


def hole() -> bytes:
    return state((step for step in range(10, 401, 10) if not 100 <= step < 200), global_step=400, max_steps=400)


REFUSED = {
    "a web page for weights": ({"model.safetensors": b"<!DOCTYPE html>"}, "HTML"),
    "weights that belong in LFS": ({".gitattributes": TRACKED, "model.safetensors": WEIGHTS}, "belongs in Git LFS"),
    "a pointer without object": ({".gitattributes": TRACKED, "model.safetensors": pointer(WEIGHTS)}, "whose object is not here"),
    "card against adapter": (
        {
            "adapter_model.safetensors": FACTORS,
            "adapter_config.json": json.dumps({**SETTINGS, "base_model_name_or_path": "acme/other"}).encode(),
            "README.md": CARD,
        },
        "declares acme/base, adapter_config.json acme/other",
    ),
    "config against adapter": (
        {"adapter_model.safetensors": FACTORS, "adapter_config.json": json.dumps({**SETTINGS, "r": 16}).encode()},
        "the factors have rank 4",
    ),
    "a log with a hole": ({"m/model.safetensors": WEIGHTS, "m/README.md": CARD, "m/trainer_state.json": hole()}, "log-gap"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_state_is_not_committed(name: str, scratch: Scratch) -> None:
    files, expected = REFUSED[name]
    before = scratch.sure("git", "rev-parse", "HEAD")
    code, said = scratch.commit(files)
    scratch.undo()
    assert code != 0
    assert expected in said
    assert "Traceback" not in said
    assert scratch.sure("git", "rev-parse", "HEAD") == before


def test_good_states_are_committed_and_not_pushed_while_the_base_is_not_at_hand(scratch: Scratch) -> None:
    good: dict[str, Mapping[str, bytes]] = {
        "text": {"notes.txt": b"other words\n"},
        "adapter": {"a/adapter_model.safetensors": FACTORS, "a/adapter_config.json": json.dumps(SETTINGS).encode(), "a/README.md": CARD},
        "whole log": {
            "w/model.safetensors": WEIGHTS,
            "w/README.md": CARD,
            "w/trainer_state.json": state(range(10, 401, 10), global_step=400, max_steps=400),
        },
        "pointer": {"p/.gitattributes": TRACKED, "p/model.safetensors": scratch.store(WEIGHTS), "p/README.md": CARD},
    }
    for name, files in good.items():
        code, said = scratch.commit(files)
        assert code == 0, (name, said)
        assert "Failed" not in said
        if name == "text":  # the hooks are about models: other files do not even start them
            assert "Skipped" in said
            assert scratch.run("git", "push", "origin", "main")[0] == 0
    code, said = scratch.run("git", "push", "origin", "main")  # the base is not in the cache, and the hook is offline
    assert code != 0
    assert "modelguard (deep)" in said
    assert "acme/base" in said
    assert "Traceback" not in said
