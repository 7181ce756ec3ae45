"""Checkpoints as an operator names them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelguard.errors import BadRequest, CannotRead
from modelguard.references import Reach, open_reference
from tests.repositories import Link, Repository
from tests.weights import content_of, encode, opened, random, sharded, write

WEIGHTS = encode(random())


def read(text: str, repo: Path = Path()) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return content_of(open_reference(text, Reach(repo=repo, offline=True))[1])


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return content_of(opened(tmp_path / "expected", WEIGHTS))


@pytest.mark.parametrize("place", ["m", "m/", "m/model.safetensors", "m/../m/model.safetensors", "odd.name", "link", "link-to-file"])
def test_files_and_directories(place: str, tmp_path: Path, expected: object) -> None:
    write(tmp_path / "d", {"m/model.safetensors": WEIGHTS, "odd.name": WEIGHTS})
    (tmp_path / "d/link").symlink_to("m")
    (tmp_path / "d/link-to-file").symlink_to("m/model.safetensors")
    assert read(f"{tmp_path}/d/{place}") == expected


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: object) -> None:
    write(tmp_path, {"model.safetensors": WEIGHTS})
    monkeypatch.chdir(tmp_path)
    assert read("model.safetensors") == read(".") == expected
    folder, checkpoint = open_reference("model.safetensors", Reach())
    assert (folder.ref, checkpoint.ref) == (".", "./model.safetensors")


def test_an_index_may_be_named(tmp_path: Path) -> None:
    write(tmp_path, sharded([random(1, {"a": (2,)}), random(2, {"b": (2,)})]))
    assert set(read(f"{tmp_path}/model.safetensors.index.json")) == set(read(str(tmp_path))) == {"a", "b"}


@pytest.mark.parametrize("place", ["absent", "absent/model.safetensors", "empty", "pipe", "text"])
def test_what_is_no_checkpoint(place: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("not weights, but long enough to be looked at")
    with pytest.raises(CannotRead) as caught:
        read(f"{tmp_path}/{place}")
    assert len(str(caught.value).splitlines()) == 1
    assert str(tmp_path) in str(caught.value)


IN_GIT = {
    "git:HEAD:": "model.safetensors",
    "git:HEAD:.": "model.safetensors",
    "git:HEAD:model.safetensors": "model.safetensors",
    "git:HEAD:./m": "m/model.safetensors",
    "git:HEAD:m/": "m/model.safetensors",
    "git:HEAD:m/model.safetensors": "m/model.safetensors",
    "git:main~0:m": "m/model.safetensors",
    "git:v1:.hidden": ".hidden/model.safetensors",
    "git:HEAD:a:b/c:d.safetensors": "a:b/c:d.safetensors",
    "git:HEAD:new\nline": "new\nline/model.safetensors",
}


@pytest.mark.parametrize("text", IN_GIT)
def test_checkpoints_of_a_commit(text: str, tmp_path: Path) -> None:
    contents = {path: encode(random(number)) for number, path in enumerate(sorted(set(IN_GIT.values())))}
    repository = Repository(tmp_path / "repo")
    repository.commit(dict(contents))
    repository.git("tag", "v1")
    assert read(text, repository.path) == content_of(opened(tmp_path / "expected", contents[IN_GIT[text]]))


@pytest.mark.parametrize(
    "text",
    [
        "git:HEAD:link",
        "git:HEAD:link.safetensors",
        "git:HEAD:../repo",
        "git:HEAD:/etc",
        "git:HEAD:absent",
        "git:HEAD:m/model.safetensors/x",
    ],
)
def test_nothing_leads_out_of_the_commit(text: str, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repo")
    repository.commit({"m/model.safetensors": WEIGHTS, "link": Link("m"), "link.safetensors": Link("m/model.safetensors")})
    with pytest.raises(CannotRead, match="git:"):
        read(text, repository.path)


def test_a_pointer_of_a_commit_is_followed_to_its_object(tmp_path: Path, expected: object) -> None:
    repository = Repository(tmp_path / "repo")
    repository.commit({"m/model.safetensors": repository.store(WEIGHTS)})
    assert read("git:HEAD:m", repository.path) == expected


@pytest.mark.parametrize(
    "text",
    [
        "git:HEAD",
        "git::m",
        "git:",
        "git:nowhere:m",
        "git:-h:m",
        "http://x",
        "http://127.0.0.1:1/m.safetensors",
        "registry:a",
        "hf:",
        "hf:../x",
        "hf:a b",
    ],
)
def test_references_that_make_no_sense(text: str, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repo")
    repository.commit({"m/model.safetensors": WEIGHTS})
    with pytest.raises(BadRequest) as caught:
        read(text, repository.path)
    assert caught.value.advice
    assert len(str(caught.value).splitlines()) == 1


def test_a_model_of_the_hub_needs_a_cache_when_offline() -> None:
    pytest.importorskip("huggingface_hub")
    with pytest.raises(CannotRead, match="hf:org/name"):
        read("hf:org/name")
