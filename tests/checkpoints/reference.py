"""The reference library, byte for byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import safetensors

from tests.weights import DTYPES, Arrays


def reference(content: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """What the reference library reads."""
    listed: list[tuple[str, dict[str, Any]]] = safetensors.deserialize(content)  # type: ignore[no-untyped-call]
    return {name: (tensor["dtype"], tuple(tensor["shape"]), bytes(tensor["data"])) for name, tensor in listed}


def written(arrays: Arrays) -> bytes:
    """A file as the reference library writes it."""
    kept = {name: np.frombuffer(array.tobytes() or b"\0", dtype=np.uint8).copy() for name, array in arrays.items()}
    names = {dtype: name for name, dtype in DTYPES.items()}
    specs = {
        name: safetensors.TensorSpec(
            dtype=LIBRARY.get(names[array.dtype], array.dtype.name),
            shape=list(array.shape),
            data_ptr=kept[name].ctypes.data,
            data_len=array.nbytes,
        )
        for name, array in arrays.items()
    }
    return bytes(safetensors.serialize(specs))


LIBRARY = {"F8_E4M3": "float8_e4m3fn", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz"}
