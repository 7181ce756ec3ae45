"""Audits of pointers whose objects only the LFS server has: real git-lfs pushes to a real server, and the Action fetches. Slow."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from demo.hub_server import HubServer
from modelguard import action
from tests.fingerprint.zoo import Tensors, model, tuned
from tests.requirement import require
from tests.servers import runner
from tests.servers.lfs import LfsServer, lfs_server, python

CARD = b"---\nbase_model: lab/base\nbase_model_relation: finetune\n---\n"
TRACKED = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("lfs")]


def encoded(tensors: Tensors) -> bytes:
    return save({name: np.ascontiguousarray(value) for name, value in tensors.items()})


@dataclass
class Place:
    """A repository that pushes to the server, and a clone that has the pointers alone."""

    root: Path
    server: LfsServer
    environ: dict[str, str]

    def git(self, where: str, *arguments: str) -> str:
        done = subprocess.run(("git", *arguments), cwd=self.root / where, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, files: Mapping[str, bytes]) -> str:
        for name, content in files.items():
            place = self.root / "author" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        self.git("author", "add", "--all")
        self.git("author", "commit", "--quiet", "--message", "a change")
        return self.git("author", "rev-parse", "HEAD")

    def change(self, files: Mapping[str, bytes]) -> None:
        """Pushes a base and a head, objects to the LFS server, and clones without them."""
        base = self.commit({".gitattributes": TRACKED})
        head = self.commit(files)
        self.git("author", "push", "--quiet", "origin", "main")
        self.git(".", "-c", "filter.lfs.smudge=", "-c", "filter.lfs.required=false", "clone", "--quiet", "remote.git", "workspace")
        assert not (self.root / "workspace/.git/lfs/objects").exists()
        (self.root / "event.json").write_text(f'{{"before": "{base}", "after": "{head}"}}', encoding="utf-8")

    def audit(self, **inputs: str) -> tuple[int, str, str]:
        """(exit code, verdict, report) of the Action on the clone."""
        code = action.main({**self.environ, **{f"INPUT_{name}": value for name, value in inputs.items()}})
        verdict = runner.outputs((self.root / "output").read_text(encoding="utf-8"))["verdict"]
        report = self.root / "temp/modelguard/report.json"
        return code, verdict, report.read_text(encoding="utf-8") if report.exists() else ""


@pytest.fixture(scope="module")
def program() -> Path:
    require("lfs", shutil.which("git-lfs"), "apt install git-lfs")
    found = python()
    require("lfs", found, "giftless cannot be installed")
    assert found is not None
    return found


@pytest.fixture
def place(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/model.safetensors").write_bytes(encoded(model(0)))
    (tmp_path / "temp").mkdir()
    (tmp_path / "author").mkdir()
    with lfs_server(program, tmp_path / "storage") as server, HubServer({"lab/base": tmp_path / "base"}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("MODELGUARD_TRUSTED_ORIGINS", server.url)
        environ = {
            "GITHUB_EVENT_NAME": "push",
            "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
            "GITHUB_OUTPUT": str(tmp_path / "output"),
            "GITHUB_REPOSITORY": "org/models",
            "GITHUB_SERVER_URL": server.url,
            "GITHUB_WORKSPACE": str(tmp_path / "workspace"),
            "INPUT_ACTIVATIONS": "off",
            "MODELGUARD_TRUSTED_ORIGINS": server.url,
            "RUNNER_TEMP": str(tmp_path / "temp"),
        }
        made = Place(tmp_path, server, environ)
        made.git(".", "init", "--quiet", "--bare", "remote.git")
        made.git("author", "init", "--quiet", "--initial-branch=main")
        made.git("author", "lfs", "install", "--local")
        made.git("author", "config", "lfs.url", f"{server.url}/org/models.git/info/lfs")
        made.git("author", "config", "lfs.locksverify", "false")
        made.git("author", "config", "lfs.transfer.maxretries", "1")
        made.git("author", "remote", "add", "origin", str(tmp_path / "remote.git"))
        yield made


def test_objects_are_fetched_from_the_base_repositorys_server(place: Place) -> None:
    place.change({"m/model.safetensors": encoded(tuned(model(0))), "m/README.md": CARD})
    code, verdict, report = place.audit()
    assert (code, verdict) == (0, "consistent")
    assert "not held against its sha256" not in report
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob("lfs-*"))


def test_a_fake_behind_a_pointer_is_found(place: Place) -> None:
    place.change({"m/model.safetensors": encoded(model(1)), "m/README.md": CARD})
    assert place.audit()[:2] == (1, "inconsistent")


def test_the_heads_own_server_is_reported_and_not_asked(place: Place) -> None:
    config = b"[lfs]\n\turl = http://127.0.0.1:9/evil\n"
    place.change({"m/model.safetensors": encoded(tuned(model(0))), "m/README.md": CARD, ".lfsconfig": config})
    code, verdict, report = place.audit()
    assert (code, verdict) == (0, "consistent")
    assert ".lfsconfig stands in the head and is changed here: it was not followed" in report


def test_an_object_that_is_not_on_the_server_stays_open(place: Place) -> None:
    weights = encoded(tuned(model(0)))
    place.change({"m/model.safetensors": weights, "m/README.md": CARD})
    place.server.stored(hashlib.sha256(weights).hexdigest()).unlink()
    code, verdict, report = place.audit()
    assert (code, verdict) == (2, "cannot-determine")
    assert "answers 404" in report  # giftless says so of the whole question, GitHub of the object


def test_an_object_that_was_exchanged_stays_open(place: Place) -> None:
    weights = encoded(tuned(model(0)))
    place.change({"m/model.safetensors": weights, "m/README.md": CARD})
    place.server.stored(hashlib.sha256(weights).hexdigest()).write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    code, verdict, report = place.audit()
    assert (code, verdict) == (2, "cannot-determine")
    assert "not the object that the pointer names" in report


def test_a_server_that_is_gone_stays_open(place: Place) -> None:
    place.change({"m/model.safetensors": encoded(tuned(model(0))), "m/README.md": CARD})
    place.environ["GITHUB_SERVER_URL"] = "https://127.0.0.1:9"
    assert place.audit()[:2] == (2, "cannot-determine")
