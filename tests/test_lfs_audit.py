"""Audits whose objects come from an LFS server: whole within the limit, in parts beyond it, from hosts that the operator named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from modelguard.blobs.base import read
from modelguard.blobs.http import origin
from modelguard.blobs.lfs import Pointer
from modelguard.blobs.lfs_remote import LfsRemote, store_at, store_of_job
from modelguard.cli import main
from modelguard.errors import BadRequest
from tests.repositories import Repository, pointer
from tests.servers.files import Files, file_server

ENDPOINT = "/org/models.git/info/lfs"
WEIGHTS = save({f"layers.{number}.weight": np.random.default_rng(number).normal(size=(512, 512)).astype(np.float32) for number in range(3)})
POINTER = Pointer(hashlib.sha256(WEIGHTS).hexdigest(), len(WEIGHTS))
LOG = json.dumps(
    {
        "global_step": 100,
        "max_steps": 100,
        "logging_steps": 10,
        "log_history": [{"step": step, "loss": 2 / (1 + step / 7), "epoch": step / 100} for step in range(10, 101, 10)],
    }
).encode()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    with file_server() as files:

        def batch(body: bytes) -> tuple[int, bytes]:
            (asked,) = json.loads(body)["objects"]
            told = {**asked, "actions": {"download": {"href": f"{files.url}/object/{asked['oid']}"}}}
            return 200, json.dumps({"objects": [told]}).encode()

        files.posts[f"{ENDPOINT}/objects/batch"] = batch
        files.content[f"/object/{POINTER.oid}"] = WEIGHTS
        monkeypatch.setenv("MODELGUARD_TRUSTED_ORIGINS", files.url)
        yield files


def audited(server: Files, path: Path, capsys: pytest.CaptureFixture[str], *options: str, **files: bytes) -> tuple[int, dict[str, Any]]:
    repository = Repository(path)
    base = repository.commit({"notes.txt": b""})
    named = {name.replace("__", "."): content for name, content in files.items()}
    head = repository.commit({"m/model.safetensors": pointer(WEIGHTS), "m/trainer_state.json": LOG, **named})
    where = ("--repo", str(path), "--base", base, "--head", head, "--lfs-url", server.url + ENDPOINT)
    code = main(["audit", *where, "--format", "json", "--quiet", *options])
    return code, json.loads(capsys.readouterr().out)


def readable(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(finding for finding in document["findings"] if finding["rule"] == "checkpoint-readable")
    return found


def downloaded(server: Files) -> int:
    return sum(path.startswith("/object/") and "range" not in headers for path, headers in server.asked)


def test_a_whole_object_is_fetched_once_and_verified(server: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = audited(server, tmp_path, capsys)
    assert code == 0
    assert readable(document)["status"] == "ok"
    assert "its content was held against its sha256" in readable(document)["text"]
    assert downloaded(server) == 1


def test_beyond_the_limit_parts_are_read_and_that_is_said(server: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = audited(server, tmp_path, capsys, "--max-download", str(len(WEIGHTS) - 1))
    assert code == 0
    assert "not held against its sha256" in readable(document)["text"]
    assert downloaded(server) == 0


def test_offline_asks_nobody(server: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = audited(server, tmp_path, capsys, "--offline")
    assert code == 2
    assert "whose object is not here" in readable(document)["text"]
    assert server.asked == []


def test_a_checkpoint_behind_a_pointer_under_another_name_is_seen(
    server: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, document = audited(server, tmp_path, capsys, picture__png=pointer(WEIGHTS), small__png=b"a picture")
    assert {model["subject"] for model in document["models"]} == {"m/model.safetensors", "picture.png"}


def test_a_config_of_the_head_is_reported_whether_it_is_changed_or_not(
    server: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = Repository(tmp_path)
    repository.commit({".lfsconfig": b"[lfs]\n\turl = https://elsewhere.example/\n"})
    _, document = audited(server, tmp_path, capsys)
    assert any(note.startswith(".lfsconfig stands in the head: it was not followed") for note in document["notes"])
    assert all(path.startswith((ENDPOINT, "/object/")) for path, _ in server.asked)


def test_a_limit_is_for_all_objects_together(server: Files) -> None:
    other = save({"a": np.zeros((600, 600), dtype=np.float32)})
    server.content[f"/object/{hashlib.sha256(other).hexdigest()}"] = other
    store = store_at(server.url + ENDPOINT, "", {"MODELGUARD_TRUSTED_ORIGINS": server.url})
    remote = LfsRemote(store, max_download=len(WEIGHTS) + 1000)
    whole, parts = remote.fetch(POINTER, "a"), remote.fetch(Pointer(hashlib.sha256(other).hexdigest(), len(other)), "b")
    assert (whole.verified, whole.sha256, parts.verified, parts.sha256) == (True, POINTER.oid, False, None)
    assert read(parts, 0, 8) == other[:8]
    assert remote.fetch(POINTER, "again") is whole


def test_the_runners_token_goes_to_its_own_server_alone() -> None:
    job = {"GITHUB_SERVER_URL": "https://github.example/", "GITHUB_REPOSITORY": "org/models"}
    ours = store_of_job(job, "canary")
    assert ours is not None
    assert ours.endpoint == "https://github.example/org/models.git/info/lfs"
    assert ours.secret["Authorization"].startswith("Basic ")
    assert "canary" not in repr(ours)
    other = store_of_job({**job, "MODELGUARD_LFS_URL": "https://lfs.example/org/models"}, "canary")
    assert other is not None
    assert (origin(other.endpoint), dict(other.secret)) == ("https://lfs.example:443", {})
    assert store_of_job({}, "canary") is None


@pytest.mark.parametrize(
    "url", ["ftp://x/y", "x", "https://user:pass@x/y", "https://x/y?token=1", "http://127.0.0.1:1/x", "http://lfs.example/x"]
)
def test_a_server_that_is_none_is_a_wrong_configuration(url: str) -> None:
    with pytest.raises(BadRequest) as caught:
        store_at(url, "", {})
    assert "pass" not in str(caught.value)
    assert caught.value.advice
