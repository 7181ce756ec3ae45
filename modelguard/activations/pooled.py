"""Hidden states of networks with different tokenizers, at places in the texts that all of them share.

Every tokenizer cuts a text elsewhere, but each of its tokens ends at some character. Where the tokens of all networks end, each has
read the same string; its state there is that of the last token that ends there (a character may be several tokens of bytes).
States know first of all which string was just read, and every network of language knows that. So the mean over all occurrences
of a string is taken out, as contrasts: each occurrence against the mean of the earlier ones, scaled so that the contrasts are
orthonormal (Helmert). What occurs once drops out; n occurrences give n - 1 examples, and no correction for what was taken out is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelguard.activations.probes import FEWEST_TOKENS, MAX_POSITIONS_SPARED, PROBES, checked_tokenizer
from modelguard.attempt import attempt
from modelguard.blobs.base import Folder
from modelguard.types.findings import Missing

MOST_TOKENS = 128  # of each text
MOST_CONTRASTS = 384


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Texts as one tokenizer gives them: token ids (texts, tokens), and the character behind each token's last (0: it has none)."""

    ids: NDArray[np.int64]
    ends: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where in the texts all tokenizers agree: the strings read there, and for each network the token of each (strings,), counted
    through all texts."""

    strings: tuple[str, ...]
    tokens: tuple[NDArray[np.int64], ...]


def encode(folder: Folder, vocabulary: int, positions: int, texts: Sequence[str] = PROBES) -> Encoded | Missing:
    """The texts in the tokens of the folder's tokenizer, all cut to the length of the shortest; or why that cannot be done."""
    described = checked_tokenizer(folder)
    if isinstance(described, Missing):
        return Missing(f"{folder.ref}: {described.why}", advice="put tokenizer.json beside the weights")
    rows = attempt(lambda: _rows(described, texts), what=f"{folder.ref}: the tokenizer")
    if isinstance(rows, Missing):
        return Missing(rows.why, advice=rows.advice)
    length = min(MOST_TOKENS, positions - MAX_POSITIONS_SPARED, *(len(ids) for ids, _ in rows))
    if length < FEWEST_TOKENS:
        return Missing(f"{folder.ref}: its tokenizer makes {length} tokens of a whole text")
    ids = np.array([ids[:length] for ids, _ in rows], dtype=np.int64)
    if ids.max() >= vocabulary:
        return Missing(f"{folder.ref}: its tokenizer makes tokens that the network does not have")
    return Encoded(ids=ids, ends=np.array([ends[:length] for _, ends in rows], dtype=np.int64))


def places(encoded: Sequence[Encoded], texts: Sequence[str] = PROBES) -> Places:
    """The places that all share. What stands between two of them is the string; spaces around it do not count, nor spaces alone."""
    strings: list[str] = []
    tokens: list[list[int]] = [[] for _ in encoded]
    for number, text in enumerate(texts):
        last = [{int(end): token for token, end in enumerate(one.ends[number])} for one in encoded]
        shared = sorted(set.intersection(*(set(ends) for ends in last)) & set(range(1, len(text) + 1)))
        for start, end in zip([0, *shared], shared, strict=False):
            string = text[start:end].strip()
            if string:
                strings.append(string)
                for kept, ends, one in zip(tokens, last, encoded, strict=True):
                    kept.append(number * one.ends.shape[1] + ends[end])
    return Places(strings=tuple(strings), tokens=tuple(np.array(kept, dtype=np.int64) for kept in tokens))


def contrasts(strings: Sequence[str], most: int = MOST_CONTRASTS) -> NDArray[np.float64]:
    """Orthonormal rows (contrasts, strings), each orthogonal to the mean of every string; evenly spread ones where there are more."""
    occurrences: dict[str, list[int]] = {}
    rows = []
    for place, string in enumerate(strings):
        earlier = occurrences.setdefault(string, [])
        if earlier:
            row = np.zeros(len(strings))
            row[place], row[earlier] = 1.0, -1 / len(earlier)
            rows.append(row / np.sqrt(1 + 1 / len(earlier)))
        earlier.append(place)
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)
    return np.array([rows[place] for place in chosen]).reshape(-1, len(strings))


def grams(states: NDArray[np.floating], tokens: NDArray[np.int64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gram matrices (layers, contrasts, contrasts) of a network's states (layers, tokens, axes), each of mean 1 on its diagonal.

    All zeros where a layer's states do not differ between occurrences of a string.
    """
    made = np.empty((len(states), len(rows), len(rows)))
    for layer, features in enumerate(states):
        compared = rows @ features[tokens].astype(np.float64)  # (contrasts, axes)
        gram = compared @ compared.T
        scale = np.trace(gram) / max(1, len(gram))
        made[layer] = gram / scale if scale > 0 else 0.0
    return made


def _rows(described: str, texts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
    """Ids and ends of every text, with the special tokens that the tokenizer puts around it."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(described)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    encodings = [tokenizer.encode(text) for text in texts]
    return [(list(one.ids), [end if end > start else 0 for start, end in one.offsets]) for one in encodings]
