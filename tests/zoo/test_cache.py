"""A model on disk is used only if it is exactly the one that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from benchmarks.zoo import cache

pytest.importorskip("torch", reason="a model's key names the torch that trained it")
pytest.importorskip("transformers", reason="a model's key names the transformers that shaped it")


class Maker:
    """Makes an array, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> tuple[cache.Arrays, Mapping[str, str]]:
        self.calls += 1
        return {"w": np.full((2, 3), self.calls, np.float32)}, {"last": "1.5"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.PLACE, str(tmp_path / "zoo"))
    return tmp_path / "zoo"


def test_a_model_is_made_once(folder: Path) -> None:
    maker = Maker()
    first, second = cache.cached("a", maker), cache.cached("a", maker)
    assert maker.calls == 1
    np.testing.assert_array_equal(first[0]["w"], second[0]["w"])
    assert first[1]["last"] == second[1]["last"] == "1.5"
    assert (folder / ".gitignore").read_text() == "*\n"


def test_another_description_is_another_model(folder: Path) -> None:
    maker = Maker()
    cache.cached("a", maker)
    assert cache.cached("b", maker)[0]["w"][0, 0] == 2
    assert len(list(folder.glob("*.safetensors"))) == 2


@pytest.mark.parametrize("broken", [b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{", b"no model"])
def test_a_broken_file_is_made_again(folder: Path, broken: bytes) -> None:
    maker = Maker()
    cache.cached("a", maker)
    next(folder.glob("*.safetensors")).write_bytes(broken)
    assert cache.cached("a", maker)[0]["w"][0, 0] == 2
    assert cache.cached("a", maker)[0]["w"][0, 0] == 2


def test_a_file_that_tells_of_another_model_is_made_again(folder: Path) -> None:
    maker = Maker()
    cache.cached("a", maker)
    ours = next(folder.glob("*.safetensors"))
    cache.cached("b", maker)
    theirs = next(path for path in folder.glob("*.safetensors") if path != ours)
    ours.write_bytes(theirs.read_bytes())
    assert cache.cached("a", maker)[0]["w"][0, 0] == 3
