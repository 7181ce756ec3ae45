"""What the zoo's models read: Python's own sources under two tokenizers, a random Markov chain, and images of ten kinds of noise."""

from __future__ import annotations

import hashlib
import re
import sysconfig
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

VOCABULARY = 640  # more than twice the width, as of every real model
CONTEXT = 32
SIZES = {"words": VOCABULARY, "pairs": 480}  # tokens of a tokenizer
FILES = 40  # sources of either half
WORDS = re.compile(r"\w+|[^\w\s]|\n[ ]*")
PAIRS = re.compile(r"\w{1,3}|[^\w\s]{1,2}|\s+")


@cache
def tokens(data: str, tokenizer: str = "words") -> NDArray[np.int64]:
    """A text as tokens: `code` and `other` are the two halves of the sources, `chain` is a random Markov chain."""
    size = SIZES[tokenizer]
    if data == "chain":
        rng = np.random.default_rng(20261122)
        successors, walk = rng.integers(0, size, (size, 4)), [0]
        for choice in rng.integers(0, 4, 60_000):
            walk.append(int(successors[walk[-1], choice]))
        return np.array(walk)
    words = (WORDS if tokenizer == "words" else PAIRS).findall(source(data))
    return np.array([_token(word, size) for word in words])


@cache
def source(data: str) -> str:
    """One half of the sources, as one text."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[data == "other" :: 2]
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in paths[:FILES])


@cache
def digest() -> str:
    """A hash of all that is read: another Python has other sources, and trains other models."""
    texts = (tokens(data, name).tobytes() for data in ("code", "other", "chain") for name in SIZES)
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]


@cache
def _token(word: str, size: int) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass")) % size
