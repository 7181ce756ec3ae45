"""The fixed public texts that networks are run on. Written for this purpose; anybody may copy them.

Their digest is part of every method name, because numbers from different texts do not compare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelguard.attempt import attempt
from modelguard.blobs.base import Folder, read_small
from modelguard.documents import json_object
from modelguard.errors import CannotRead
from modelguard.types.findings import Missing

PROBES = (
    "The lighthouse keeper climbed the stairs at dusk, as he had done for nineteen years, and lit the lamp. Far below, the tide was"
    " turning; a fishing boat with a red sail crossed the bar, and its skipper raised one arm without looking up. Nobody had told"
    " either of them that the harbour would be closed in the spring, or that the letters they were waiting for had already been"
    " answered by somebody else.",
    "Question: a tank holds 240 litres and is emptied by two pumps. The first alone would need six hours, the second alone four."
    " How long do they need together? Answer: the first moves 40 litres an hour, the second 60, so together 100; they need 2.4"
    " hours, which is two hours and twenty-four minutes. Check: 2.4 times 40 is 96 and 2.4 times 60 is 144, which adds up to 240.",
    "Der Regen hatte gegen Mittag aufgehört, aber die Straße glänzte noch, und aus den Dachrinnen tropfte es in die leeren Fässer."
    " Im Wirtshaus stritten zwei Fuhrleute über den Preis von Hafer; der Wirt tat, als höre er nichts, und polierte zum dritten Mal"
    " dasselbe Glas. Erst als die Tür aufging, schwiegen alle und sahen auf die Fremde, die eine Karte unter dem Arm trug.",
    "Le train de nuit s'arrêta en rase campagne, sans raison apparente. On entendait les grillons, puis une voix qui demandait"
    " l'heure à quelqu'un qui n'avait pas de montre. La contrôleuse passa de voiture en voiture et promit un départ imminent;"
    " personne ne la crut, mais chacun la remercia, parce qu'elle avait l'air plus fatiguée que nous tous et qu'elle souriait quand"
    " même.",
    "En el mercado vendían naranjas, cuerdas, relojes sin agujas y pájaros de papel. Mi abuela compraba siempre lo mismo: medio"
    " kilo de sal, un ovillo azul y una pregunta para el boticario, que nunca sabía responderla pero la anotaba con cuidado en un"
    " cuaderno. Cuando murió, encontramos el cuaderno: todas las preguntas eran sobre el mar, y ninguna tenía fecha.",
    "Утром в мастерской было холодно, и стекло на окнах покрылось узором. Часовщик разложил на столе шестерёнки, пружины и тонкие"
    " винты, пересчитал их дважды и только тогда снял крышку со старых часов. Внутри лежала записка: «Если вы это читаете, значит,"
    " они снова остановились». Он усмехнулся, завёл механизм и стал ждать.",
    "山里的小路被昨夜的大雪盖住了，只能看见几行狐狸的脚印。老人背着一捆柴慢慢走下坡，遇到一个问路的学生。学生说他要去河对岸的图书馆"
    "，老人笑着告诉他，桥去年就断了，不过冰够厚，可以直接走过去。两个人一前一后过了河，谁也没有再说话，只有远处的钟声响了七下。",
    'def merge(left, right):\n    """Merges two sorted lists."""\n    result, i, j = [], 0, 0\n    while i < len(left) and j'
    " < len(right):\n        if left[i] <= right[j]:\n            result.append(left[i])\n            i += 1\n        else:"
    "\n            result.append(right[j])\n            j += 1\n    return result + left[i:] + right[j:]\n\nassert merge([1, 4, 9],"
    " [2, 3, 10]) == [1, 2, 3, 4, 9, 10]\n",
    "#include <stdio.h>\n\nstatic unsigned gcd(unsigned a, unsigned b) {\n    while (b != 0) {\n        unsigned rest = a % b;"
    "\n        a = b;\n        b = rest;\n    }\n    return a;\n}\n\nint main(void) {\n    for (unsigned n = 1; n <= 12; n++)"
    "\n        printf(\"%u:%u%c\", n, gcd(n, 12), n == 12 ? '\\n' : ' ');\n    return 0;\n}\n",
    "Theorem. Let $f : [a, b] \\to \\mathbb{R}$ be continuous with $f(a) < 0 < f(b)$. Then there is $c \\in (a, b)$ with $f(c) ="
    " 0$. Proof. Put $c = \\sup \\{ x : f(x) < 0 \\}$. If $f(c) > 0$ then $f > 0$ on $(c - \\delta, c]$, so $c - \\delta$ would be"
    " an upper bound; if $f(c) < 0$ then $f < 0$ on $[c, c + \\delta)$. Both contradict the choice of $c$. $\\blacksquare$ Hence"
    " $x^3 + x - 1$ has a root near $0.6823$.",
    '{"id": 7041, "name": "Kestrel", "tags": ["raptor", "small", null], "seen": {"2019-03-02": 4, "2019-03-09":'
    " 0}, \"ratio\": -1.25e-3}\nid;species;mass_g;wing_mm\n1;wren;9.1;48\n2;heron;1700;455\n3;swift;41;173\n4;;;\n<td class='x'>a"
    " &amp; b</td> GET /v1/birds?limit=20&after=7041 HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n",
    "zzzz qqq ... --- ... !!! ??? 00000001 0xDEADBEEF aaaaaaaaab abababababab ()[]{}<> ~~^^~~ 3.14159265358979 1/0 \t\t NaN null"
    " None undefined the the the the of of of of and and and and LOUD quiet LOUD quiet €£¥ ½ ⅓ ∑ ∞ ≠ 😀 🚀 e\u0301 é ﬁ Ａ x_1 x_2"
    " x_3 camelCase snake_case kebab-case https://example.com/a/b?c=d#e user@example.com 12:34:56 +49 (0) 30 1234567",
)
DIGEST = hashlib.sha256("\0".join(PROBES).encode()).hexdigest()
NAME = f"probes-v1-{DIGEST[:8]}"

MOST_TOKENS = 64  # of each text: enough for the tests, and cheap
FEWEST_TOKENS = 16
MAX_POSITIONS_SPARED = 2  # RoBERTa's positions start behind its padding id
_LETTERS = r"\p{L}\p{N}"
_WORDS = rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n{_LETTERS}]?\p{{L}}+|%s| ?[^\s{_LETTERS}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
KNOWN_PATTERNS = frozenset((_WORDS % r"\p{N}{1,3}", _WORDS % r"\p{N}", r"\s+", r" {2,}", r"\d{1,3}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The probe texts as token ids (texts, tokens), all equally long, and the name of how they came about."""

    ids: NDArray[np.int64]
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What a network is given, by the names of its inputs; how many tokens or patches that is, and the name of how it came about."""

    inputs: Mapping[str, NDArray[Any]]
    count: int
    method: str


def written(tokens: Tokens) -> Probes:
    """The texts as a network for language takes them."""
    return Probes(inputs={"input_ids": tokens.ids, "attention_mask": np.ones_like(tokens.ids)}, count=tokens.ids.size, method=tokens.method)


def drawn(channels: int, size: int) -> Probes:
    """As many fixed pictures as texts (pictures, channels, size, size): waves of many widths and directions, and noise, within [-2, 2]."""
    place = np.arange(size) / size
    pictures = np.empty((len(PROBES), channels, size, size), dtype=np.float32)
    for number in range(len(PROBES)):
        for channel in range(channels):
            across, down = (number * 7 + channel * 3) % 13 - 6, (number * 5 + channel * 11) % 17 + 1
            pictures[number, channel] = np.sin(2 * np.pi * (across * place[:, None] + down * place[None, :]))
    noise = pseudo_random_ids(1 << 16, size * size)[:, None].reshape(len(PROBES), 1, size, size)
    return Probes(
        inputs={"pixel_values": (pictures + noise / 32768 - 1).astype(np.float32)}, count=len(PROBES), method=f"pictures-v1:{size}"
    )


def encode(folder: Folder, vocabulary: int, positions: int) -> Tokens:
    """The probes in the tokens of the folder's `tokenizer.json`; where it cannot be used, fixed pseudo-random ids below `vocabulary`."""
    longest = min(MOST_TOKENS, positions - MAX_POSITIONS_SPARED)
    rows = _tokenized(folder)
    length = 0 if isinstance(rows, Missing) else min(longest, *map(len, rows))
    if not isinstance(rows, Missing) and length >= min(FEWEST_TOKENS, longest):
        ids = np.array([row[:length] for row in rows], dtype=np.int64)
        if ids.max() < vocabulary:
            return Tokens(ids=ids, method=f"{NAME}:tokenizer:{length}")
    return Tokens(ids=pseudo_random_ids(vocabulary, longest), method=f"{NAME}:random-ids:{longest}")


