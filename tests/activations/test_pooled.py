"""Places that tokenizers share, in texts of several scripts, and the contrasts between occurrences of one string."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelguard.activations.pooled import Encoded, contrasts, encode, grams, places
from modelguard.blobs.local import LocalFolder
from modelguard.types.findings import Missing
from tests.activations import tokenizers

pytest.importorskip("tokenizers")

TEXTS = (
    "Die Straße glänzte; die Fässer glänzte. 😀 die Straße 😀 und dann die Tür, die Tür, die Fässer und die Straße.",
    "山里的 小路 被 山里的 大雪 盖住了 e\u0301 é e\u0301 山里的 小路 被 大雪 é盖 小路 山里的 山里的 山里的 小路 被 大雪 被",
)


def encoded(tmp_path: Path, text: str, texts: tuple[str, ...] = TEXTS) -> Encoded:
    folder = tmp_path / str(abs(hash(text)))
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    made = encode(LocalFolder(folder, "m"), 1 << 20, 512, texts)
    assert isinstance(made, Encoded), made
    return made


def strings_of(one: Encoded, tokens: np.ndarray[tuple[int], np.dtype[np.int64]], texts: tuple[str, ...]) -> list[str]:
    """What a tokenizer has read since its place before, by its own ends."""
    ends, told, before = one.ends.reshape(-1), [], (0, 0)
    for token in tokens.tolist():
        number = token // one.ends.shape[1]
        start = before[1] if before[0] == number else 0
        told.append(texts[number][start : ends[token]].strip())
        before = (number, int(ends[token]))
    return told


def test_tokenizers_meet_where_words_end(tmp_path: Path) -> None:
    sides = [encoded(tmp_path, make()) for make in (tokenizers.words, tokenizers.syllables)]
    shared = places(sides, TEXTS)
    assert shared.strings[:6] == ("Die", "Straße", "glänzte", ";", "die", "Fässer")
    assert "é" in shared.strings
    for one, tokens in zip(sides, shared.tokens, strict=True):
        assert strings_of(one, tokens, TEXTS) == list(shared.strings)
        assert len(tokens) == len(shared.strings)
    assert (sides[1].ends[:, 0] == 0).all()  # the start of a text stands for no string


def test_of_a_character_s_bytes_the_last_is_taken(tmp_path: Path) -> None:
    text = ("😀 a 😀 b 😀 c d e f g h i j k l m n o p",)
    bytes_, words = encoded(tmp_path, tokenizers.octets(), text), encoded(tmp_path, tokenizers.words(), text)
    assert bytes_.ends[0, :6].tolist() == [1, 1, 1, 1, 2, 3]
    shared = places([bytes_, words], text)
    assert shared.strings[:4] == ("😀", "a", "😀", "b")
    assert shared.tokens[0][:2].tolist() == [3, 5]


def test_texts_are_cut_to_what_all_have_read(tmp_path: Path) -> None:
    long = ("der Zug " * 60, "die Tür " * 60)
    bytes_, words = encoded(tmp_path, tokenizers.octets(), long), encoded(tmp_path, tokenizers.words(), long)
    assert bytes_.ids.shape == (2, 128)
    shared = places([bytes_, words], long)
    assert len(shared.strings) == 2 * (128 // 8) + 2 * (128 // 9)  # what the bytes cover, in words
    assert max(one.max() for one in shared.tokens) < 256
    assert set(shared.strings) == {"der", "Zug", "die", "Tür"}


@given(st.lists(st.sampled_from(["a", "b", "c", "dd", "e"]), min_size=1, max_size=60))
def test_contrasts_are_orthonormal_and_know_no_string(strings: list[str]) -> None:
    rows = contrasts(strings)
    assert len(rows) == len(strings) - len(set(strings))
    assert rows @ rows.T == pytest.approx(np.eye(len(rows)))
    for string in set(strings):
        assert rows @ np.array([one == string for one in strings], dtype=float) == pytest.approx(np.zeros(len(rows)))


def test_what_the_string_alone_says_is_gone() -> None:
    random = np.random.default_rng(0)
    strings = random.choice(["the", "of", ",", "x"], size=50).tolist()
    identity = {string: random.normal(size=16) for string in set(strings)}
    context = random.normal(size=(50, 16))
    tokens, rows = np.arange(50), contrasts(strings)
    plain, shifted = context[None], (context + 100 * np.array([identity[string] for string in strings]))[None]
    assert grams(plain, tokens, rows) == pytest.approx(grams(shifted, tokens, rows), abs=1e-6)
    assert not grams(np.array([[identity[string] for string in strings]]) * 0, tokens, rows).any()
    assert np.trace(grams(plain, tokens, rows)[0]) == pytest.approx(len(rows))


def test_many_contrasts_are_thinned_evenly() -> None:
    strings = ["a", "b"] * 500
    rows = contrasts(strings, most=100)
    assert rows.shape == (100, 1000)
    assert rows @ rows.T == pytest.approx(np.eye(100))
    assert np.flatnonzero(rows[-1])[-1] == 999


@pytest.mark.parametrize(
    ("text", "vocabulary", "positions", "why"),
    [
        (None, 10_000, 512, "no tokenizer.json"),
        ("[1]", 10_000, 512, "not a JSON object"),
        ('{"model": {"type": "Nonsense"}}', 10_000, 512, "parts that no tokenizer in use has"),
        ('{"pre_tokenizer": {"pattern": {"Regex": "(a+)+$"}}}', 10_000, 512, "regular expression of its own"),
        ("words", 20, 512, "does not have"),
        ("words", 10_000, 12, "tokens of a whole text"),
    ],
)
def test_a_tokenizer_that_cannot_be_used_is_a_reason(tmp_path: Path, text: str | None, vocabulary: int, positions: int, why: str) -> None:
    if text is not None:
        (tmp_path / "tokenizer.json").write_text(tokenizers.words() if text == "words" else text, encoding="utf-8")
    made = encode(LocalFolder(tmp_path, "m"), vocabulary, positions, TEXTS)
    assert isinstance(made, Missing)
    assert why in made.why
