"""Checkpoints in several files: an index names neighbours, all of them are there, and every tensor has one home."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.opening import open_checkpoint
from modelguard.checkpoints.sharded import MAX_SHARDS, Sharded, open_sharded, shard_names
from modelguard.errors import CannotRead, Malformed
from tests.weights import content_of, encode, index, opened, random, sharded, write

INDEX = "model.safetensors.index.json"
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
PARTS = (random(1, {"a": (4, 4), "b": (4,)}), random(2, {"c": (2, 8)}))
TRAVERSALS = (
    *("../model.safetensors", "../../etc/passwd", "/etc/passwd", "/model.safetensors", "a/b.safetensors", "./model.safetensors"),
    *("..\\model.safetensors", "a\\b.safetensors", "C:\\model.safetensors", "C:model.safetensors", "\\\\host\\share\\m.safetensors"),
    *("//host/share/m.safetensors", "file:///etc/passwd", "https://example.org/m.safetensors", "~/m.safetensors", "$HOME.safetensors"),
    *(
        "",
        ".",
        "..",
        ".safetensors",
        "a..b.safetensors",
        "model.safetensors\0",
        "mo\0del.safetensors",
        "model.safetensors\n",
        " m.safetensors",
    ),
    *("m.safetensors ", "m.bin", "m.safetensors.exe", "m.SAFETENSORS", "'m.safetensors'", '"m.safetensors"', "mödel.safetensors"),
    *("m\u202e.safetensors", "m?.safetensors", "*.safetensors", "n" * 201 + ".safetensors", "%2e%2e%2fm.safetensors", "-\t.safetensors"),
)
VALUES = (None, 1, True, 1.5, ["m.safetensors"], {"m.safetensors": 1})


def folder(path: Path, files: Mapping[str, bytes]) -> LocalFolder:
    return LocalFolder(write(path, files), ref="here")


def refusal(path: Path, files: Mapping[str, bytes]) -> CannotRead:
    with pytest.raises(CannotRead) as caught:
        open_sharded(folder(path, files), INDEX)
    assert INDEX in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


def test_tensors_of_all_shards_stand_behind_one_name(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(folder(tmp_path, sharded(PARTS)), INDEX)
    whole = opened(tmp_path / "whole", encode({**PARTS[0], **PARTS[1]}))
    assert isinstance(checkpoint, Sharded)
    assert content_of(checkpoint) == content_of(whole)
    assert list(checkpoint.tensors) == ["a", "b", "c"]
    assert (checkpoint.ref, checkpoint.notes, checkpoint.digest, checkpoint.verified) == (f"here/{INDEX}", (), None, True)
    checkpoint.shards["c"].blob.verified = False  # type: ignore[misc]
    assert not checkpoint.verified


@pytest.mark.parametrize("name", TRAVERSALS)
def test_an_index_names_neighbours_and_no_paths(name: str) -> None:
    with pytest.raises(Malformed, match="no plain file name") as caught:
        shard_names(index({"a": "model.safetensors", "b": name}), "x.index.json")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("value", VALUES)
def test_a_shard_name_is_text(value: object) -> None:
    with pytest.raises(Malformed, match="no plain file name"):
        shard_names(index({"a": value}), "x")


@pytest.mark.parametrize(
    "name", ["m.safetensors", ONE, "model.fp16-00001-of-00002.safetensors", "a_b-1.safetensors", "n" * 200 + ".safetensors"]
)
def test_plain_names_are_taken(name: str) -> None:
    assert shard_names(index({"a": name}), "x") == {"a": name}


@pytest.mark.parametrize("weight_map", [None, {}, [], "model.safetensors", 1])
def test_an_index_has_a_weight_map(weight_map: object) -> None:
    with pytest.raises(Malformed, match="has no weight_map"):
        shard_names(index(weight_map), "x")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"weight_map":{"a":"m.safetensors","a":"n.safetensors"}}', b"[" * 10**6])
def test_a_damaged_index_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed, match=r"^x"):
        shard_names(data, "x")


def test_too_many_shards() -> None:
    many = {str(number): f"{number}.safetensors" for number in range(MAX_SHARDS + 1)}
    with pytest.raises(Malformed, match="more than 2000 shards"):
        shard_names(index(many), "x")
    many.popitem()
    assert len(shard_names(index(many), "x")) == MAX_SHARDS


def test_missing_shards_are_listed(tmp_path: Path) -> None:
    files = sharded([random(number, {f"t{number}": (2,)}) for number in range(6)])
    kept = {name: content for name, content in files.items() if "00001" in name or name == INDEX}
    error = refusal(tmp_path, kept)
    assert "model-00002-of-00006.safetensors, model-00003-of-00006.safetensors, model-00004-of-00006.safetensors and 2 more" in str(error)
    assert error.advice


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    files = sharded(PARTS)
    assert "stands in 2 shards" in str(refusal(tmp_path, {**files, TWO: encode({**PARTS[1], "a": PARTS[0]["a"]})}))


def test_a_tensor_that_the_index_leaves_out(tmp_path: Path) -> None:
    decoy = encode({**PARTS[1], "decoy": PARTS[0]["a"]})
    assert "'decoy' is in a shard but not in the index" in str(refusal(tmp_path, {**sharded(PARTS), TWO: decoy}))


def test_a_tensor_that_its_shard_does_not_hold(tmp_path: Path) -> None:
    files = {**sharded(PARTS), INDEX: index({"a": ONE, "b": ONE, "c": TWO, "ghost": TWO})}
    assert f"'ghost' is not in {TWO}" in str(refusal(tmp_path, files))
    swapped = {**sharded(PARTS), INDEX: index({"a": ONE, "b": TWO, "c": TWO})}
    assert f"'b' is not in {TWO}" in str(refusal(tmp_path, swapped))


def test_a_damaged_shard_names_itself(tmp_path: Path) -> None:
    files = sharded(PARTS)
    with pytest.raises(Malformed, match=TWO):
        open_sharded(folder(tmp_path, {**files, TWO: files[TWO][:-1]}), INDEX)


def test_stray_shards_are_noted_but_not_those_of_another_model(tmp_path: Path) -> None:
    stray = {"model-00003-of-00003.safetensors": encode(PARTS[0])}
    other = sharded(PARTS, stem="model.fp16")
    assert open_sharded(folder(tmp_path, {**sharded(PARTS), **stray, **other}), INDEX).notes == (
        "shards beside the index that are not in it: 1",
    )
    assert open_sharded(folder(tmp_path, {}), "model.fp16.safetensors.index.json").notes == ()


def test_notes_of_shards_are_kept(tmp_path: Path) -> None:
    part = random(1, {"odd\nname": (2,)})
    assert open_sharded(folder(tmp_path, sharded([part, PARTS[1]])), INDEX).notes == ("tensor name 'odd\\nname' is unusual",)
