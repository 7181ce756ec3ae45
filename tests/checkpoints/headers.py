"""Files that a safetensors reader refuses, each under the name of what is wrong with it, and those that it takes."""

from __future__ import annotations

import json
import pickle
import zipfile
from io import BytesIO

from modelguard.checkpoints.dtypes import SUB_BYTE
from modelguard.checkpoints.safetensors import MAX_HEADER_BYTES
from tests.repositories import pointer
from tests.weights import entry, raw

ONE = entry("F32", [2], 0, 8)
TEXT = json.dumps(ONE)
HUGE = 2**63 - 1
DATA = b"\0" * 8
LIMIT = "too-large"


def zipped() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({"a": 1}))
    return buffer.getvalue()


LOOKALIKES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "pointer": (pointer(b"x"), "Git LFS pointer"),
    "html": (b"<!DOCTYPE html><html><body>Sign in</body></html>" * 4, "HTML"),
    "html-lower": (b"\n <html><head><title>404</title></head></html>" * 4, "HTML"),
    "xml": (b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code></Error>', "XML"),
    "zip": (zipped(), "zip archive"),
    **{f"pickle-{number}": (pickle.dumps({"a": [1.5] * 99}, protocol=number), "pickle") for number in (2, 3, 4, 5)},
    "gguf": (b"GGUF" + b"\3\0\0\0" + b"\0" * 200, "GGUF"),
    "zeros": (b"\0" * 4096, "no safetensors"),
    "one-byte": (b"{", "no safetensors"),
    "seven-bytes": (b"\x10\0\0\0\0\0\0", "no safetensors"),
}


REJECTED: dict[str, bytes] = {
    "no-header": (0).to_bytes(8, "little"),
    "header-beyond-file": raw({"a": ONE}, DATA, length=10_000),
    "header-2^64-1": raw({"a": ONE}, DATA, length=2**64 - 1),
    "header-one-short": raw({"a": ONE}, DATA, length=len(json.dumps({"a": ONE})) - 1),
    "header-one-long": raw({"a": ONE}, DATA, length=len(json.dumps({"a": ONE})) + 1),
    LIMIT: raw(b"{" + b" " * MAX_HEADER_BYTES + b"}"),
    "duplicate": raw('{"a":' + TEXT + ',"a":' + TEXT + "}", DATA),
    "duplicate-other-dtype": raw('{"a":' + TEXT + ',"a":' + TEXT.replace("F32", "I32") + "}", DATA),
    "duplicate-escaped": raw('{"a":' + TEXT + ',"\\u0061":' + TEXT + "}", DATA),
    "duplicate-in-tensor": raw('{"a":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}}', DATA),
    "duplicate-metadata-key": raw('{"__metadata__":{"k":"1","\\u006b":"2"},"a":' + TEXT + "}", DATA),
    "duplicate-metadata": raw('{"__metadata__":{},"__metadata__":{},"a":' + TEXT + "}", DATA),
    "metadata-number": raw({"__metadata__": {"k": 1}, "a": ONE}, DATA),
    "metadata-nested": raw({"__metadata__": {"k": {"a": "b"}}, "a": ONE}, DATA),
    "metadata-list": raw({"__metadata__": [], "a": ONE}, DATA),
    "metadata-surrogate": raw('{"__metadata__":{"k":"\\ud800"},"a":' + TEXT + "}", DATA),
    "hole-at-start": raw({"a": entry("F32", [1], 4, 8)}, DATA),
    "hole-between": raw({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 6, 8)}, DATA),
    "overlap": raw({"a": entry("U8", [5], 0, 5), "b": entry("U8", [5], 3, 8)}, DATA),
    "same-range-ten-times": raw({str(number): ONE for number in range(10)}, DATA),
    "trailing-bytes": raw({"a": ONE}, DATA + b"polyglot"),
    "cut-short": raw({"a": ONE}, DATA[:-1]),
    "no-tensors-but-data": raw({}, DATA),
    "zero-size-behind-end": raw({"a": ONE, "b": entry("U8", [0], 99, 99)}, DATA),
    "reversed-offsets": raw({"a": entry("F32", [2], 8, 0)}, DATA),
    "size-mismatch": raw({"a": entry("F32", [3], 0, 8)}, DATA),
    "negative-shape": raw({"a": entry("F32", [-2], 0, 8)}, DATA),
    "two-negatives": raw({"a": entry("F32", [-2, -1], 0, 8)}, DATA),
    "negative-offset": raw({"a": entry("F32", [2], -8, 0)}, DATA),
    "minus-zero": raw('{"a":{"dtype":"U8","shape":[0],"data_offsets":[-0,0]}}'),
    "bool-shape": raw({"a": entry("U8", [True], 0, 1)}, b"x"),
    "bool-offset": raw({"a": entry("U8", [1], False, True)}, b"x"),
    "float-shape": raw({"a": entry("F32", [2.0], 0, 8)}, DATA),
    "float-offset": raw({"a": entry("F32", [2], 0, 8.0)}, DATA),
    "exponent": raw('{"a":{"dtype":"F32","shape":[2e0],"data_offsets":[0,8]}}', DATA),
    "string-shape": raw({"a": entry("F32", "2", 0, 8)}, DATA),
    "null-shape": raw({"a": entry("F32", None, 0, 8)}, DATA),
    "nested-shape": raw({"a": entry("F32", [[2]], 0, 8)}, DATA),
    "three-offsets": raw({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4, 8]}}, DATA),
    "missing-offsets": raw({"a": {"dtype": "F32", "shape": [2]}}, DATA),
    "missing-dtype": raw({"a": {"shape": [2], "data_offsets": [0, 8]}}, DATA),
    "tensor-is-list": raw({"a": [ONE]}, DATA),
    "tensor-is-null": raw({"a": None}, DATA),
    "huge-offset": raw({"a": entry("F32", [2], 2**64 - 8, 2**64)}, DATA),
    "shape-overflow": raw({"a": entry("F32", [2**62, 4], 0, 0)}),
    "zero-first-overflow": raw({"a": entry("F32", [0, 2**64 - 1, 2**64 - 1], 0, 0)}),
    "zero-first-overflow-in-range": raw({"a": entry("F32", [0, HUGE, HUGE], 0, 0)}),
    "zero-last-overflow": raw({"a": entry("F32", [HUGE, HUGE, 0], 0, 0)}),
    "digits": raw('{"a":{"dtype":"F32","shape":[%s],"data_offsets":[0,8]}}' % ("9" * 100_000), DATA),
    "rank-33": raw({"a": entry("U8", [1] * 33, 0, 1)}, b"x"),
    "rank-100000": raw({"a": entry("U8", [1] * 100_000, 0, 1)}, b"x"),
    "nan": raw('{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', DATA),
    "infinity": raw('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,Infinity]}}', DATA),
    "minus-infinity": raw('{"a":{"dtype":"F32","shape":[2],"data_offsets":[-Infinity,8]}}', DATA),
    "deep-lists": raw('{"a":' + "[" * 1_000_000, DATA),
    "deep-objects": raw('{"a":' * 500_000, DATA),
    "surrogate-name": raw('{"\\ud800":' + TEXT + "}", DATA),
    "surrogate-pair-reversed": raw('{"\\udc00\\ud800":' + TEXT + "}", DATA),
    "not-utf8": raw(b'{"\xff":' + json.dumps(ONE).encode() + b"}", DATA),
    "utf8-surrogate": raw(b'{"\xed\xa0\x80":' + json.dumps(ONE).encode() + b"}", DATA),
    "utf16": raw(json.dumps({"a": ONE}).encode("utf-16"), DATA),
    "bom": raw(b"\xef\xbb\xbf" + json.dumps({"a": ONE}).encode(), DATA),
    "control-character-in-name": raw(b'{"a\nb":' + json.dumps(ONE).encode() + b"}", DATA),
    "list": raw(b"[]"),
    "string": raw(b'"a"'),
    "only-spaces": raw(b" " * 100),
    "comment": raw(b'{/**/"a":1}'),
    "comma": raw(b'{"a":%s,}' % json.dumps(ONE).encode(), DATA),
    "two-documents": raw(json.dumps({"a": ONE}).encode() + b"{}", DATA),
    "nul-padding": raw(json.dumps({"a": ONE}).encode() + b"\0\0", DATA),
    "unknown-dtype": raw({"a": entry("F128", [1], 0, 16)}, DATA * 2),
    "lower-case-dtype": raw({"a": entry("f32", [2], 0, 8)}, DATA),
    "dtype-surrogate": raw('{"a":{"dtype":"\\ud800","shape":[2],"data_offsets":[0,8]}}', DATA),
    "dtype-list": raw({"a": entry(["F32"], [2], 0, 8)}, DATA),
    **{f"sub-byte-{dtype}": raw({"a": entry(dtype, [8], 0, bits)}, b"\0" * bits) for dtype, bits in SUB_BYTE.items()},
}
ACTIONABLE = ("header", "trailing", "cut", "unknown-dtype", "sub-byte", "duplicate", LIMIT, "metadata")


