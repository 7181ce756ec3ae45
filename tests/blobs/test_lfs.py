"""The grammar of Git LFS pointers, and the objects behind them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelguard.blobs.base import Blob, read, read_small
from modelguard.blobs.git_object import GitFolder, first_bytes, open_entry
from modelguard.blobs.lfs import Pointer, parse_pointer
from modelguard.checkpoints.opening import open_checkpoint
from modelguard.errors import CannotFetch, Malformed
from modelguard.git import Git
from tests.repositories import Repository, pointer, pointer_to
from tests.weights import content_of, encode, opened, random

OID = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
VERSION = b"version https://git-lfs.github.com/spec/v1\n"
SOUND = VERSION + b"oid sha256:" + OID.encode() + b"\nsize 12345\n"
ACCEPTED = {
    "plain": SOUND,
    "no-final-newline": SOUND[:-1],
    "extension": VERSION + b"ext-0-foo sha256:" + OID.encode() + b"\noid sha256:" + OID.encode() + b"\nsize 12345\n",
}
REJECTED = {
    "empty": b"",
    "leading-space": b" " + SOUND,
    "bom": b"\xef\xbb\xbf" + SOUND,
    "crlf": SOUND.replace(b"\n", b"\r\n"),
    "more-behind": SOUND + b"x",
    "blank-line-behind": SOUND + b"\n",
    "line-behind": SOUND + b"url https://example.org/\n",
    "other-version": SOUND.replace(b"v1", b"v2"),
    "http": SOUND.replace(b"https", b"http"),
    "other-host": SOUND.replace(b"git-lfs.github.com", b"git-lfs.example.org"),
    "no-version": SOUND.removeprefix(VERSION),
    "sha1": SOUND.replace(b"sha256", b"sha1"),
    "upper-case": SOUND.replace(OID.encode(), OID.upper().encode()),
    "short-oid": SOUND.replace(OID.encode(), OID[:-1].encode()),
    "long-oid": SOUND.replace(OID.encode(), OID.encode() + b"0"),
    "path-oid": SOUND.replace(OID.encode(), b"../" * 21 + b"a"),
    "negative": SOUND.replace(b"12345", b"-1"),
    "float": SOUND.replace(b"12345", b"1.5"),
    "no-size": SOUND.replace(b"12345", b""),
    "huge": SOUND.replace(b"12345", b"9" * 19),
    "arabic-digits": SOUND.replace(b"12345", "١٢٣".encode()),
    "order": VERSION + b"size 12345\noid sha256:" + OID.encode() + b"\n",
    "two-oids": SOUND.replace(b"size", b"oid sha256:" + OID.encode() + b"\nsize"),
    "two-spaces": SOUND.replace(b"oid ", b"oid  "),
    "nul": SOUND.replace(b"12345", b"12345\0"),
}
WEIGHTS = encode(random())


@pytest.mark.parametrize("case", ACCEPTED)
def test_pointers(case: str) -> None:
    assert parse_pointer(ACCEPTED[case]) == Pointer(OID, 12345)


@pytest.mark.parametrize("case", REJECTED)
def test_everything_else_is_no_pointer(case: str) -> None:
    assert parse_pointer(REJECTED[case]) is None


@given(st.binary(max_size=64))
def test_a_pointer_says_what_it_was_made_of(content: bytes) -> None:
    assert parse_pointer(pointer(content)) == Pointer(hashlib.sha256(content).hexdigest(), len(content))


@given(st.integers(0, len(SOUND) - 1), st.binary(min_size=1, max_size=3))
def test_a_damaged_pointer_keeps_the_grammar_or_is_none(position: int, noise: bytes) -> None:
    damaged = SOUND[:position] + noise + SOUND[position:]
    parsed = parse_pointer(damaged)
    assert parsed is None or damaged.strip(b"\n") == pointer_to(parsed.oid, parsed.size).strip(b"\n") or b"size 0" in damaged


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repo")


@pytest.fixture
def git(repository: Repository) -> Iterator[Git]:
    opened_git = Git(repository.path)
    yield opened_git
    opened_git.close()


def blob_of(repository: Repository, git: Git, content: bytes, *, worktree: bool = True, verify: bool = True) -> Blob:
    commit = repository.commit({"m/model.safetensors": content})
    return open_entry(git, git.tree(commit)["m/model.safetensors"], repository.path if worktree else None, verify=verify)


def check_out(repository: Repository, content: bytes) -> Path:
    path = repository.path / "m/model.safetensors"
    path.parent.mkdir()
    path.write_bytes(content)
    return path


def test_the_object_of_the_store_is_read_and_vouched_for(repository: Repository, git: Git) -> None:
    blob = blob_of(repository, git, repository.store(WEIGHTS), worktree=False)
    assert read_small(blob) == WEIGHTS
    assert (blob.name, blob.sha256, blob.verified) == ("m/model.safetensors", hashlib.sha256(WEIGHTS).hexdigest(), True)


def test_the_store_of_a_linked_worktree_is_that_of_its_repository(repository: Repository, tmp_path: Path) -> None:
    commit = repository.commit({"m/model.safetensors": repository.store(WEIGHTS)})
    repository.git("worktree", "add", "--quiet", "--no-checkout", str(tmp_path / "linked"), commit)
    git = Git(tmp_path / "linked")
    assert read_small(open_entry(git, git.tree(commit)["m/model.safetensors"], None)) == WEIGHTS
    git.close()


def test_the_working_copy_serves_when_the_store_has_nothing(repository: Repository, git: Git) -> None:
    check_out(repository, WEIGHTS)
    blob = blob_of(repository, git, pointer(WEIGHTS))
    assert read_small(blob) == WEIGHTS
    assert (blob.sha256, blob.verified) == (hashlib.sha256(WEIGHTS).hexdigest(), True)


def test_a_damaged_store_is_passed_over_for_the_working_copy(repository: Repository, git: Git) -> None:
    damaged = WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1])
    repository.store(damaged, oid=hashlib.sha256(WEIGHTS).hexdigest())
    check_out(repository, WEIGHTS)
    assert read_small(blob_of(repository, git, pointer(WEIGHTS))) == WEIGHTS


@pytest.mark.parametrize("wrong", [WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1]), WEIGHTS[:-1], WEIGHTS + b"x", b"", pointer(WEIGHTS)])
@pytest.mark.parametrize("place", ["store", "worktree"])
def test_wrong_content_is_not_read(place: str, wrong: bytes, repository: Repository, git: Git) -> None:
    if place == "store":
        repository.store(wrong, oid=hashlib.sha256(WEIGHTS).hexdigest())
    else:
        check_out(repository, wrong)
    with pytest.raises(CannotFetch, match="Git LFS pointer whose object is not here") as caught:
        blob_of(repository, git, pointer(WEIGHTS))
    assert "git lfs pull" in caught.value.advice


def test_a_symbolic_link_is_no_working_copy(repository: Repository, git: Git, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(WEIGHTS)
    path = check_out(repository, b"")
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CannotFetch):
        blob_of(repository, git, pointer(WEIGHTS))


def test_unverified_content_says_so(repository: Repository, git: Git) -> None:
    repository.store(WEIGHTS)
    blob = blob_of(repository, git, pointer(WEIGHTS), verify=False)
    assert (blob.sha256, blob.verified) == (None, False)
    assert read(blob, 0, 8) == WEIGHTS[:8]


def test_a_checkpoint_behind_pointers_carries_its_digest(repository: Repository, git: Git, tmp_path: Path) -> None:
    commit = repository.commit({"m/model.safetensors": repository.store(WEIGHTS)})
    checkpoint = open_checkpoint(GitFolder(git, git.tree(commit), "m", ref="here"), "model.safetensors")
    assert content_of(checkpoint) == content_of(opened(tmp_path / "m.safetensors", WEIGHTS))
    assert checkpoint.digest == "sha256:" + hashlib.sha256(WEIGHTS).hexdigest()
    assert checkpoint.verified


def test_what_only_resembles_a_pointer_is_refused_as_weights(repository: Repository, git: Git) -> None:
    for content in (REJECTED["crlf"], REJECTED["line-behind"], SOUND + b"#" * 2000):
        commit = repository.commit({"m/model.safetensors": content})
        with pytest.raises(Malformed, match="Git LFS pointer"):
            open_checkpoint(GitFolder(git, git.tree(commit), "m", ref="here"), "model.safetensors")


def test_first_bytes_look_through_a_pointer_where_they_can(repository: Repository, git: Git) -> None:
    files = {
        "here": repository.store(WEIGHTS),
        "away": pointer_to(OID, 10**9),
        "plain": WEIGHTS,
        "short": b"ab",
        "tiny": repository.store(b"abc"),
    }
    tree = git.tree(repository.commit(files))
    heads = {name: first_bytes(git, tree[name], repository.path, 64) for name in files}
    assert heads == {"here": WEIGHTS[:64], "away": files["away"][:64], "plain": WEIGHTS[:64], "short": b"ab", "tiny": b"abc"}
