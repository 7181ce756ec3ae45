"""Repositories that are damaged, incomplete, or made to harm who reads them."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelguard.errors import BadRequest, CannotFetch, CannotRead
from modelguard.git import CHUNK, Git
from tests.repositories import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repo")


@pytest.fixture
def git(repository: Repository) -> Iterator[Git]:
    opened = Git(repository.path)
    yield opened
    opened.close()


def path_of(repository: Repository, oid: str) -> Path:
    return repository.path / ".git/objects" / oid[:2] / oid[2:]


def test_a_repository_of_another_owner_is_read(repository: Repository) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    commit = repository.commit({"a": b"1"})
    for path in (repository.path, *repository.path.rglob("*")):
        os.chown(path, 12345, 12345)
    assert set(Git(repository.path).tree(commit)) == {"a"}


def test_an_entry_that_names_no_blob_is_refused(repository: Repository, git: Git) -> None:
    inner = repository.commit({"a": b"1"})
    hostile = b"100644 model.safetensors\0" + bytes.fromhex(inner)
    tree = repository.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=hostile)
    commit = repository.git("commit-tree", "-m", "x", tree)
    entry = git.tree(commit)["model.safetensors"]
    with pytest.raises(CannotFetch):
        git.read(entry.oid, 1000)
    assert git.read(git.tree(inner)["a"].oid, 10) == b"1"


def test_an_object_that_is_not_here_is_said_when_it_is_read(repository: Repository, git: Git) -> None:
    commit = repository.commit({"a": b"here", "gone": b"not here"})
    gone = git.tree(commit)["gone"].oid
    path_of(repository, gone).unlink()
    tree = git.tree(commit)
    assert (tree["a"].size, tree["gone"].size) == (4, 0)
    with pytest.raises(CannotFetch, match="is not in") as caught:
        git.read(gone, 100)
    assert "partial clone" in caught.value.advice


def test_a_damaged_object_is_refused_and_does_not_hang(repository: Repository, git: Git) -> None:
    fine, oid = repository.blob(b"fine"), repository.blob(os.urandom(3 * CHUNK))
    damaged = bytearray(path_of(repository, oid).read_bytes())
    damaged[CHUNK : CHUNK + 4096] = bytes(4096)
    path_of(repository, oid).chmod(0o644)
    path_of(repository, oid).write_bytes(damaged)
    for read in (git.spool, lambda oid: git.read(oid, 1 << 30), lambda oid: git.head_of(oid, 3 * CHUNK)):
        with pytest.raises(CannotRead) as caught:
            read(oid)
        assert caught.value.advice == "run `git fsck`"
        assert git.read(fine, 10) == b"fine"


def test_an_object_file_cut_short_is_refused(repository: Repository, git: Git) -> None:
    fine, oid = repository.blob(b"fine"), repository.blob(os.urandom(3 * CHUNK))
    path_of(repository, oid).chmod(0o644)
    os.truncate(path_of(repository, oid), CHUNK)
    with pytest.raises(CannotRead, match="cut short by git"):
        git.spool(oid)
    assert git.read(fine, 10) == b"fine"


def test_no_room_to_spool(repository: Repository, git: Git) -> None:
    oid, fine = repository.blob(bytes(3 * CHUNK)), repository.blob(b"fine")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK, hard))
    try:
        with pytest.raises(CannotRead, match="not copied") as caught:
            git.spool(oid)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "TMPDIR" in caught.value.advice
    assert git.read(fine, 10) == b"fine"


def test_hostile_configuration_runs_nothing(repository: Repository, tmp_path: Path) -> None:
    canary, script = tmp_path / "canary", tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {canary}\nexit 1\n")
    script.chmod(0o755)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for hook in ("post-index-change", "reference-transaction", "pre-commit", "post-checkout", "fsmonitor-watchman"):
        shutil.copy(script, hooks / hook)
    attributes = b"* filter=evil diff=evil merge=evil\n"
    commit = repository.commit({".gitattributes": attributes, "a": b"content", "gone": b"promised", ".lfsconfig": b"[lfs]\nurl = ext::sh"})
    repository.stage({"b": b"staged"})
    gone = repository.git("rev-parse", f"{commit}:gone")
    path_of(repository, gone).unlink()
    remote = {"extensions.partialClone": "origin", "remote.origin.promisor": "true", "remote.origin.url": f"ext::{script}"}
    commands = ("core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "core.askPass", "diff.external", "credential.helper")
    drivers = ("filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "diff.evil.textconv", "diff.evil.command")
    plain = {
        "protocol.ext.allow": "always",
        "core.hooksPath": str(hooks),
        "filter.evil.required": "true",
        "core.repositoryFormatVersion": "1",
    }
    for key, value in (plain | remote | dict.fromkeys(commands + drivers, str(script))).items():
        repository.git("config", key, value)
    assert _canary_lives(repository, canary, gone)
    git = Git(repository.path)
    tree = git.tree(git.resolve("HEAD"))
    assert git.read(tree["a"].oid, 100) == b"content"
    assert git.staged() == ("b",)
    assert git.merge_base(commit, commit) == commit
    with pytest.raises(CannotFetch):
        git.read(tree["gone"].oid, 100)
    assert "gone" in git.tree(commit)
    with pytest.raises(BadRequest):
        git.index()  # git will not write a tree of objects that it cannot get
    assert not canary.exists()


def _canary_lives(repository: Repository, canary: Path, gone: str) -> bool:
    """Whether plain git does run the script in this repository: otherwise the test shows nothing."""
    subprocess.run(
        ("git", "-C", str(repository.path), "cat-file", "blob", gone),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=30,
    )
    ran = canary.exists()
    canary.unlink(missing_ok=True)
    return ran


def test_the_environment_does_not_lead_elsewhere(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = repository.commit({"a": b"1"})
    other = Repository(tmp_path / "other")
    other.commit({"b": b"1"})
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other.path / ".git/objects"))
    assert set(Git(repository.path).tree(commit)) == {"a"}


def test_a_tree_that_holds_a_path_twice_is_refused(repository: Repository, git: Git) -> None:
    entries = b"".join(b"100644 model.safetensors\0" + bytes.fromhex(repository.blob(content)) for content in (b"one", b"other"))
    tree = repository.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=entries)
    with pytest.raises(CannotRead, match="holds a path twice"):
        git.tree(repository.git("commit-tree", "-m", "x", tree))


@pytest.mark.parametrize(("line", "expected"), [("A <a@b> 17 +0000", 17.0), ("A <a@b> soon +0000", None), ("A", None)])
def test_a_commit_that_does_not_say_when_it_was_made_has_no_time(
    repository: Repository, git: Git, line: str, expected: float | None
) -> None:
    tree = repository.git("rev-parse", f"{repository.commit({'a': b'1'})}^{{tree}}")
    text = f"tree {tree}\nauthor {line}\ncommitter {line}\n\nx\n".encode()
    assert git.committed(repository.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=text)) == expected