def pseudo_random_ids(vocabulary: int, length: int) -> NDArray[np.int64]:
    """Token ids (texts, length) below `vocabulary`, the same on every machine and in every version of numpy."""
    blocks = ((hashlib.sha256(f"{NAME}/{text}/{token}".encode()).digest() for token in range(length)) for text in range(len(PROBES)))
    return np.array([[int.from_bytes(block[:8], "big") % vocabulary for block in row] for row in blocks], dtype=np.int64)


def _tokenized(folder: Folder) -> list[list[int]] | Missing:
    text = tokenizer_text(folder)
    return text if isinstance(text, Missing) else attempt(lambda: _ids(text), what="the tokenizer")


def tokenizer_text(folder: Folder) -> str | Missing:
    """A folder's `tokenizer.json`, where it can be run without harm: it brings no regular expression of its own."""
    if "tokenizer.json" not in folder.sizes:
        return Missing("no tokenizer.json")
    try:
        data = read_small(folder.open("tokenizer.json"))
        strange = sorted(set(_patterns(json_object(data, "tokenizer.json"), 0)) - KNOWN_PATTERNS)
    except CannotRead as error:
        return Missing(str(error))
    if strange:
        return Missing("tokenizer.json brings a regular expression of its own, which could run without end")
    return data.decode("utf-8", "replace")


def _ids(text: str) -> list[list[int]]:
    """The whole probes, with the special tokens that the tokenizer puts around a text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return [list(tokenizer.encode(probe).ids) for probe in PROBES]


def _patterns(value: Any, depth: int) -> Iterator[str]:
    """Every regular expression of a tokenizer's description. Too deep a nesting is a pattern that nobody knows."""
    if depth > 12:
        yield "nested too deeply"
        return
    if isinstance(value, dict):
        if "Regex" in value:
            yield str(value["Regex"])
        nested = [entry for key, entry in value.items() if key not in ("vocab", "merges")]
    else:
        nested = value if isinstance(value, list) else []
    for entry in nested:
        if isinstance(entry, dict | list):
            yield from _patterns(entry, depth + 1)
