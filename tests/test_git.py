"""Trees and blobs of real repositories."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelguard.errors import BadRequest, CannotFetch, CannotRead
from modelguard.git import CHUNK, Git
from modelguard.types.changes import ChangedFile
from tests.repositories import Link, Object, Repository, Submodule

ODD = (
    "new\nline.safetensors",
    "-rf",
    "--help",
    "tab\there",
    'quo"te',
    "sp ace",
    "back\\slash",
    "umlaut-ü",
    "not-utf8-\udcff",
    "a/-b/:c",
    "'; touch x;'",
)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repo")


@pytest.fixture
def git(repository: Repository) -> Iterator[Git]:
    opened = Git(repository.path)
    yield opened
    opened.close()


def test_a_tree_lists_every_file_with_its_mode(repository: Repository, git: Git) -> None:
    commit = repository.commit({"a/b": b"content", "link": Link("/etc/passwd"), "module": Submodule()})
    tree = git.tree(commit)
    assert {path: (entry.mode, entry.size) for path, entry in tree.items()} == {
        "a/b": ("100644", 7),
        "link": ("120000", 11),
        "module": ("160000", 0),
    }
    assert git.read(tree["a/b"].oid, 100) == b"content"


def test_odd_file_names_survive(repository: Repository, git: Git) -> None:
    commit = repository.commit({name: name.encode("utf-8", "surrogateescape") for name in ODD})
    tree = git.tree(commit)
    assert set(tree) == set(ODD)
    for name, entry in tree.items():
        assert entry.path == name
        assert git.read(entry.oid, 100) == name.encode("utf-8", "surrogateescape")
    assert set(git.index()) == set(ODD)


def test_changed_compares_content_and_mode(repository: Repository, git: Git) -> None:
    before = repository.commit({"same": b"1", "edited": b"1", "removed": b"1", "turned": b"target"})
    after = repository.commit({"edited": b"2", "removed": None, "added": b"3", "turned": Link("target")})
    changed = {file.path: file for file in git.changed(before, after)}
    assert list(changed) == ["added", "edited", "removed", "turned"]
    assert changed["added"].before is None
    assert changed["removed"].after is None
    turned = changed["turned"]
    assert isinstance(turned, ChangedFile)
    assert turned.before is not None
    assert turned.after is not None
    assert (turned.before.mode, turned.after.mode, turned.before.oid == turned.after.oid) == ("100644", "120000", True)
    assert git.changed(before, before) == ()


def test_staged_files_with_and_without_a_first_commit(repository: Repository, git: Git) -> None:
    assert git.head() == ""
    assert git.staged() == ()
    repository.stage({"new\nline": b"1", "-x": b"2", "not-utf8-\udcff": b"3"})
    assert set(git.staged()) == {"new\nline", "-x", "not-utf8-\udcff"}
    first = repository.commit({})
    assert git.head() == first
    assert git.staged() == ()
    repository.stage({"-x": None, "more": b"4"})
    assert set(git.staged()) == {"-x", "more"}
    assert set(git.index()) == {"new\nline", "not-utf8-\udcff", "more"}


def test_resolve(repository: Repository, git: Git) -> None:
    first, second = repository.commit({"a": b"1"}), repository.commit({"a": b"2"})
    repository.git("tag", "--annotate", "--message", "a tag", "v1", first)
    assert git.resolve("HEAD") == git.resolve("main") == second
    assert git.resolve("HEAD~1") == git.resolve("v1") == git.resolve(first[:10]) == first
    for revision in ("nowhere", "", "--all", "-h", "HEAD:a", "HEAD^{tree}", "0" * 40, "HEAD --", "a..b", "$(touch x)", "x\ny"):
        with pytest.raises(BadRequest, match="names no commit") as caught:
            git.resolve(revision)
        assert "fetch" in caught.value.advice
        assert len(str(caught.value).splitlines()) == 1


def test_merge_base(repository: Repository, git: Git) -> None:
    fork = repository.commit({"a": b"1"})
    main = repository.commit({"a": b"2"})
    repository.git("checkout", "--quiet", "--force", "-b", "topic", fork)
    topic = repository.commit({"b": b"1"})
    assert git.merge_base(main, topic) == fork
    repository.git("checkout", "--quiet", "--orphan", "other")
    unrelated = repository.commit({"c": b"1"})
    with pytest.raises(BadRequest, match="no merge base") as caught:
        git.merge_base(main, unrelated)
    assert "fetch-depth: 0" in caught.value.advice


def test_a_shallow_clone_says_what_to_fetch(repository: Repository, tmp_path: Path) -> None:
    fork = repository.commit({"a": b"1"})
    for number in range(3):
        repository.commit({"a": str(number).encode() * 9})
    shallow = tmp_path / "shallow"
    repository.git("clone", "--quiet", "--depth", "1", repository.path.as_uri(), str(shallow))
    with pytest.raises(BadRequest, match=fork) as caught:
        Git(shallow).resolve(fork)
    assert "fetch-depth: 0" in caught.value.advice


def test_no_repository(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BadRequest, match="git rev-parse in"):
            Git(path)


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadRequest, match="git is not installed"):
        Git(tmp_path)


def test_bare_repository_and_linked_worktree_share_one_directory(repository: Repository, tmp_path: Path) -> None:
    commit = repository.commit({"a": b"1"})
    repository.git("worktree", "add", "--quiet", str(tmp_path / "linked"), commit)
    assert Git(tmp_path / "linked").directory == Git(repository.path).directory == repository.path / ".git"
    repository.git("clone", "--quiet", "--bare", str(repository.path), str(tmp_path / "bare.git"))
    assert set(Git(tmp_path / "bare.git").tree(commit)) == {"a"}


def test_limits(repository: Repository, git: Git) -> None:
    oid = repository.blob(b"x" * 1000)
    assert git.read(oid, 1000) == b"x" * 1000
    assert git.head_of(oid, 10) == b"x" * 10
    assert git.head_of(oid, 10_000) == b"x" * 1000
    assert git.head_of(oid, 0) == b""
    with pytest.raises(CannotRead, match="1000 bytes, more than the 999"):
        git.read(oid, 999)
    assert git.read(repository.blob(b""), 0) == b""


def test_reading_goes_on_rightly_after_every_error(repository: Repository, git: Git) -> None:
    commit = repository.commit({"dir/a": b"right", "big": os.urandom(2 * CHUNK + 77)})
    tree = git.tree(commit)
    small, big = tree["dir/a"].oid, tree["big"].oid
    listing = repository.git("rev-parse", f"{commit}:dir")
    for _ in range(2):
        for wrong in (commit, listing, "0" * 40, "HEAD:dir/a "):
            with pytest.raises(CannotFetch, match="is not in"):
                git.read(wrong, 100)
            assert git.read(small, 100) == b"right"
        with pytest.raises(CannotRead, match="more than the 100"):
            git.read(big, 100)
        assert git.read(small, 100) == b"right"
        assert len(git.head_of(big, 512)) == 512
        assert git.read(small, 100) == b"right"


def test_a_large_blob_is_spooled_in_bounded_memory(repository: Repository, git: Git) -> None:
    content = os.urandom(1 << 20) * 64
    repository.git("config", "core.compression", "0")
    oid = repository.blob(content)
    tracemalloc.start()
    descriptor = git.spool(oid)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    try:
        assert peak < 4 * CHUNK
        assert os.fstat(descriptor).st_size == len(content)
        assert os.fstat(descriptor).st_nlink == 0
        assert os.pread(descriptor, 4096, 40 << 20) == content[40 << 20 : (40 << 20) + 4096]
    finally:
        os.close(descriptor)


def test_close_can_be_repeated_and_reading_begins_anew(repository: Repository, git: Git) -> None:
    oid = repository.blob(b"x")
    git.close()
    assert git.read(oid, 1) == b"x"
    git.close()
    git.close()
    assert git.read(oid, 1) == b"x"


def test_an_entry_may_name_any_object(repository: Repository) -> None:
    oid = repository.blob(b"shared")
    commit = repository.commit({"a": Object(oid), "b": Object(oid)})
    tree = Git(repository.path).tree(commit)
    assert tree["a"].oid == tree["b"].oid == oid
