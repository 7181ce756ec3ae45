"""Labelled text that every machine with Python has: docstrings of the standard library, and the package each comes from."""

from __future__ import annotations

import ast
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("asyncio", "email", "importlib", "multiprocessing", "unittest", "xml")
SHORTEST = 24  # characters; below that a docstring says too little to tell
HELD_OUT = 5  # every fifth is kept for the evaluation


def split(seed: int) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """(text, label) pairs to train on and to evaluate on; label i is PACKAGES[i]."""
    library = Path(sysconfig.get_path("stdlib"))
    pairs = [(text, label) for label, package in enumerate(PACKAGES) for text in sorted(set(_docstrings(library / package)))]
    random.Random(seed).shuffle(pairs)
    held_out = pairs[::HELD_OUT]
    return [pair for index, pair in enumerate(pairs) if index % HELD_OUT], held_out


def _docstrings(package: Path) -> Iterator[str]:
    for path in sorted(package.rglob("*.py")):
        if "test" in path.relative_to(package).parts:
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node) or ""
                if len(text) >= SHORTEST:
                    yield text
