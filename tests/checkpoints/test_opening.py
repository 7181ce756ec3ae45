"""Which file of a folder opens its model, and when nobody can say."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.opening import find_entry, open_checkpoint
from modelguard.errors import CannotRead, Malformed
from tests.weights import encode, random, sharded, write

SINGLE = encode(random())
SHARDS = sharded([random(1, {"a": (2,)}), random(2, {"b": (2,)})])
FOUND = {
    "model.safetensors": {"model.safetensors": SINGLE, "other.safetensors": SINGLE, "README.md": b""},
    "model.safetensors.index.json": SHARDS,
    "adapter_model.safetensors": {"adapter_model.safetensors": SINGLE, "extra.safetensors": SINGLE},
    "weights.safetensors": {"weights.safetensors": SINGLE, "pytorch_model.bin": b"x"},
    "model.fp16.safetensors.index.json": sharded([random(1, {"a": (2,)})], stem="model.fp16"),
}


@pytest.mark.parametrize("entry", FOUND)
def test_entry_is_found_and_opens(entry: str, tmp_path: Path) -> None:
    folder = LocalFolder(write(tmp_path, FOUND[entry]), ref="here")
    assert find_entry(folder) == entry
    assert open_checkpoint(folder, entry).tensors


def test_a_file_and_an_index_side_by_side_are_refused(tmp_path: Path) -> None:
    folder = LocalFolder(write(tmp_path, {**SHARDS, "model.safetensors": SINGLE}), ref="here")
    with pytest.raises(Malformed, match="loaders would differ") as caught:
        find_entry(folder)
    assert caught.value.advice == "keep one, or name the file"
    assert open_checkpoint(folder, "model.safetensors").tensors
    assert open_checkpoint(folder, "model.safetensors.index.json").tensors


def test_several_candidates_are_named(tmp_path: Path) -> None:
    folder = LocalFolder(write(tmp_path, {"a.safetensors": SINGLE, "b.safetensors": SINGLE}), ref="here")
    with pytest.raises(CannotRead, match="here: holds 2 checkpoints") as caught:
        find_entry(folder)
    assert caught.value.advice == "name one: a.safetensors, b.safetensors"


@pytest.mark.parametrize(
    ("files", "said"), [({}, "holds no safetensors file"), ({"pytorch_model.bin": b"x"}, "only pytorch_model.bin, which is not read")]
)
def test_nothing_to_open(files: dict[str, bytes], said: str, tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match=said) as caught:
        find_entry(LocalFolder(write(tmp_path, files), ref="here"))
    assert caught.value.advice == "save the weights as safetensors"


def test_an_entry_that_is_not_there(tmp_path: Path) -> None:
    for entry in ("model.safetensors", "model.safetensors.index.json"):
        with pytest.raises(CannotRead, match="here: has no file"):
            open_checkpoint(LocalFolder(tmp_path, ref="here"), entry)
