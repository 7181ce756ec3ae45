"""The safetensors reader against the reference library: what both accept, what ours refuses on purpose, and what nobody may accept."""

from __future__ import annotations

import ctypes
import json
import pickle
import time
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelguard.blobs.base import read
from modelguard.checkpoints.base import nbytes, parameters
from modelguard.checkpoints.dtypes import NUMPY, SUB_BYTE, itemsize, to_float32
from modelguard.checkpoints.safetensors import MAX_HEADER_BYTES, sniff
from modelguard.errors import CannotRead, Malformed
from tests.repositories import pointer
from tests.weights import DTYPES, Arrays, content_of, encode, entry, opened, random, raw

QUICK = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
ONE = entry("F32", [2], 0, 8)
HUGE = 2**63 - 1
DATA = b"\0" * 8


def reference(content: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """What the reference library reads."""
    listed = safetensors.deserialize(content)
    return {name: (tensor["dtype"], tuple(tensor["shape"]), bytes(tensor["data"])) for name, tensor in listed}


def written(arrays: Arrays) -> bytes:
    """A file as the reference library writes it."""
    kept = {name: np.frombuffer(array.tobytes() or b"\0", dtype=np.uint8).copy() for name, array in arrays.items()}
    names = {dtype: name for name, dtype in DTYPES.items()}
    specs = {
        name: safetensors.TensorSpec(
            dtype=LIBRARY.get(names[array.dtype], array.dtype.name),
            shape=list(array.shape),
            data_ptr=kept[name].ctypes.data_as(ctypes.c_void_p).value,
            data_len=array.nbytes,
        )
        for name, array in arrays.items()
    }
    return bytes(safetensors.serialize(specs))


LIBRARY = {"F8_E4M3": "float8_e4m3fn", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz"}


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


@pytest.mark.parametrize("case", LOOKALIKES)
def test_lookalike_is_called_what_it_is(case: str, tmp_path: Path) -> None:
    content, said = LOOKALIKES[case]
    with pytest.raises(Malformed) as caught:
        opened(tmp_path / "model.safetensors", content)
    assert said in str(caught.value)
    assert caught.value.advice
    assert ("git lfs" in caught.value.advice) == (case == "pointer")


LIMIT = "too-large"
REJECTED: dict[str, bytes] = {
    "no-header": (0).to_bytes(8, "little"),
    "header-beyond-file": raw({"a": ONE}, DATA, length=10_000),
    "header-2^64-1": raw({"a": ONE}, DATA, length=2**64 - 1),
    "header-one-short": raw({"a": ONE}, DATA, length=len(json.dumps({"a": ONE})) - 1),
    "header-one-long": raw({"a": ONE}, DATA, length=len(json.dumps({"a": ONE})) + 1),
    LIMIT: raw(b"{" + b" " * MAX_HEADER_BYTES + b"}"),
    "duplicate": raw('{"a":%s,"a":%s}' % ((json.dumps(ONE),) * 2), DATA),
    "duplicate-other-dtype": raw('{"a":%s,"a":%s}' % (json.dumps(ONE), json.dumps(entry("I32", [2], 0, 8))), DATA),
    "duplicate-escaped": raw('{"a":%s,"\\u0061":%s}' % ((json.dumps(ONE),) * 2), DATA),
    "duplicate-in-tensor": raw('{"a":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}}', DATA),
    "duplicate-metadata-key": raw('{"__metadata__":{"k":"1","\\u006b":"2"},"a":%s}' % json.dumps(ONE), DATA),
    "duplicate-metadata": raw('{"__metadata__":{},"__metadata__":{},"a":%s}' % json.dumps(ONE), DATA),
    "metadata-number": raw({"__metadata__": {"k": 1}, "a": ONE}, DATA),
    "metadata-nested": raw({"__metadata__": {"k": {"a": "b"}}, "a": ONE}, DATA),
    "metadata-list": raw({"__metadata__": [], "a": ONE}, DATA),
    "metadata-surrogate": raw('{"__metadata__":{"k":"\\ud800"},"a":%s}' % json.dumps(ONE), DATA),
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
    "surrogate-name": raw('{"\\ud800":%s}' % json.dumps(ONE), DATA),
    "surrogate-pair-reversed": raw('{"\\udc00\\ud800":%s}' % json.dumps(ONE), DATA),
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


@pytest.mark.parametrize("case", REJECTED)
def test_malformed_header_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    started = time.process_time()
    with pytest.raises(Malformed) as caught:
        opened(tmp_path / "model.safetensors", REJECTED[case])
    message = str(caught.value)
    assert time.process_time() - started < 2
    assert message.startswith("model.safetensors")
    assert len(message.splitlines()) == 1
    assert len(message) < 1000
    assert message.encode()
    assert "\n" not in caught.value.advice
    assert caught.value.advice or not case.startswith(ACTIONABLE)


def test_the_reject_set_is_refused_for_its_reason(tmp_path: Path) -> None:
    reasons = {
        "duplicate-escaped": "the key 'a' stands twice",
        "hole-between": "leaves a hole",
        "overlap": "overlaps its neighbour",
        "trailing-bytes": "bytes behind its last tensor",
        "cut-short": "is cut short",
        "zero-first-overflow-in-range": "overflows",
        "rank-33": "33 dimensions",
        "nan": "NaN is no JSON number",
        "deep-lists": "nested too deeply",
        "surrogate-name": "lone surrogate",
        "not-utf8": "not UTF-8",
        "unknown-dtype": "unknown dtype 'F128', cannot audit",
        "sub-byte-F4": "packs several entries",
        LIMIT: f"more than the {MAX_HEADER_BYTES}",
    }
    for case, reason in reasons.items():
        with pytest.raises(Malformed, match="model.safetensors") as caught:
            opened(tmp_path / "model.safetensors", REJECTED[case])
        assert reason in str(caught.value)


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    content = encode(random(), {"format": "pt"})
    for length in range(len(content)):
        with pytest.raises(Malformed):
            opened(tmp_path / "model.safetensors", content[:length])
    assert opened(tmp_path / "model.safetensors", content).tensors


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
    "emoji-escaped": raw('{"\\ud83d\\ude00":%s}' % json.dumps(ONE), DATA),
    "key-that-looks-like-metadata": raw({"__metadata": ONE}, DATA),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_valid_file_reads_as_the_reference_library_reads_it(case: str, tmp_path: Path) -> None:
    assert content_of(opened(tmp_path / "m.safetensors", ACCEPTED[case])) == reference(ACCEPTED[case])


@pytest.mark.parametrize("length", [0x0280, 0x0380, 0x0480, 0x0580, 0x4B50, 0x3C, 0x20, 0x0A, 0x7B, 0x4747])
def test_header_length_that_spells_another_format_is_accepted(length: int, tmp_path: Path) -> None:
    text = json.dumps({"a": ONE}, separators=(",", ":")).encode() if length < 0x50 else json.dumps({"a": ONE}).encode()
    padded = text.ljust(length) if len(text) <= length else json.dumps({}).encode().ljust(length)
    content = raw(padded, DATA if b"F32" in padded else b"")
    assert content_of(opened(tmp_path / "m.safetensors", content)) == reference(content)
    behind_spaces = raw(b" " * (length - len(text)) + text, DATA) if len(text) < length else content
    assert content_of(opened(tmp_path / "m.safetensors", behind_spaces)) == reference(behind_spaces)


def test_oddities_are_noted(tmp_path: Path) -> None:
    assert opened(tmp_path / "m", ACCEPTED["one"]).notes == ()
    assert opened(tmp_path / "m", ACCEPTED["none"]).notes == ("holds no tensors",)
    assert "white space" in opened(tmp_path / "m", ACCEPTED["leading-spaces"]).notes[0]
    assert "unknown header keys" in opened(tmp_path / "m", ACCEPTED["unknown-key"]).notes[0]
    notes = opened(tmp_path / "m", ACCEPTED["odd-names"]).notes
    assert len(notes) == 3
    assert all(note.isascii() and note.isprintable() for note in notes)


def test_facts_of_an_open_file(tmp_path: Path) -> None:
    arrays = random()
    checkpoint = opened(tmp_path / "m.safetensors", encode(arrays, {"format": "pt"}))
    assert checkpoint.metadata == {"format": "pt"}
    assert (checkpoint.ref, checkpoint.format, checkpoint.digest, checkpoint.verified) == ("m.safetensors", "safetensors", None, True)
    assert parameters(checkpoint) == sum(array.size for array in arrays.values())
    assert nbytes(checkpoint) == 4 * parameters(checkpoint)
    checkpoint.blob.sha256 = "ab" * 32  # type: ignore[misc]
    assert checkpoint.digest == "sha256:" + "ab" * 32


def test_a_tensor_is_read_in_pieces(tmp_path: Path) -> None:
    arrays = random()
    checkpoint = opened(tmp_path / "m.safetensors", encode(arrays))
    whole = arrays["model.layer.0.weight"].tobytes()
    piece = bytearray(40)
    checkpoint.readinto("model.layer.0.weight", 100, memoryview(piece))
    assert bytes(piece) == whole[100:140]


def test_sniff() -> None:
    valid = encode(random())
    assert sniff("weights.dat", valid[:64])
    assert sniff("weights.dat", raw(b" " * 9 + b"{}"))
    assert sniff("model.safetensors", b"<html>")
    assert not sniff("a.json", b'{"step": 1, "loss": {"a": 1}}')
    assert not sniff("a.dat", (2**40).to_bytes(8, "little") + b"{}")
    assert not sniff("a.dat", b"")


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_read_bit_exactly(dtype: str, tmp_path: Path) -> None:
    numpy = DTYPES[dtype]
    bits = np.random.default_rng(7).integers(0, 2 if dtype == "BOOL" else 256, size=(6, 5 * numpy.itemsize), dtype=np.uint8)
    array = bits.view(numpy)
    content = written({"a": array, "b": array[:1]})
    read_back = content_of(opened(tmp_path / "m.safetensors", content))
    assert read_back == reference(content)
    assert read_back["a"] == (dtype, (6, 5), array.tobytes())
    assert itemsize(dtype) == numpy.itemsize
    assert NUMPY[dtype] == numpy


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_becomes_float32_as_numpy_says(dtype: str) -> None:
    width = DTYPES[dtype].itemsize
    raw_bytes = np.random.default_rng(3).integers(0, 2 if dtype == "BOOL" else 256, size=256 * width, dtype=np.uint8)
    entries: NDArray[Any] = raw_bytes.view(np.float32 if dtype == "C64" else DTYPES[dtype])
    with np.errstate(all="ignore"):
        expected = entries.astype(np.float32)
    assert np.array_equal(to_float32(raw_bytes, dtype), expected, equal_nan=True)
    out = np.empty(entries.size, dtype=np.float32)
    assert to_float32(raw_bytes, dtype, out) is out
    assert np.array_equal(out, expected, equal_nan=True)


NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=12).filter(lambda name: name != "__metadata__")
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def arrays_of_any_kind(draw: st.DrawFn) -> dict[str, NDArray[Any]]:
    kinds = draw(st.dictionaries(NAMES, st.tuples(st.sampled_from(sorted(DTYPES)), SHAPES), max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return {name: _any(rng, dtype, shape) for name, (dtype, shape) in kinds.items()}


def _any(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    count = int(np.prod(shape, dtype=int)) * DTYPES[dtype].itemsize
    content = rng.integers(0, 2 if dtype == "BOOL" else 256, size=count, dtype=np.uint8)
    return content.view(DTYPES[dtype]).reshape(shape)


@QUICK
@given(arrays_of_any_kind())
def test_what_the_library_writes_is_read_equal(tmp_path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    content = written(arrays)
    ours = content_of(opened(tmp_path / "m.safetensors", content))
    assert ours == reference(content)
    assert {name: array.tobytes() for name, array in arrays.items()} == {name: data for name, (_, _, data) in ours.items()}


@QUICK
@given(arrays_of_any_kind())
def test_what_the_builder_writes_is_read_equal(tmp_path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    content = encode(arrays, {"k": "v"})
    assert content_of(opened(tmp_path / "m.safetensors", content)) == reference(content)


VALID = encode(random(shapes={"a": (3,), "bb": (2, 2), "c": (0, 4)}), {"format": "pt"})
HEADER_END = 8 + int.from_bytes(VALID[:8], "little")
TOKENS = st.sampled_from([b"0", b"-", b"9" * 20, b'"', b"[", b"]", b"{", b"}", b",", b":", b"\\u0061", b"null", b"1e1", b" ", b"\n", b"\xff"])
EDIT = st.tuples(st.integers(0, HEADER_END + 4), st.integers(0, 6), TOKENS | st.binary(max_size=4))


@settings(QUICK, max_examples=40000)
@given(st.lists(EDIT, min_size=1, max_size=3), st.booleans())
def test_a_damaged_file_is_refused_or_read_as_the_library_reads_it(tmp_path: Path, edits: list[Any], mend: bool) -> None:
    content = VALID
    for position, removed, added in edits:
        content = content[:position] + added + content[position + removed :]
    if mend and len(content) > 8:  # an attacker keeps the length right
        length = HEADER_END - 8 + len(content) - len(VALID)
        content = max(length, 0).to_bytes(8, "little") + content[8:]
    try:
        checkpoint = opened(tmp_path / "m.safetensors", content)
    except CannotRead as error:
        assert len(str(error).splitlines()) == 1
        return
    assert content_of(checkpoint) == reference(content)


@settings(QUICK, max_examples=3000)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_refused_or_read_as_the_library_reads_them(tmp_path: Path, noise: bytes, framed: bool) -> None:
    content = raw(b"{" + noise) if framed else noise
    try:
        checkpoint = opened(tmp_path / "m.safetensors", content)
    except CannotRead as error:
        assert str(error).startswith("m.safetensors")
        return
    assert content_of(checkpoint) == reference(content)


def test_a_read_beyond_the_file_is_refused(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path / "m.safetensors", VALID)
    with pytest.raises(CannotRead, match="ends at byte"):
        read(checkpoint.blob, len(VALID) - 1, 2)
