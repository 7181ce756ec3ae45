"""Opens the checkpoint of a folder: an index with its shards, a single file, or an adapter, by content."""

from __future__ import annotations

from modelguard.blobs.base import Folder
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.checkpoints.sharded import SUFFIX, open_sharded
from modelguard.errors import CannotRead, Malformed

PREFERRED = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".onnx", ".npz", ".msgpack", ".pkl")


def open_checkpoint(folder: Folder, entry: str) -> Checkpoint:
    """The checkpoint that `entry` opens: a safetensors file, or the index of several."""
    return open_sharded(folder, entry) if entry.endswith(SUFFIX) else open_safetensors(folder.open(entry))


def find_entry(folder: Folder) -> str:
    """The file that opens a folder's one model. Raises CannotRead where there is none, or where loaders would differ."""
    if {"model.safetensors", "model.safetensors.index.json"} <= folder.sizes.keys():
        what = "holds both model.safetensors and an index: loaders would differ"
        raise Malformed(f"{folder.ref}: {what}", advice="keep one, or name the file")
    preferred = [name for name in PREFERRED if name in folder.sizes]
    if preferred:
        return preferred[0]
    indexes = [name for name in folder.sizes if name.endswith(SUFFIX)]
    singles = [name for name in folder.sizes if name.endswith(".safetensors")]
    candidates = indexes or singles
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise CannotRead(f"{folder.ref}: holds {len(candidates)} checkpoints", advice=f"name one: {', '.join(sorted(candidates)[:4])}")
    others = [name for name in folder.sizes if name.endswith(OTHER_WEIGHTS)]
    found = f" (only {others[0]}, which is not read)" if others else ""
    raise CannotRead(f"{folder.ref}: holds no safetensors file{found}", advice="save the weights as safetensors")
