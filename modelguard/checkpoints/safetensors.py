"""safetensors, read strictly: what two readers could read differently is refused, never guessed.

Format: u64 little-endian N, N bytes of JSON {name: {dtype, shape, data_offsets}}, then the data without holes or overlap.
Stricter than the reference library 0.8, which takes duplicate names (the last wins), any rank and a 100 MB header that costs it 2 GB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from modelguard.blobs.base import Blob, read
from modelguard.checkpoints.base import OneFile, TensorInfo
from modelguard.checkpoints.dtypes import SUB_BYTE, itemsize
from modelguard.documents import json_object
from modelguard.errors import Malformed

MAX_HEADER_BYTES = 10_000_000  # a real header takes about 100 bytes a tensor; the format's own limit is ten times as high
MAX_RANK = 32
MAX_SIZE = 2**63 - 1
WHITESPACE = b" \t\r\n"  # the specification wants `{` at once, the reference library takes white space before it
POINTER_START = b"version https://git-lfs.github.com/spec/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Safetensors(OneFile):
    """One safetensors file over any transport."""

    metadata: Mapping[str, str]
    format: str = "safetensors"


def sniff(name: str, head: bytes) -> bool:
    """Whether a file is safetensors by its content, or says so by its name (then what is wrong with it gets said)."""
    plausible = len(head) > 8 and head[8:].lstrip()[:1] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000
    return plausible or name.endswith(".safetensors")


def open_safetensors(blob: Blob) -> Safetensors:
    """The tensors of a safetensors file. Raises Malformed, naming the file and what is wrong with it."""
    header, data_start, notes = _header(blob)
    metadata = _metadata(header, blob.name)
    notes += [] if header else ["holds no tensors"]
    tensors, spans = {}, []
    for name, info in header.items():
        tensor, begin, end, more = _tensor(name, info, blob.name)
        tensors[name] = tensor
        spans.append((begin, end, name))
        notes += more
    _check_tiling(spans, blob.size - data_start, blob.name)
    starts = {name: data_start + begin for begin, _, name in spans}
    return Safetensors(blob=blob, tensors=tensors, starts=starts, notes=tuple(notes), metadata=metadata)


def _header(blob: Blob) -> tuple[dict[str, Any], int, list[str]]:
    """The parsed header, the offset at which the data starts, and what is odd about the header."""
    start = read(blob, 0, min(blob.size, 64))
    length = int.from_bytes(start[:8], "little")
    if length > blob.size - 8 or start[8:].lstrip(WHITESPACE)[:1] not in (b"{", b""):
        _refuse_lookalikes(start, blob)
    if length > blob.size - 8:
        what = f"header of {length} bytes in a file of {blob.size}: cut short or not safetensors"
        raise Malformed(f"{blob.name}: {what}", advice="fetch or save it again")
    if length > MAX_HEADER_BYTES:
        raise Malformed(f"{blob.name}: header of {length} bytes, more than the {MAX_HEADER_BYTES} that are read", advice="split the file")
    raw = read(blob, 8, length)
    notes = [] if raw.startswith(b"{") else ["white space stands before the header"]
    return json_object(raw.lstrip(WHITESPACE), f"{blob.name}: header"), 8 + length, notes


def _refuse_lookalikes(start: bytes, blob: Blob) -> None:
    """Says what the file is where that is plain, so that nobody has to read "header too large"."""
    kinds = {
        b"": "is empty",
        POINTER_START: "is a Git LFS pointer whose object was not downloaded",
        b"<": "is an HTML or XML page, not weights",
        b"PK\x03\x04": "is a zip archive (a torch checkpoint?), not safetensors",
        b"\x80\x02": "is a Python pickle, not safetensors; it was not opened",
        b"\x80\x03": "is a Python pickle, not safetensors; it was not opened",
        b"\x80\x04": "is a Python pickle, not safetensors; it was not opened",
        b"\x80\x05": "is a Python pickle, not safetensors; it was not opened",
        b"GGUF": "is a GGUF file, not safetensors",
    }
    stripped = start.lstrip()
    for magic, what in kinds.items():
        if (magic and stripped.startswith(magic)) or not start:
            raise Malformed(f"{blob.name}: {what}", advice="run `git lfs pull`" if "LFS" in what else "save the weights as safetensors")
    if len(start) < 8 or not any(start):
        raise Malformed(f"{blob.name}: {blob.size} bytes that are no safetensors file", advice="save or fetch it again")


def _metadata(header: dict[str, Any], name: str) -> dict[str, str]:
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(type(value) is str for value in metadata.values()):
        raise Malformed(f"{name}: __metadata__ is not a map of strings", advice="save it again")
    return metadata


def _tensor(name: str, info: Any, file: str) -> tuple[TensorInfo, int, int, list[str]]:
    """One header entry, checked: the tensor, where its bytes begin and end, and oddities worth a note."""
    where = f"{file}: tensor {name[:80]!a}"
    if not isinstance(info, dict) or not {"dtype", "shape", "data_offsets"} <= info.keys():
        raise Malformed(f"{where}: needs dtype, shape and data_offsets")
    dtype, shape, offsets = info["dtype"], info["shape"], info["data_offsets"]
    if not isinstance(dtype, str) or not _integers(shape) or not _integers(offsets) or len(offsets) != 2:
        raise Malformed(f"{where}: dtype, shape or data_offsets have the wrong type")
    if len(shape) > MAX_RANK:
        raise Malformed(f"{where}: {len(shape)} dimensions, at most {MAX_RANK} are read")
    nbytes = _nbytes(dtype, shape, where)
    if offsets[1] - offsets[0] != nbytes:
        raise Malformed(f"{where}: {offsets[1] - offsets[0]} bytes for a {dtype} of shape {shape}, {nbytes} expected")
    notes = [f"tensor {name[:80]!a} has unknown header keys"] if info.keys() - {"dtype", "shape", "data_offsets"} else []
    notes += [f"tensor name {name[:80]!a} is unusual"] if not name or not name.isprintable() else []
    return TensorInfo(name, dtype, tuple(shape), nbytes), offsets[0], offsets[1], notes


def _nbytes(dtype: str, shape: list[int], where: str) -> int:
    """Bytes of a tensor. Checked without multiplying hostile numbers by zero first: [0, huge] is as wrong as [huge, 0]."""
    if dtype in SUB_BYTE:
        raise Malformed(f"{where}: dtype {dtype} packs several entries into a byte, cannot audit", advice="re-save it in a whole-byte type")
    try:
        size = itemsize(dtype)
    except Malformed as error:
        raise Malformed(f"{where}: {error}", advice=error.advice) from error
    if size * prod(max(length, 1) for length in shape) > MAX_SIZE:
        raise Malformed(f"{where}: shape {shape} overflows")
    return size * prod(shape)


def _integers(value: Any) -> bool:
    return isinstance(value, list) and all(type(entry) is int and 0 <= entry <= MAX_SIZE for entry in value)


def _check_tiling(spans: list[tuple[int, int, str]], length: int, file: str) -> None:
    """Tensors must cover the data exactly: no holes, no overlap, nothing behind them (the format's defence against polyglots)."""
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            word = "overlaps its neighbour" if begin < position else "leaves a hole before it"
            raise Malformed(f"{file}: tensor {name[:80]!a} {word}")
        position = end
    if position != length:
        what = "is cut short" if position > length else "has bytes behind its last tensor"
        raise Malformed(f"{file}: {what} ({length} bytes of data, {position} declared)", advice="save or fetch it again")
