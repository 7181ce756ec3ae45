"""A checkpoint in several safetensors files under one `*.index.json`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from modelguard.blobs.base import Folder, read_small
from modelguard.checkpoints.base import TensorInfo
from modelguard.checkpoints.safetensors import Safetensors, open_safetensors
from modelguard.documents import json_object
from modelguard.errors import Malformed

SUFFIX = ".safetensors.index.json"
MAX_INDEX_BYTES = 10_000_000
MAX_SHARDS = 2_000
SHARD_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}\.safetensors")


@dataclass(frozen=True, slots=True)
class Sharded:
    """Tensors of several files behind one name."""

    ref: str
    tensors: Mapping[str, TensorInfo]
    shards: Mapping[str, Safetensors]  # by tensor name
    notes: tuple[str, ...]
    format: str = "sharded safetensors"
    digest: str | None = None

    @property
    def verified(self) -> bool:
        return all(shard.verified for shard in self.shards.values())

    def readinto(self, name: str, start: int, buffer: memoryview) -> None:
        self.shards[name].readinto(name, start, buffer)


def shard_names(index: bytes, name: str) -> Mapping[str, str]:
    """Tensor name to shard file name, as an index says. Only bare file names are taken: an index names neighbours, not paths."""
    weight_map = json_object(index, name).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise Malformed(f"{name}: has no weight_map", advice="save the checkpoint again")
    for shard in set(map(repr, weight_map.values())):
        if not SHARD_NAME.fullmatch(shard.strip("'")) or ".." in shard:
            raise Malformed(f"{name}: names a shard {shard[:80]} that is no plain file name beside it")
    if len(set(weight_map.values())) > MAX_SHARDS:
        raise Malformed(f"{name}: names more than {MAX_SHARDS} shards")
    return weight_map


def open_sharded(folder: Folder, index_name: str) -> Sharded:
    """The checkpoint behind an index. Raises Malformed or CannotFetch when a shard is missing or disagrees with the index."""
    index = folder.open(index_name)
    weight_map = shard_names(read_small(index, MAX_INDEX_BYTES), index.name)
    files = sorted(set(weight_map.values()))
    absent = [file for file in files if file not in folder.sizes]
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        listed = ", ".join(absent[:3]) + more
        raise Malformed(f"{index.name}: names missing shards: {listed}", advice="commit every shard that the index names")
    opened = {file: open_safetensors(folder.open(file)) for file in files}
    _check_agreement(weight_map, opened, index.name)
    shards = {tensor: opened[file] for tensor, file in sorted(weight_map.items())}
    tensors = {tensor: shard.tensors[tensor] for tensor, shard in shards.items()}
    return Sharded(ref=index.name, tensors=tensors, shards=shards, notes=_notes(folder, index_name, opened))


def _check_agreement(weight_map: Mapping[str, str], opened: Mapping[str, Safetensors], name: str) -> None:
    for tensor, file in weight_map.items():
        if tensor not in opened[file].tensors:
            raise Malformed(f"{name}: tensor {tensor[:80]!a} is not in {file}", advice="save the checkpoint again")
    homes = Counter(tensor for shard in opened.values() for tensor in shard.tensors)
    for tensor, count in homes.items():
        if count > 1:
            raise Malformed(f"{name}: tensor {tensor[:80]!a} stands in {count} shards: readers would differ")
        if tensor not in weight_map:
            raise Malformed(f"{name}: tensor {tensor[:80]!a} is in a shard but not in the index: loaders ignore it")


def _notes(folder: Folder, index_name: str, opened: Mapping[str, Safetensors]) -> tuple[str, ...]:
    shard = re.compile(re.escape(index_name.removesuffix(SUFFIX)) + r"-\d{5}-of-\d{5}\.safetensors")
    stray = [name for name in folder.sizes if shard.fullmatch(name) and name not in opened]
    notes = tuple(note for shard in opened.values() for note in shard.notes)
    return (*notes, f"shards beside the index that are not in it: {len(stray)}") if stray else notes
