"""What `torch.save` wrote (`pytorch_model.bin`, `optimizer.pt`, `scheduler.pt`) as data: nothing in it is unpickled or executed.

A file of tensors by name is a checkpoint like any other; any other state is plain values with tensors whose entries can be read.
Checksums are held for the pickle; torch holds none, and a tensor's bytes are the same for it as they are here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelguard.blobs.base import Blob, read
from modelguard.checkpoints.base import OneFile, TensorInfo
from modelguard.checkpoints.dtypes import NUMPY
from modelguard.checkpoints.torch_archive import ADVICE, MAGIC, Entry, content, entries
from modelguard.checkpoints.torch_pickle import MAX_PICKLE_BYTES, load
from modelguard.checkpoints.torch_values import StoredTensor, Value
from modelguard.errors import Malformed

FORMAT = "torch zip"
SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")  # under which trainers put the weights beside other state
MAX_ENTRIES_READ = 1 << 24  # of one tensor that is read whole


@dataclass(frozen=True, slots=True)
class TorchState:
    """The value in a torch archive, and where the bytes of its storages lie."""

    blob: Blob
    value: Value
    starts: Mapping[str, int]  # storage key -> offset in the blob

    def numbers(self, tensor: StoredTensor) -> NDArray[Any]:
        """The entries of a tensor of bounded size, in its own dtype and shape. Raises Malformed."""
        dtype, entries = NUMPY[tensor.dtype], tensor.entries
        if entries > MAX_ENTRIES_READ or not tensor.contiguous:
            raise Malformed(f"{self.blob.name}: a tensor of {entries} entries that is not read whole", advice=ADVICE)
        start = self.starts[tensor.key] + tensor.offset * dtype.itemsize
        return np.frombuffer(read(self.blob, start, entries * dtype.itemsize), dtype=dtype).reshape(tensor.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchZip(OneFile):
    """The tensors of a torch archive over any transport."""

    format: str = FORMAT


def sniff(name: str, head: bytes) -> bool:
    """Whether a file is a zip archive under a name that torch files have, or begins with the entry that torch writes first."""
    return head.startswith(MAGIC) and (name.endswith(SUFFIXES) or b"/data.pkl" in head[:512])


def read_state(blob: Blob) -> TorchState:
    """The value that a file of `torch.save` holds. Raises Malformed, naming the file and what was refused."""
    files = entries(blob)
    order = content(blob, files["byteorder"], 16).strip() if "byteorder" in files else b"little"
    if order != b"little":
        raise Malformed(f"{blob.name}: its numbers are big-endian, which is not read", advice=ADVICE)
    value = load(content(blob, files["data.pkl"], MAX_PICKLE_BYTES), blob.name)
    stored = {name.removeprefix("data/"): entry for name, entry in files.items() if name.startswith("data/")}
    for tensor in tensors_in(value, blob.name):
        _check_storage(tensor, stored, blob.name)
    return TorchState(blob, value, {key: entry.start for key, entry in stored.items()})


def open_torch_zip(blob: Blob) -> TorchZip:
    """The tensors by name that a file of `torch.save` holds. Raises Malformed."""
    state = read_state(blob)
    named, notes = _named(state.value, blob.name)
    tensors, starts = {}, {}
    for name, tensor in sorted(named.items()):
        if not tensor.contiguous:
            what = f"tensor {name[:80]!a} of shape {tensor.shape} is stored with strides {tensor.stride}"
            raise Malformed(f"{blob.name}: {what}, cannot audit", advice=ADVICE)
        size = NUMPY[tensor.dtype].itemsize
        tensors[name] = TensorInfo(name, tensor.dtype, tensor.shape, tensor.entries * size)
        starts[name] = state.starts[tensor.key] + tensor.offset * size
    return TorchZip(blob=blob, tensors=tensors, starts=starts, notes=notes)


def tensors_in(value: Value, name: str) -> Iterator[StoredTensor]:
    """Every tensor of a value, each container looked at once. Raises Malformed for a value that is no tree of any use."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, StoredTensor):
            yield item
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))  # a container that stands in many places, or in itself, costs no more than once
            waiting += item.values() if isinstance(item, dict) else item


def _check_storage(tensor: StoredTensor, stored: Mapping[str, Entry], name: str) -> None:
    entry = stored.get(tensor.key)
    if entry is None or entry.size != tensor.nbytes:
        held = "is not in the archive" if entry is None else f"has {entry.size} bytes, {tensor.nbytes} expected"
        raise Malformed(f"{name}: storage {tensor.key[:20]} {held}", advice="save or fetch it again")


def _named(value: Value, name: str) -> tuple[dict[str, StoredTensor], tuple[str, ...]]:
    """The tensors of a state dict, also where it lies below one of the usual names; entries that are no tensor are noted."""
    if not isinstance(value, dict):
        raise Malformed(f"{name}: holds no tensors by name", advice=ADVICE)
    wrappers = [key for key in WRAPPERS if isinstance(value.get(key), dict)]
    inner = value[wrappers[0]] if wrappers else value
    found = {key: item for key, item in inner.items() if isinstance(key, str) and isinstance(item, StoredTensor)}
    notes = (f"the weights are those under {wrappers[0]!r}",) if wrappers else ()
    twice = len(wrappers) > 1 or (wrappers and any(isinstance(item, StoredTensor) for item in value.values()))
    if twice or not found or any(isinstance(item, dict | list | tuple) for item in inner.values()):
        raise Malformed(f"{name}: holds no plain state dict of tensors by name", advice=ADVICE)
    left = len(inner) - len(found)
    return found, (*notes, *((f"{left} entries that are no tensor are left out",) if left else ()))
