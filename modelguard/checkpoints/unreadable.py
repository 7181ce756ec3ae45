"""Packings that are known by name and not dequantised. They are refused: integers that stand for weights are not compared as if they were.

Whatever else stores a matrix of weights in integers is refused as well, because nothing here knows what they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from modelguard.checkpoints.base import TensorInfo
from modelguard.errors import CannotRead

ADVICE = "save the weights dequantised, in float16 or bfloat16"
INTEGERS = frozenset({"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"})
WEIGHTS = re.compile(r"(?:^|[._])q?weight$")

# name of a packing -> (a tensor's name ends like this, in one of these types, with one of these endings beside it)
KNOWN: Mapping[str, tuple[str, frozenset[str], tuple[str, ...]]] = {
    "AQLM": (".codes", INTEGERS, (".codebooks",)),
    "AWQ in the GEMV-fast layout": (".qweight", frozenset({"I16"}), (".qzeros", ".scales")),
    "EETQ": (".weight", frozenset({"I8"}), (".weight_scales",)),
    "EXL2": (".q_weight", frozenset({"I32"}), (".q_scale",)),
    "EXL3": (".trellis", frozenset({"I16"}), (".suh",)),
    "GPTQ in the Marlin layout": (".B", frozenset({"I32"}), (".s",)),
    "HQQ": (".W_q", INTEGERS, (".scale",)),
    "MLX": (".weight", frozenset({"U32"}), (".scales",)),
    "MXFP4": ("_blocks", frozenset({"U8"}), ("_scales",)),
    "NVFP4": (".weight", frozenset({"U8"}), (".weight_scale_2",)),
    "NVFP4 or MXFP4 of compressed-tensors": (".weight_packed", frozenset({"U8"}), (".weight_scale",)),
    "Quanto": (".weight._data", INTEGERS, (".weight._scale",)),
    "QuIP#": (".Qidxs", INTEGERS, (".SU",)),
    "sparse bitmasks": (".bitmask", frozenset({"U8"}), (".compressed",)),
    "TorchAO": ("_weight_qdata", INTEGERS, ("_weight_scale",)),
    "VPTQ": (".indices", INTEGERS, (".centroids.weight",)),
}


def refuse(ref: str, tensors: Mapping[str, TensorInfo]) -> None:
    """Raises CannotRead, by its name where it has one, for a packing among the tensors that no reader took."""
    for name, info in sorted(tensors.items()):
        for packing, (ending, types, beside) in KNOWN.items():
            stem = name.removesuffix(ending)
            if name.endswith(ending) and info.dtype in types and all(stem + other in tensors for other in beside):
                raise CannotRead(f"{ref}: tensor {name[:80]!a} is packed as {packing}, which is not read", advice=ADVICE)
        if WEIGHTS.search(name) and len(info.shape) >= 2 and info.dtype in INTEGERS:
            what = f"tensor {name[:80]!a} holds {info.dtype} of shape {info.shape}, in a packing that the tensors beside it do not explain"
            raise CannotRead(f"{ref}: {what}", advice=ADVICE)
