"""Files of a commit as a transport."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelguard.blobs.base import read, read_small
from modelguard.blobs.git_object import GitBlob, GitFolder
from modelguard.errors import CannotFetch, CannotRead
from modelguard.git import Git
from tests.repositories import Link, Repository, Submodule

CONTENT = os.urandom(300_000)
DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repo")


@pytest.fixture
def git(repository: Repository) -> Iterator[Git]:
    opened = Git(repository.path)
    yield opened
    opened.close()


def folder(git: Git, commit: str, directory: str = "") -> GitFolder:
    return GitFolder(git, git.tree(commit), directory, ref=f"git:{directory}")


def test_a_folder_holds_the_files_of_one_directory(repository: Repository, git: Git) -> None:
    files = {"a": b"1", "m/a": b"22", "m/b": b"333", "m/sub/c": b"4", "m2/d": b"5"}
    commit = repository.commit({**files, "m/link": Link("../a"), "m/module": Submodule()})
    assert folder(git, commit, "m").sizes == {"a": 2, "b": 3}
    assert folder(git, commit).sizes == {"a": 1}
    assert folder(git, commit, "nowhere").sizes == {}
    assert read_small(folder(git, commit, "m").open("b")) == b"333"


@pytest.mark.parametrize("name", ["link", "module", "absent", "sub/c", "../a", "m/../a", "", ".", "/etc/passwd"])
def test_nothing_leads_out_of_the_folder(name: str, repository: Repository, git: Git) -> None:
    commit = repository.commit({"a": b"1", "m/sub/c": b"4", "m/link": Link("/etc/passwd"), "m/module": Submodule()})
    with pytest.raises(CannotFetch, match="no such file in git:m"):
        folder(git, commit, "m").open(name)


def test_any_range_is_read(repository: Repository, git: Git) -> None:
    blob = folder(git, repository.commit({"a": CONTENT})).open("a")
    assert isinstance(blob, GitBlob)
    assert (blob.size, blob.name, blob.sha256, blob.verified) == (len(CONTENT), "a", None, True)
    for start, length in ((0, 0), (0, 1), (299_999, 1), (300_000, 0), (1234, 100_000), (0, 300_000)):
        assert read(blob, start, length) == CONTENT[start : start + length]
    for start, length in ((0, 300_001), (300_000, 1), (-1, 1), (0, -1), (2**63, 1)):
        with pytest.raises(CannotRead, match="ends at byte 300000"):
            read(blob, start, length)
    with pytest.raises(CannotRead, match="ends before byte"):
        blob.readinto(299_999, memoryview(bytearray(2)))


def test_threads_read_at_once(repository: Repository, git: Git) -> None:
    commit = repository.commit({name: name.encode() * 100_000 for name in "abcd"})
    blobs = {name: folder(git, commit).open(name) for name in "abcd"}
    wrong: list[str] = []

    def work(name: str) -> None:
        wrong.extend(name for start in range(0, 90_000, 9_000) if read(blobs[name], start, 9_000) != name.encode() * 9_000)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd" * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_descriptors_are_given_back(repository: Repository, git: Git) -> None:
    commit = repository.commit({"a": CONTENT})
    before = len(list(DESCRIPTORS.iterdir()))
    for _ in range(20):
        blob = folder(git, commit).open("a")
        read(blob, 0, 1)
        del blob
    assert len(list(DESCRIPTORS.iterdir())) <= before + 3  # the helper's two pipes


def test_a_large_paper_is_refused(repository: Repository, git: Git) -> None:
    blob = folder(git, repository.commit({"README.md": CONTENT})).open("README.md")
    assert read_small(blob, 300_000) == CONTENT
    with pytest.raises(CannotRead, match=r"README\.md: 300000 bytes, more than the 299999"):
        read_small(blob, 299_999)
