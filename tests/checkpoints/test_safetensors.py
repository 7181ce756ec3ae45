"""The safetensors reader against the reference library: what both accept, what ours refuses on purpose, and what nobody may accept."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from modelguard.blobs.base import read
from modelguard.checkpoints.base import nbytes, parameters
from modelguard.checkpoints.dtypes import NUMPY, itemsize, to_float32
from modelguard.checkpoints.safetensors import MAX_HEADER_BYTES, sniff
from modelguard.errors import CannotRead, Malformed
from tests.checkpoints.headers import ACCEPTED, ACTIONABLE, DATA, LIMIT, LOOKALIKES, ONE, REJECTED
from tests.checkpoints.reference import reference, written
from tests.weights import DTYPES, content_of, encode, opened, random, raw


@pytest.mark.parametrize("case", LOOKALIKES)
def test_lookalike_is_called_what_it_is(case: str, tmp_path: Path) -> None:
    content, said = LOOKALIKES[case]
    with pytest.raises(Malformed) as caught:
        opened(tmp_path / "model.safetensors", content)
    assert said in str(caught.value)
    assert caught.value.advice
    assert ("git lfs" in caught.value.advice) == (case == "pointer")


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
        with pytest.raises(Malformed, match=r"^model\.safetensors") as caught:
            opened(tmp_path / "model.safetensors", REJECTED[case])
        assert reason in str(caught.value)


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    content = encode(random(), {"format": "pt"})
    for length in range(len(content)):
        with pytest.raises(Malformed):
            opened(tmp_path / "model.safetensors", content[:length])
    assert opened(tmp_path / "model.safetensors", content).tensors


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


def test_a_read_beyond_the_file_is_refused(tmp_path: Path) -> None:
    content = encode(random())
    checkpoint = opened(tmp_path / "m.safetensors", content)
    with pytest.raises(CannotRead, match="ends at byte"):
        read(checkpoint.blob, len(content) - 1, 2)
