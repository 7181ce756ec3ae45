"""Files of every kind, whole and damaged: ours and the reference library never read one differently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelguard.errors import CannotRead
from tests.checkpoints.reference import reference, written
from tests.weights import DTYPES, content_of, encode, opened, random, raw

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
NAMES = st.text(st.characters(codec="utf-8"), max_size=12).filter(lambda name: name != "__metadata__")
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
TOKENS = st.sampled_from(
    [b"0", b"-", b"9" * 20, b'"', b"[", b"]", b"{", b"}", b",", b":", b"\\u0061", b"null", b"1e1", b" ", b"\n", b"\xff"]
)
EDIT = st.tuples(st.integers(0, HEADER_END + 4), st.integers(0, 6), TOKENS | st.binary(max_size=4))


def refused(directory: Path, content: bytes) -> bool:
    """Whether our reader refuses the file, in one line that names it."""
    try:
        opened(directory / "m.safetensors", content)
    except CannotRead as error:
        return str(error).startswith("m.safetensors") and len(str(error).splitlines()) == 1
    return False


@settings(QUICK, max_examples=300)
@given(st.lists(EDIT, min_size=1, max_size=3), st.booleans())
def test_a_damaged_file_is_refused_or_read_as_the_library_reads_it(tmp_path: Path, edits: list[Any], mend: bool) -> None:
    content = VALID
    for position, removed, added in edits:
        content = content[:position] + added + content[position + removed :]
    if mend and len(content) > 8:  # an attacker keeps the length right
        length = HEADER_END - 8 + len(content) - len(VALID)
        content = max(length, 0).to_bytes(8, "little") + content[8:]
    assert refused(tmp_path, content) or content_of(opened(tmp_path / "m.safetensors", content)) == reference(content)


@settings(QUICK, max_examples=150)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_refused_or_read_as_the_library_reads_them(tmp_path: Path, noise: bytes, framed: bool) -> None:
    content = raw(b"{" + noise) if framed else noise
    assert refused(tmp_path, content) or content_of(opened(tmp_path / "m.safetensors", content)) == reference(content)
