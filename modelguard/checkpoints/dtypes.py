"""Storage types of checkpoints, and how their entries become float32.

Names and widths are those of the safetensors format. Sub-byte types are known by name only: they cannot be audited, and say so.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from modelguard.errors import Malformed

NUMPY: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "I16": np.dtype(np.int16),
    "U16": np.dtype(np.uint16),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I32": np.dtype(np.int32),
    "U32": np.dtype(np.uint32),
    "F32": np.dtype(np.float32),
    "C64": np.dtype(np.complex64),
    "F64": np.dtype(np.float64),
    "I64": np.dtype(np.int64),
    "U64": np.dtype(np.uint64),
}
SUB_BYTE = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
FLOATING = frozenset(name for name in NUMPY if name.startswith(("F", "BF")))
PRECISION = {"F64": 53, "F32": 24, "F16": 11, "BF16": 8, "F8_E4M3": 4, "F8_E4M3FNUZ": 4, "F8_E5M2": 3, "F8_E5M2FNUZ": 3, "F8_E8M0": 1}


def itemsize(dtype: str) -> int:
    """Bytes an entry takes. Raises Malformed for a type that cannot be audited."""
    if dtype not in NUMPY:
        raise Malformed(f"unknown dtype {dtype[:20]!r}, cannot audit", advice="re-save the tensor in a whole-byte type")
    return NUMPY[dtype].itemsize


def to_float32(raw: NDArray[np.uint8], dtype: str, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """The entries of `raw` (bytes) as float32, written into `out` where given. Complex entries become their (real, imaginary) pairs."""
    if dtype == "BF16":  # a bfloat16 is the upper half of a float32: a shift is four times as fast as a cast
        bits = raw.view(np.uint16)
        target = np.empty(bits.size, dtype=np.float32) if out is None else out
        np.left_shift(bits, 16, out=target.view(np.uint32), dtype=np.uint32)
        return target
    entries = raw.view(np.float32) if dtype == "C64" else raw.view(NUMPY[dtype])
    target = np.empty(entries.size, dtype=np.float32) if out is None else out
    with np.errstate(over="ignore", invalid="ignore"):
        np.copyto(target, entries, casting="unsafe")
    return target
