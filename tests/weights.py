"""Checkpoints for tests, in the bytes of the format: right ones, and ones with any header one likes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from modelguard.blobs.base import read
from modelguard.blobs.local import LocalBlob
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.safetensors import Safetensors, open_safetensors

Arrays = Mapping[str, NDArray[Any]]

# Every whole-byte type of the format, with the numpy type of its entries; written down here anew, to test the package's own table.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("bool"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def raw(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file with this header (bytes and text as they are, anything else as JSON), which may lie about its length."""
    text = header if isinstance(header, bytes) else header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: object, shape: object, begin: object, end: object) -> dict[str, object]:
    """One tensor's place in a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def encode(arrays: Arrays, metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file of these arrays, in their order."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    data = b""
    for name, array in arrays.items():
        content = np.ascontiguousarray(array).tobytes()
        header[name] = entry(NAMES[array.dtype], list(array.shape), len(data), len(data) + len(content))
        data += content
    return raw(header, data)


def random(seed: int = 0, shapes: Mapping[str, tuple[int, ...]] | None = None, dtype: str = "F32") -> dict[str, NDArray[Any]]:
    """Small random weights."""
    rng = np.random.default_rng(seed)
    shapes = shapes or {"model.embed.weight": (16, 8), "model.layer.0.weight": (8, 8), "model.norm.weight": (8,)}
    return {name: rng.normal(size=shape).astype(DTYPES[dtype]) for name, shape in shapes.items()}


def index(weight_map: object, **more: object) -> bytes:
    """A shard index."""
    return json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map, **more}).encode()


def sharded(parts: Sequence[Arrays], stem: str = "model") -> dict[str, bytes]:
    """A checkpoint of one file a part, with its index: contents by file name."""
    names = [f"{stem}-{number:05}-of-{len(parts):05}.safetensors" for number in range(1, len(parts) + 1)]
    weight_map = {tensor: name for name, part in zip(names, parts, strict=True) for tensor in part}
    files = {name: encode(part) for name, part in zip(names, parts, strict=True)}
    return {**files, f"{stem}.safetensors.index.json": index(weight_map)}


def adapter(modules: Mapping[str, tuple[int, int]], rank: int = 4, prefix: str = "base_model.model.") -> dict[str, NDArray[Any]]:
    """Low-rank factors for modules of (out, in) entries, as PEFT names them."""
    rng = np.random.default_rng(0)
    factors: dict[str, NDArray[Any]] = {}
    for module, (out, into) in modules.items():
        factors[f"{prefix}{module}.lora_A.weight"] = rng.normal(size=(rank, into)).astype(np.float32)
        factors[f"{prefix}{module}.lora_B.weight"] = np.zeros((out, rank), dtype=np.float32)
    return factors


def write(directory: Path, files: Mapping[str, bytes]) -> Path:
    """Puts files into a directory, which is made where it is not there."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def opened(path: Path, content: bytes) -> Safetensors:
    """What our reader makes of these bytes."""
    path.write_bytes(content)
    return open_safetensors(LocalBlob(path, name=path.name))


def content_of(checkpoint: Checkpoint) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every tensor's dtype, shape and bytes."""
    contents = {}
    for name, info in checkpoint.tensors.items():
        buffer = bytearray(info.nbytes)
        checkpoint.readinto(name, 0, memoryview(buffer))
        contents[name] = (info.dtype, info.shape, bytes(buffer))
    return contents


def whole(path: Path) -> bytes:
    """A file, read through the transport."""
    blob = LocalBlob(path)
    return read(blob, 0, blob.size)
