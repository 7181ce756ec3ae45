"""Held-out text, by documents, as windows of tokens: what models predict on it is compared, so all of them must write it in equal tokens.

The probes are the default. Who asks about a domain names texts of it (a document a file, a folder a kind of text): whether control models
know the domain is measured on each kind.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelguard.activations.probes import NAME, PROBES, checked_tokenizer
from modelguard.attempt import attempt
from modelguard.blobs.base import Folder
from modelguard.types.findings import Missing

LENGTH = 64  # tokens of a window
MOST_DOCUMENTS = 256
MOST_BYTES = 1 << 20  # of a document
MOST_TOKENS = 8192
SPARED_BYTES = 400 << 20  # for what the widest layer does with all windows at once
_PROBE_KINDS = ("prose", "other", "prose", "prose", "prose", "prose", "prose", "code", "code", "other", "other", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text, and the kind of text that it is."""

    kind: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Held-out text: the token that follows each position, the number of its document (from 0), and the kind of text that it is."""

    following: NDArray[np.int64]
    documents: NDArray[np.int64]
    kinds: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The token ids (windows, tokens) of a text, and the text behind every position but each window's last, window by window."""

    ids: NDArray[np.int64]
    text: Text


PROBE_DOCUMENTS = tuple(Document(kind=kind, content=probe) for kind, probe in zip(_PROBE_KINDS, PROBES, strict=True))


def documents(files: Mapping[str, bytes]) -> tuple[Document, ...]:
    """Documents by the names of their files, in name order; those of one folder are of one kind."""
    chosen = sorted(files)[:MOST_DOCUMENTS]
    return tuple(Document(kind=posixpath.dirname(name), content=files[name][:MOST_BYTES].decode("utf-8", "replace")) for name in chosen)


def method(texts: Sequence[Document]) -> str:
    """A name for texts by what they say."""
    if tuple(texts) == PROBE_DOCUMENTS:
        return NAME
    digest = hashlib.sha256("\0".join(f"{one.kind}\0{one.content}" for one in texts).encode("utf-8", "surrogatepass")).hexdigest()
    return f"texts-{digest[:8]}"


def tokenised(folder: Folder, texts: Sequence[Document]) -> list[list[int]] | Missing:
    """Each document's token ids, behind the token that the tokenizer puts before a text, if there is exactly one."""
    told = checked_tokenizer(folder)
    if isinstance(told, Missing):
        return told
    return attempt(lambda: _ids(told, texts), what="the tokenizer")


def _ids(told: str, texts: Sequence[Document]) -> list[list[int]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(told)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    first = tokenizer.encode("").ids
    lead = list(first) if len(first) == 1 else []
    return [[*lead, *tokenizer.encode(one.content, add_special_tokens=False).ids] for one in texts]


def windows(rows: Sequence[Sequence[int]], texts: Sequence[Document], *, positions: int, widest: int) -> Windows | Missing:
    """The documents cut into equal windows, as many of each as fit; a document shorter than one is left out.

    `positions` bounds a window, `widest` (numbers that a layer holds a token) how many there are.
    """
    length = min(LENGTH, positions)
    fitting = [place for place, row in enumerate(rows) if len(row) >= length]
    if length < 8 or not fitting:
        return Missing("no document is long enough for a window of tokens", advice=f"name texts of {LENGTH} words and more")
    most = min(MOST_TOKENS, SPARED_BYTES // (12 * max(1, widest))) // length
    each = max(1, most // len(fitting))
    names = {kind: number for number, kind in enumerate(sorted({one.kind for one in texts}))}
    cut = [(number, place, start) for number, place in enumerate(fitting) for start in range(0, each * length, length)]
    cut = [(number, place, start) for number, place, start in cut if start + length <= len(rows[place])][: max(1, most)]
    ids = np.array([rows[place][start : start + length] for _, place, start in cut], dtype=np.int64)
    numbers, kinds = (
        np.repeat(np.array(column), length - 1) for column in zip(*((n, names[texts[p].kind]) for n, p, _ in cut), strict=True)
    )
    return Windows(ids=ids, text=Text(following=ids[:, 1:].reshape(-1), documents=numbers, kinds=kinds))
