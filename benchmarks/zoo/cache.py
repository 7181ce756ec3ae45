"""Trained models on disk, so that only the first run trains. A file is used only if it says that it is exactly what is asked for."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

VERSION = 1  # to be raised with every change of what training does
PLACE = "MODELGUARD_ZOO"  # environment variable that names the folder
Arrays = dict[str, NDArray[np.float32]]
Made = tuple[Arrays, Mapping[str, str]]  # tensors, and notes about how they came to be


def folder() -> Path:
    """Where models are kept: `.cache/zoo` of the current directory unless the environment says otherwise."""
    return Path(os.environ.get(PLACE) or Path(".cache") / "zoo")


def cached(what: str, make: Callable[[], Made]) -> Made:
    """The tensors that `make` gives, read from disk where they were made before under the same description and software."""
    told = json.dumps({"what": what, **_surroundings()}, sort_keys=True)
    path = folder() / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.safetensors"
    kept = _read(path, told)
    if kept is not None:
        return kept
    tensors, notes = make()
    _write(path, tensors, {**notes, "recipe": told})
    return tensors, notes


@cache
def _surroundings() -> dict[str, object]:
    from benchmarks.zoo.text import digest

    libraries = {name: version(name) for name in ("torch", "transformers", "numpy")}
    return {"version": VERSION, "machine": platform.machine(), "text": digest(), **libraries}


def _read(path: Path, told: str) -> Made | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            notes = dict(file.metadata() or {})
            return ({name: file.get_tensor(name) for name in file.keys()}, notes) if notes.get("recipe") == told else None  # noqa: SIM118
    except (FileNotFoundError, SafetensorError):
        return None


def _write(path: Path, tensors: Arrays, notes: Mapping[str, str]) -> None:
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        made = Path(directory) / path.name
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, made, metadata=dict(notes))
        made.replace(path)
