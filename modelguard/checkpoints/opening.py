"""Opens the checkpoint of a folder: an index with its shards, a single file, or an adapter, by content; packed weights dequantised.

The packings are the modules of this package that define `recipes`: adding one is one file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import modelguard.checkpoints
from modelguard.blobs.base import Folder, read, read_small
from modelguard.changes import TRAINER_STATE
from modelguard.checkpoints import torch_zip, unreadable
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.computed import Computed
from modelguard.checkpoints.safetensors import Safetensors, open_safetensors
from modelguard.checkpoints.sharded import SUFFIX, Sharded, open_sharded
from modelguard.checkpoints.torch_zip import TorchZip
from modelguard.discover import modules
from modelguard.documents import json_object
from modelguard.errors import CannotRead, Malformed

PREFERRED = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".onnx", ".npz", ".msgpack", ".pkl")
SHARD = re.compile(r".+-\d{5}-of-\d{5}\.safetensors", re.DOTALL)
TORCH = ("pytorch_model.bin", "adapter_model.bin")  # opened where there are no safetensors
SNIFFED = 1024
NAMED = 2
MAX_CONFIG_BYTES = 1 << 20


def open_checkpoint(folder: Folder, entry: str) -> Checkpoint:
    """The checkpoint that `entry` opens: a safetensors file, or the index of several. Packed weights are shown dequantised."""
    stored = _stored(folder, entry)
    return unpacked(replace(stored, notes=(*stored.notes, *_beside(folder, entry))), folder)


def _stored(folder: Folder, entry: str) -> Safetensors | Sharded | TorchZip:
    if entry.endswith(SUFFIX):
        return open_sharded(folder, entry)
    blob = folder.open(entry)
    if not entry.endswith(".safetensors") and torch_zip.sniff(entry, read(blob, 0, min(SNIFFED, blob.size))):
        return torch_zip.open_torch_zip(blob)
    return open_safetensors(blob)


def unpacked(stored: Checkpoint, folder: Folder) -> Checkpoint:
    """The checkpoint with its packed matrices dequantised; itself where it has none. Raises CannotRead for what cannot be."""
    packings = modules(modelguard.checkpoints, having="recipes")
    config = _quantization_config(folder) if _suspicious(stored) else {}
    recipes = tuple(recipe for packing in packings for recipe in packing.recipes(stored, config))
    taken = {name for recipe in recipes for name in recipe.replaces}
    unreadable.refuse(stored.ref, {name: info for name, info in stored.tensors.items() if name not in taken})
    if not recipes:
        return stored
    counts = Counter(recipe.scheme for recipe in recipes)
    notes = tuple(f"{scheme}, dequantised: {count} {'matrix' if count == 1 else 'matrices'}" for scheme, count in sorted(counts.items()))
    return Computed(stored, recipes, format=f"packed {stored.format}", notes=notes)


def _suspicious(stored: Checkpoint) -> bool:
    """Whether something among the tensors may need the configuration to be understood."""
    return any(info.dtype in ("I8", "I32") or info.dtype.startswith("F8") for info in stored.tensors.values())


def _quantization_config(folder: Folder) -> Mapping[str, Any]:
    """What config.json says of the packing: a claim, empty where there is none or none that can be read."""
    if "config.json" not in folder.sizes or folder.sizes["config.json"] > MAX_CONFIG_BYTES:
        return {}
    try:
        found = json_object(read_small(folder.open("config.json"), MAX_CONFIG_BYTES), f"{folder.ref}/config.json").get(
            "quantization_config"
        )
    except CannotRead:  # the weights are read without it; what is wrong with it is for the rule on papers to say
        return {}
    return found if isinstance(found, dict) else {}


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
    torch_files = [name for name in TORCH if name in folder.sizes]
    if torch_files:
        return torch_files[0]
    others = [name for name in folder.sizes if name.endswith(OTHER_WEIGHTS)]
    found = f" (only {others[0]}, which is not read)" if others else ""
    raise CannotRead(f"{folder.ref}: holds no safetensors file{found}", advice="save the weights as safetensors")


def _beside(folder: Folder, entry: str) -> tuple[str, ...]:
    """One line on other weights in the same folder: a loader that prefers them runs another model than the one that was read."""
    names = [name for name in sorted(folder.sizes) if name.endswith((*OTHER_WEIGHTS, ".safetensors", SUFFIX)) and name != entry]
    others = [name for name in names if "/" not in name and not SHARD.fullmatch(name) and not TRAINER_STATE.fullmatch(name)]
    if not others:
        return ()
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    return (f"other weights stand beside it and were not read: {', '.join(others[:NAMED])}{more}",)