ACCEPTED: dict[str, bytes] = {
    "one": raw({"a": ONE}, DATA),
    "scalar": raw({"a": entry("F64", [], 0, 8)}, DATA),
    "empty-tensor": raw({"a": entry("F32", [2, 0], 0, 0), "b": ONE}, DATA),
    "empty-tensor-at-end": raw({"b": ONE, "a": entry("F32", [0], 8, 8)}, DATA),
    "none": raw({}),
    "metadata": raw({"__metadata__": {"format": "pt", "": ""}, "a": ONE}, DATA),
    "trailing-spaces": raw(json.dumps({"a": ONE}).encode() + b" " * 7, DATA),
    "leading-spaces": raw(b" \n\t" + json.dumps({"a": ONE}).encode(), DATA),
    "reversed-order": raw({"b": entry("F32", [1], 4, 8), "a": entry("F32", [1], 0, 4)}, DATA),
    "unaligned": raw({"a": entry("U8", [1], 0, 1), "b": entry("F32", [1], 1, 5), "c": entry("U8", [3], 5, 8)}, DATA),
    "rank-32": raw({"a": entry("F64", [1] * 32, 0, 8)}, DATA),
    "unknown-key": raw({"a": {**ONE, "stride": [1]}}, DATA),
    "odd-names": raw({"": entry("U8", [2], 0, 2), "a\u202eb": entry("U8", [2], 2, 4), "\0\n": entry("U8", [4], 4, 8)}, DATA),
    "emoji-escaped": raw('{"\\ud83d\\ude00":' + TEXT + "}", DATA),
    "key-that-looks-like-metadata": raw({"__metadata": ONE}, DATA),
}
